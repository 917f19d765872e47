"""Lightning's trainer, put together from a recipe and kept quiet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from blemish.config.recipe import Recipe
from blemish.config.training_schema import LoggerConfig
from blemish.errors import BadRecipe, TrainingFailed, UnknownName
from blemish.training.distributed import started_by_others

_PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def choose_device(device: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda`, `cuda:N` or `mps` stands for.

    Raises:
        UnknownName: no such word.
        BadRecipe: this machine has no such device.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdecimal()):
        raise UnknownName("device", device, ("auto", "cpu", "cuda", "cuda:0", "mps"))
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise BadRecipe(
            f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices; take cpu or auto"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise BadRecipe("--device mps: this machine has no Apple GPU; take cpu or auto")
    return torch.device(device)


def check_device(recipe: Recipe, device: torch.device) -> None:
    """Refuse what the device cannot do, before any work.

    Raises:
        BadRecipe: fp16 without a GPU, more devices than there are, or processes that cannot be started so.
    """
    part = recipe.training
    ways = torch.multiprocessing.get_all_start_methods()
    if part.start_method is not None and part.start_method not in ways:
        raise BadRecipe(
            f"training.start_method: this system has no {part.start_method}; take {' or '.join(ways)}"
        )
    if part.precision == "fp16" and device.type == "cpu":
        raise BadRecipe("training.precision: fp16 needs a GPU; take bf16 or fp32 on a CPU")
    if device.type == "cuda" and part.devices > torch.cuda.device_count():
        raise BadRecipe(
            f"training.devices: {part.devices} are asked for and {torch.cuda.device_count()} are there"
        )


def build_trainer(
    recipe: Recipe,
    device: torch.device,
    folder: Path,
    callbacks: Sequence[pl.Callback],
    *,
    epochs: int,
) -> pl.Trainer:
    """The trainer that runs `epochs` more epochs.

    Args:
        recipe: resolved.
        device: what `choose_device` chose.
        folder: of the run.
        callbacks: what happens around the epochs.
        epochs: that are left.
    """
    part = recipe.training
    several = part.devices * part.nodes > 1
    # Processes of one machine are started by us; those of several machines by whoever starts the nodes.
    strategy = "auto" if not several else ("ddp" if started_by_others(part) else "ddp_spawn")
    where: Any = part.devices
    if device.index is not None and not several:
        where = [device.index]
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=where,
        num_nodes=part.nodes,
        strategy=strategy,
        precision=_PRECISIONS[part.precision],
        max_epochs=epochs,
        accumulate_grad_batches=part.accumulate_grad_batches,
        gradient_clip_val=part.gradient_clip_val,
        callbacks=list(callbacks),
        logger=_loggers(part.loggers, folder, tensorboard=part.tensorboard) or False,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        benchmark=False,
    )


def logger_classes(parts: Sequence[LoggerConfig]) -> list[str]:
    """Names of Lightning's classes of loggers, one for each part.

    Raises:
        UnknownName: Lightning has no such logger.
    """
    from lightning.pytorch import loggers

    known = {n.removesuffix("Logger").lower(): n for n in loggers.__all__}
    out = []
    for part in parts:
        kind = known.get(part.name.lower().removesuffix("logger"))
        if kind is None:
            raise UnknownName("logger", part.name, sorted(known), where="training.loggers")
        out.append(kind)
    return out


def _loggers(parts: Sequence[LoggerConfig], folder: Path, *, tensorboard: bool) -> list[Any]:
    from lightning.pytorch import loggers

    made: list[Any] = []
    if tensorboard:
        made.append(loggers.TensorBoardLogger(folder, name="tensorboard", version=""))
    for part, kind in zip(parts, logger_classes(parts), strict=True):
        try:
            made.append(getattr(loggers, kind)(**part.options))
        except ModuleNotFoundError as error:
            raise BadRecipe(
                f"training.loggers: {part.name} needs a package that is not installed: {error}"
            ) from error
        except TypeError as error:
            raise BadRecipe(f"training.loggers: {part.name}: {error}") from error
    return made


@contextmanager
def rewrap_errors() -> Iterator[None]:
    """What a process of several dies of is told as one error, not as the text of a traceback."""
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    try:
        yield
    except ProcessRaisedException as error:
        last = str(error).strip().splitlines()[-1]
        raise TrainingFailed(last.partition(": ")[2] or last) from error
    except ProcessExitedException as error:
        raise TrainingFailed(
            f"one of the training's processes ended: {error}; go on with --resume"
        ) from error
