"""Lightning's trainer for a recipe: device, precision and processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from blemish.config.recipe import Recipe
from blemish.errors import BadRecipe, TrainingFailed
from blemish.training.distributed import is_started_externally
from blemish.training.recipe_checks import check_device_name

_PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def choose_device(device: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        UnknownName: not a device name.
        BadRecipe: this machine has no such device ("bad-recipe.no-such-device").
    """
    check_device_name(device)
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = device.partition(":")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise BadRecipe(
            f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices. Use cpu or auto",
            reason="no-such-device",
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise BadRecipe(
            "--device mps: this machine has no Apple GPU. Use cpu or auto", reason="no-such-device"
        )
    return torch.device(device)


def check_device(recipe: Recipe, device: torch.device) -> None:
    """Refuse settings that the device or the system does not support.

    Raises:
        BadRecipe: fp16 without a GPU ("bad-recipe.precision"), more devices than there are
            ("bad-recipe.no-such-device"), or a start method of another system ("bad-recipe.start-method").
    """
    training = recipe.training
    methods = torch.multiprocessing.get_all_start_methods()
    if training.start_method is not None and training.start_method not in methods:
        raise BadRecipe(
            f"training.start_method: expected {' or '.join(methods)} on this system, "
            f"got {training.start_method}",
            reason="start-method",
        )
    if training.precision == "fp16" and device.type == "cpu":
        raise BadRecipe("training.precision: fp16 needs a GPU. Use bf16 or fp32 on a CPU", reason="precision")
    if device.type == "cuda" and training.devices > torch.cuda.device_count():
        raise BadRecipe(
            f"training.devices: expected at most {torch.cuda.device_count()} on this machine, "
            f"got {training.devices}",
            reason="no-such-device",
        )


def build_trainer(
    recipe: Recipe,
    device: torch.device,
    folder: Path,
    callbacks: Sequence[pl.Callback],
    *,
    loggers: Sequence[Any],
    epochs: int,
) -> pl.Trainer:
    """Return the trainer that runs `epochs` more epochs.

    Args:
        recipe: the resolved recipe.
        device: from `choose_device`.
        folder: of the run.
        callbacks: in the order in which they are called.
        loggers: Lightning's, from `build_loggers`.
        epochs: number of epochs that are left.
    """
    training = recipe.training
    is_distributed = training.devices * training.nodes > 1
    # We start the processes of one machine; those of several machines are started by a launcher.
    external = is_started_externally(training)
    strategy = "auto" if not is_distributed else ("ddp" if external else "ddp_spawn")
    devices: Any = training.devices
    if device.index is not None and not is_distributed:
        devices = [device.index]
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=devices,
        num_nodes=training.nodes,
        strategy=strategy,
        precision=_PRECISIONS[training.precision],
        max_epochs=epochs,
        accumulate_grad_batches=training.accumulate_grad_batches,
        gradient_clip_val=training.gradient_clip_val,
        callbacks=list(callbacks),
        logger=list(loggers) or False,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        benchmark=False,
    )


@contextmanager
def rewrap_errors() -> Iterator[None]:
    """Turn the traceback text of a failed training process into one error.

    Raises:
        TrainingFailed: a process failed ("training-failed.process").
    """
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    try:
        yield
    except ProcessRaisedException as error:
        last = str(error).strip().splitlines()[-1]
        raise TrainingFailed(last.partition(": ")[2] or last, reason="process") from error
    except ProcessExitedException as error:
        raise TrainingFailed(
            f"one of the training processes ended: {error}. Continue with --resume", reason="process"
        ) from error
