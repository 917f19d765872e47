"""`train`: from a recipe to a run.

What needs no torch is checked before torch is imported, so that a wrong name, a missing file or unusable data
are reported at once.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.config.recipe import RECIPE_NAME, Recipe, parse_settings, read_recipe, read_run_recipe
from blemish.errors import BadInput, StorageFull
from blemish.model_file import lock_file
from blemish.pretrained import WeightsSource, find_weights_file
from blemish.training.callback_registry import Callback, build_callbacks
from blemish.training.data_setup import LOG_LINE, SHOWN, SPLIT_NAME, hash_data, resolve, split_data
from blemish.training.distributed import check_agreement, rank_of
from blemish.training.progress import TrainingInterrupted
from blemish.training.recipe_checks import check_device_name, check_recipe
from blemish.training.step_settings import scale_to_batch
from blemish.training.training_plan import describe_preset

if TYPE_CHECKING:
    from blemish.training.trainer import Run

__all__ = ["Run", "TrainingInterrupted", "train"]

_log = logging.getLogger("blemish.training")


def __getattr__(name: str) -> Any:
    """Import `Run`, whose module imports torch, when it is used first."""
    if name == "Run":
        from blemish.training.trainer import Run

        return Run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def train(
    recipe: Recipe | Path | str | None = None,
    *,
    data: Path | str | None = None,
    model: str | None = None,
    epochs: int | None = None,
    weights: Path | str | None = None,
    output: Path | str | None = None,
    device: str = "auto",
    set: Sequence[str] | Mapping[str, Any] = (),  # noqa: A002  (the option's name)
    resume: Path | str | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
) -> Run:
    """Train a model, and write its model file.

    Args:
        recipe: a recipe, its path, or the name of a built-in recipe; None for the architecture's preset.
        data: the data set, in place of `data.path`.
        model: the architecture, in place of `model.name`.
        epochs: maximum number of epochs, in place of `training.epochs`.
        weights: `default`, `none` or a file, in place of `model.weights`.
        output: the run's folder; None for `runs/NAME`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        set: further recipe keys: `["training.batch_size=16"]`, or a mapping from dotted keys to values.
        resume: the folder of a run to continue; its own recipe is used.
        callbacks: called at the start, after each epoch and at the end, after those of `training.callbacks`.
        progress: whether to show a progress bar and notes on standard error.

    Returns:
        The run: its folder, metrics and model file.

    Raises:
        BadRecipe: a key, value or combination that is not possible.
        BadDataset: the data cannot be used.
        BadInput: `output` contains a run already, `resume` none, or another process trains there.
        NoNetwork: weights have to be downloaded and cannot be.
        TrainingInterrupted: Ctrl-C or SIGTERM; the last completed epoch is saved.
        TrainingFailed: training cannot continue; the last checkpoint is intact.
        ExportRefused: the model file does not decide as the network does.
    """
    if resume is not None:
        folder = Path(resume)
        chosen = read_run_recipe(folder, {"data.path": _to_text(data)})
    else:
        chosen = _build_recipe(recipe, data=data, model=model, epochs=epochs, weights=weights, set=set)
        check_agreement(chosen.training, output)
        folder = _choose_folder(output, chosen)
    check_recipe(chosen)  # before any image is opened
    check_device_name(device)
    if resume is None:
        find_weights_file(chosen.model.weights)
    named_callbacks = build_callbacks(chosen.training.callbacks, callbacks)
    data_in_splits = split_data(chosen, folder / SPLIT_NAME if resume is not None else None)
    with paused_garbage_collection():  # a fifth of the time of the imports
        from blemish.training.checkpoint import CheckpointStore
        from blemish.training.experiment_logs import check_logs
        from blemish.training.lightning_trainer import check_device, choose_device
        from blemish.training.network_setup import prepare_network
        from blemish.training.optimizers import lr_of_pretrained_stages
        from blemish.training.tile_dataset import cut_into_tiles, remove_tiles
        from blemish.training.trainer import Trainer
    where = choose_device(device)
    check_device(chosen, where)
    check_logs(chosen.training)
    weight_files = () if resume is not None else _weight_files(chosen)
    prepared = hash_data(chosen, data_in_splits)
    chosen = resolve(chosen, prepared)
    images = len(prepared.train)
    if chosen.data.tiles is not None:
        prepared = cut_into_tiles(prepared, chosen.data.tiles, folder, chosen.training.seed)
    is_first = rank_of(chosen.training) == 0
    with _log_to(folder, on_screen=progress) if is_first else nullcontext():
        for note in prepared.dataset.notes:
            _log.info("%s", note, extra=SHOWN)
        state = CheckpointStore(folder / "checkpoints").newest()
        loaded = None if state is None else state.get("loaded")
        if resume is not None and loaded is None:
            weight_files = _weight_files(chosen)
        network = prepare_network(chosen, prepared, weight_files)
        if loaded is not None:
            network.loaded = frozenset(loaded)
            rows = state.get("weight_sources", ()) if state is not None else ()
            network.weight_sources = tuple(WeightsSource(**row) for row in rows)
            network.on_weights_loaded()
        if network.chosen_options:
            values = {f"model.options.{name}": value for name, value in network.chosen_options.items()}
            chosen = chosen.changed(values)
        if resume is None and chosen.preset != "none":
            _log.info("%s", describe_preset(scale_to_batch(chosen), images), extra=SHOWN)
        rates = lr_of_pretrained_stages(network, chosen.training.optimizer)  # a run's recipe contains them
        if rates:
            nominal = chosen.training.optimizer.nominal_batch_size  # the rates are meant for it too
            chosen = chosen.changed(
                {
                    "training.optimizer.lr_by_stage": rates,
                    "training.optimizer.nominal_batch_size": nominal,
                }
            )
            _log.info("pretrained stages are trained at a tenth of the learning rate", extra=SHOWN)
        run = Trainer(chosen, prepared, network, folder, where, state, progress, named_callbacks).run()
    if chosen.data.tiles is not None and is_first:
        # A finished run does not need its tiles. The first process evaluates after the others have finished.
        remove_tiles(folder)
    return run


def _build_recipe(recipe: Recipe | Path | str | None, *, set: Any, **options: Any) -> Recipe:  # noqa: A002
    keys = {
        "data": "data.path",
        "model": "model.name",
        "epochs": "training.epochs",
        "weights": "model.weights",
    }
    overrides = {keys[name]: _to_text(value) for name, value in options.items() if value is not None}
    settings = list(set) if not isinstance(set, Mapping) else []
    if isinstance(set, Mapping):
        overrides |= set
    if isinstance(recipe, Recipe):
        changed = recipe.changed(overrides)
        return changed.changed(dict(parse_settings(settings))) if settings else changed
    return read_recipe(recipe, settings=settings, overrides=overrides)


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Pause Python's cyclic garbage collection, if it is on, while PyTorch and Lightning are imported.

    Their 300,000 objects live as long as the process; no collection afterwards visits them. If they are
    imported already, nothing is set aside: it could be garbage of earlier trainings.
    """
    was_on, is_first = gc.isenabled(), "lightning.pytorch" not in sys.modules
    if is_first:
        gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if is_first:
            gc.freeze()
        if was_on:
            gc.enable()


def _weight_files(recipe: Recipe) -> tuple[Path, ...]:
    from blemish.models._weights import find_weights

    return find_weights(recipe.model.name, recipe.model.weights, recipe.model.options)


def _to_text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _choose_folder(output: Path | str | None, recipe: Recipe) -> Path:
    """Return the folder of a new run: `output`, or a free name below `runs`."""
    if output is not None:
        folder = Path(output)
        if rank_of(recipe.training) == 0 and (folder / RECIPE_NAME).exists():
            raise BadInput(
                f"{folder}: the folder contains a run already. Choose another folder, or resume the run: "
                f"--resume {folder}",
                reason="run-exists",
            )
        return folder
    name = recipe.name or recipe.model.name.replace("/", "-")
    folder = Path("runs") / name
    number = 2
    while folder.exists():
        folder, number = Path("runs") / f"{name}-{number}", number + 1
    return folder


@contextmanager
def _log_to(folder: Path, *, on_screen: bool) -> Iterator[None]:
    """Write the training's log to `train.log`, and warnings and notes for the user to the screen too."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "train.log").open("ab")
        file = logging.FileHandler(folder / "train.log", encoding="utf-8")
    except OSError as error:
        raise StorageFull(f"{folder} cannot be written ({error.strerror}). Choose another folder") from error
    if not lock_file(lock):
        file.close()
        lock.close()
        raise BadInput(
            f"{folder}: another process is training in this folder. Wait until it ends, or choose another.",
            reason="in-use",
        )
    file.setFormatter(logging.Formatter(LOG_LINE))
    handlers: list[logging.Handler] = [file]
    if on_screen:
        screen = logging.StreamHandler()
        screen.addFilter(lambda record: record.levelno >= logging.WARNING or hasattr(record, "shown"))
        handlers.append(screen)
    level = _log.level
    _log.setLevel(logging.INFO)
    for handler in handlers:
        _log.addHandler(handler)
    try:
        yield
    finally:
        _log.setLevel(level)
        for handler in handlers:
            _log.removeHandler(handler)
            handler.close()
        lock.close()
