"""From a recipe to a run: the one function that trains, and what it leaves behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from blemish.config.recipe import Recipe, parse_settings, read_recipe, read_run_recipe
from blemish.config.recipe_options import check_architecture
from blemish.errors import BadInput, StorageFull
from blemish.models._weights import find_weights
from blemish.training.callbacks import LOG_LINE, TrainingInterrupted
from blemish.training.checkpoint import CheckpointStore
from blemish.training.data_setup import SHOWN, prepare_data, resolve
from blemish.training.distributed import check_agreement, rank_of
from blemish.training.lightning_trainer import check_device, choose_device, logger_classes
from blemish.training.network_setup import prepare_network
from blemish.training.optimizers import pretrained_rates
from blemish.training.tile_dataset import on_tiles, remove_tiles
from blemish.training.trainer import Run, Trainer

__all__ = ["Run", "TrainingInterrupted", "train"]

_log = logging.getLogger("blemish.training")


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
    progress: bool = False,
) -> Run:
    """Train a model, and write its model file.

    Args:
        recipe: a recipe, the path of one, or None for the defaults.
        data: in place of the recipe's.
        model: likewise.
        epochs: likewise.
        weights: `default`, `none` or a file; likewise.
        output: the run's folder; None for `runs/NAME`.
        device: `auto`, `cpu`, `cuda:N` or `mps`.
        set: further recipe keys: `["training.batch_size=16"]` or a mapping.
        resume: the folder of a run to go on with; its own recipe is used.
        progress: whether to show a bar on standard error.

    Raises:
        BadRecipe: a key or value that is not possible.
        BadDataset: the data cannot be used.
        NoNetwork: weights must be downloaded and cannot be.
        TrainingFailed: it cannot go on; the last good checkpoint is intact.
        ExportRefused: the file does not decide as the network does.
    """
    if resume is not None:
        folder = Path(resume)
        chosen = read_run_recipe(folder, {"data.path": _text(data)})
    else:
        chosen = _recipe(recipe, data=data, model=model, epochs=epochs, weights=weights, set=set)
        check_agreement(chosen.training, output)
        folder = _new_folder(output, chosen)
    check_architecture(chosen)  # before any image is opened
    where = choose_device(device)
    check_device(chosen, where)
    logger_classes(chosen.training.loggers)
    files = () if resume is not None else _weights(chosen)
    prepared = prepare_data(chosen, folder / "split.csv" if resume is not None else None)
    chosen = resolve(chosen, prepared)
    if chosen.data.tiles is not None:
        prepared = on_tiles(prepared, chosen.data.tiles, folder, chosen.training.seed)
    first = rank_of(chosen.training) == 0
    with _told(folder, on_screen=progress) if first else nullcontext():
        for note in prepared.dataset.notes:
            _log.info("%s", note, extra=SHOWN)
        state = CheckpointStore(folder / "checkpoints").newest()
        loaded = None if state is None else state.get("loaded")
        if resume is not None and loaded is None:
            files = _weights(chosen)
        network = prepare_network(chosen, prepared, files)
        if loaded is not None:
            network.loaded = frozenset(loaded)
            network.on_weights_loaded()
        rates = pretrained_rates(network, chosen.training.optimizer)  # a resumed run says its rates
        if rates:
            chosen = chosen.changed({"training.optimizer.lr_by_stage": rates})
            _log.info("what the weights' file filled learns at a tenth of the learning rate", extra=SHOWN)
        run = Trainer(chosen, prepared, network, folder, where, state, progress).run()
    if chosen.data.tiles is not None and first:
        # A run that goes on needs them, one that is over does not. The first process judges after the others
        # are done, so that nobody reads any more.
        remove_tiles(folder)
    return run


def _recipe(recipe: Recipe | Path | str | None, *, set: Any, **given: Any) -> Recipe:  # noqa: A002
    keys = {
        "data": "data.path",
        "model": "model.name",
        "epochs": "training.epochs",
        "weights": "model.weights",
    }
    overrides = {keys[name]: _text(value) for name, value in given.items() if value is not None}
    settings = list(set) if not isinstance(set, Mapping) else []
    if isinstance(set, Mapping):
        overrides |= set
    if isinstance(recipe, Recipe):
        values = recipe.changed(overrides)
        return values.changed(dict(parse_settings(settings))) if settings else values
    return read_recipe(recipe, settings=settings, overrides=overrides)


def _weights(recipe: Recipe) -> tuple[Path, ...]:
    """The files to begin from."""
    return find_weights(recipe.model.name, recipe.model.weights, recipe.model.options)


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _new_folder(output: Path | str | None, recipe: Recipe) -> Path:
    if output is not None:
        folder = Path(output)
        if rank_of(recipe.training) == 0 and (folder / "recipe.yaml").exists():
            raise BadInput(
                f"{folder}: a run stands there already; choose another folder, or go on with it: "
                f"--resume {folder}"
            )
    else:
        name = recipe.name or recipe.model.name.replace("/", "-")
        folder = Path("runs") / name
        number = 2
        while folder.exists():
            folder, number = Path("runs") / f"{name}-{number}", number + 1
    return folder


@contextmanager
def _told(folder: Path, *, on_screen: bool) -> Iterator[None]:
    """While inside, what the training says goes to `train.log`, and what people must see to the screen."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(folder / "train.log", encoding="utf-8")
    except OSError as error:
        raise StorageFull(f"{folder} cannot be written ({error.strerror}); choose another folder") from error
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
