"""TensorBoard's files, and Lightning's loggers of a run: built by name, continued by a resumed run."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch import loggers as lightning_loggers
from lightning.pytorch.callbacks import Callback

from blemish._version import __version__
from blemish.config.recipe import RECIPE_NAME, Recipe
from blemish.config.training_schema import LoggerConfig, TrainingConfig
from blemish.errors import BadRecipe, MissingExtra, UnknownName
from blemish.hub.mlflow_client import import_mlflow, tracking_address, translate_mlflow_errors
from blemish.hub.mlflow_registry import EXPERIMENT, LOGGERS_NAME
from blemish.hub.settings import flatten
from blemish.model_file import write_atomically
from blemish.training.distributed import rank_of
from blemish.training.monitored_metrics import TRAIN_LOSS

_EXTRAS = {"MLFlowLogger": "mlflow", "WandbLogger": "wandb"}
_log = logging.getLogger("blemish.training")


def logger_classes(configs: Sequence[LoggerConfig]) -> list[str]:
    """Return the names of Lightning's logger classes, one for each entry of `training.loggers`.

    Raises:
        UnknownName: Lightning has no such logger.
        MissingExtra: the tracker's package is not installed.
    """
    known = {n.removesuffix("Logger").lower(): n for n in lightning_loggers.__all__}
    classes = []
    for config in configs:
        name = known.get(config.name.lower().removesuffix("logger"))
        if name is None:
            raise UnknownName("logger", config.name, sorted(known), where="training.loggers")
        extra = _EXTRAS.get(name)
        if extra is not None and find_spec(extra) is None:
            raise MissingExtra(extra, f"training.loggers: {config.name}")
        classes.append(name)
    return classes


def check_logs(training: TrainingConfig) -> None:
    """Raise an error before the training if its logs cannot be written; see `logger_classes`.

    TensorBoard is imported only after the first epoch, which an error must not cost.

    Raises:
        MissingExtra: the package of TensorBoard or of a tracker is not installed.
        UnknownName: Lightning has no such logger.
    """
    if training.tensorboard and find_spec("tensorboard") is None:
        raise MissingExtra("train", "training.tensorboard (false writes no TensorBoard files)")
    logger_classes(training.loggers)


def build_loggers(recipe: Recipe, folder: Path, tags: Mapping[str, str]) -> list[Any]:
    """Return the loggers of `training.loggers`; none in other processes than the first.

    Args:
        recipe: the resolved recipe.
        folder: of the run; a resumed run continues the runs of trackers that it names.
        tags: of the run, from `run_tags`.

    Raises:
        BadRecipe: a logger does not take an option, or needs a package that is not installed.
    """
    configs = recipe.training.loggers
    out: list[Any] = []
    if rank_of(recipe.training):  # two processes must not create the tables of one database at once
        return out
    known = _read_run_ids(folder)
    for i, (config, kind) in enumerate(zip(configs, logger_classes(configs), strict=True)):
        options = _options(kind, config.options, recipe, folder, tags)
        options |= known.get(str(i), {})
        try:
            out.append(getattr(lightning_loggers, kind)(**options))
        except ModuleNotFoundError as error:
            raise BadRecipe(
                f"training.loggers: {config.name} needs a package that is not installed: {error}",
                reason="missing-package",
            ) from error
        except TypeError as error:
            raise BadRecipe(f"training.loggers: {config.name}: {error}", reason="unknown-option") from error
    return out


def run_tags(recipe: Recipe, data_digest: str) -> dict[str, str]:
    """Return what identifies a run beside its recipe: architecture, task, data, seed and version."""
    return {
        "blemish.model": recipe.model.name,
        "blemish.task": str(recipe.task),
        "blemish.data_digest": data_digest,
        "blemish.seed": str(recipe.training.seed),
        "blemish.version": __version__,
    }


def _options(
    kind: str, options: Mapping[str, Any], recipe: Recipe, folder: Path, tags: Mapping[str, str]
) -> dict[str, Any]:
    """Return the keyword arguments of a logger: Blemish's defaults, then the recipe's options."""
    if kind == "MLFlowLogger":
        import_mlflow("training.loggers: mlflow")
        where = {} if "save_dir" in options else {"tracking_uri": tracking_address()}
        return {
            "experiment_name": EXPERIMENT,
            "run_name": recipe.name,
            **where,
            **options,
            "tags": {**tags, **options.get("tags", {})},
        }
    if kind == "WandbLogger":
        mode = os.environ.get("WANDB_MODE")  # W&B itself reads it once in a process
        modes = {"mode": mode} if mode and "offline" not in options else {}
        return {"project": EXPERIMENT, "name": recipe.name, "save_dir": str(folder), **modes, **options}
    return dict(options)


def _read_run_ids(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        ids: dict[str, dict[str, Any]] = json.loads((folder / LOGGERS_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return ids


@contextmanager
def translate_logger_errors() -> Iterator[None]:
    """Turn the errors of trackers into Blemish's.

    Raises:
        NoNetwork: MLflow's server cannot be reached, or refuses.
        BadInput: MLflow refuses a value, or the run that it should continue is missing.
        BadRecipe: W&B refuses ("bad-recipe.logger").
    """
    try:
        with translate_mlflow_errors("training.loggers: mlflow"):
            yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "wandb":
            raise
        detail = " ".join(str(error).split())[:200]
        raise BadRecipe(
            f"training.loggers: wandb: {detail}. Run `wandb login`, or set WANDB_MODE=offline",
            reason="logger",
        ) from error


class ExperimentLogs(Callback):  # type: ignore[misc]
    """Gives the loggers of a run its recipe, tags and metrics of each epoch, and writes TensorBoard's files.

    TensorBoard is not one of the trainer's loggers: Lightning opens those before the first step, and
    TensorBoard imports what is not needed until the first epoch ends, cloud storage among it.

    A tracker that fails later than at the start does not end the training: the log has a warning, and the
    epochs are sent with the next one, or when the run is resumed.

    Args:
        recipe: the resolved recipe.
        folder: of the run.
        tags: of the run.
        monitor: the metric that selects the best epoch.
    """

    def __init__(self, recipe: Recipe, folder: Path, tags: Mapping[str, str], monitor: str) -> None:
        self.recipe, self.folder, self.tags, self.monitor = recipe, folder, dict(tags), monitor
        self._sent: dict[int, set[int]] = {}  # epochs by position of the logger
        self._tensorboard: Any = None  # torch's writer, once an epoch has ended

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start the trackers' runs, or continue those of a resumed run."""
        if not trainer.is_global_zero:
            return
        ids: dict[str, dict[str, Any]] = {}
        known = _read_run_ids(self.folder)
        for position, logger in enumerate(trainer.loggers):
            is_resumed = str(position) in known
            self._sent[position] = set(range(1, pl_module.progress.epoch + 1))
            if type(logger).__name__ == "MLFlowLogger":
                self._sent[position] = self._start_mlflow(logger, is_resumed=is_resumed)
                address = tracking_address(str(logger._tracking_uri))
                ids[str(position)] = {"run_id": logger.run_id, "tracking_uri": address}
                continue
            if not is_resumed:
                logger.log_hyperparams({**self._params(), **self.tags})
            if type(logger).__name__ == "WandbLogger":
                ids[str(position)] = {"id": logger.experiment.id, "resume": "allow"}
        if ids:
            write_atomically(self.folder / LOGGERS_NAME, json.dumps(ids, indent=1).encode())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Send the metrics of the epoch, which `RunLogger` has saved before, and of missing ones."""
        if not trainer.is_global_zero:
            return
        progress = pl_module.progress
        if self.recipe.training.tensorboard:
            self._write_tensorboard(progress.history[-1])
        for position, logger in enumerate(trainer.loggers):
            sent = self._sent[position]
            try:
                for row in progress.history:
                    epoch = int(row["epoch"])
                    if epoch not in sent:
                        logger.log_metrics(_metrics(row), step=epoch)
                        sent.add(epoch)
            except Exception as error:
                self._warn(position, error)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Send the best epoch to trackers, whose tables show the last value of each metric."""
        progress = pl_module.progress
        self._close_tensorboard()
        if not trainer.is_global_zero or not progress.best_epoch:
            return
        best = progress.history[progress.best_epoch - 1]
        values = {"best_epoch": progress.best_epoch, f"best_{self.monitor}": best[self.monitor]}
        for position, logger in enumerate(trainer.loggers):
            if type(logger).__name__ not in _EXTRAS:
                continue
            try:
                logger.log_metrics(values, step=progress.epoch)
            except Exception as error:
                self._warn(position, error)

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Close TensorBoard's file."""
        self._close_tensorboard()

    def _write_tensorboard(self, row: Mapping[str, float]) -> None:
        if self._tensorboard is None:
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(str(self.folder / "tensorboard"))
        for name, value in _metrics(row).items():
            self._tensorboard.add_scalar(name, value, int(row["epoch"]))
        self._tensorboard.flush()

    def _close_tensorboard(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard = None

    def _params(self) -> dict[str, Any]:
        """Return the recipe by dotted key; lists and empty sections as JSON, because Lightning drops them."""
        values = flatten(self.recipe.model_dump(mode="json", exclude={"tune"}))
        return {key: json.dumps(v) if isinstance(v, list | dict) else v for key, v in values}

    def _start_mlflow(self, logger: Any, *, is_resumed: bool) -> set[int]:
        """Start or continue MLflow's run, and return the epochs that it has."""
        client, run_id = logger.experiment, logger.run_id
        if is_resumed:
            client.update_run(run_id, status="RUNNING")
            return {metric.step for metric in client.get_metric_history(run_id, TRAIN_LOSS)}
        logger.log_hyperparams(self._params())
        # Parameters end after 250 characters; the file has all of them.
        client.log_artifact(run_id, str(self.folder / RECIPE_NAME))
        return set()

    def _warn(self, position: int, error: Exception) -> None:
        name = self.recipe.training.loggers[position].name
        _log.warning(
            "training.loggers: %s did not accept metrics (%s); metrics.csv contains them, and they are sent "
            "with the next epoch",
            name,
            " ".join(str(error).split())[:200],
        )


def _metrics(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "epoch"}
