"""Lightning callbacks of a run: its files, early stopping, users' callbacks, signals, the progress bar."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from blemish.config.recipe import Recipe
from blemish.errors import StorageFull
from blemish.training.callback_registry import NamedCallback, call
from blemish.training.checkpoint import CheckpointStore
from blemish.training.data_setup import LOG_LINE
from blemish.training.lightning_module import ImageLightningModule, copy_to_cpu
from blemish.training.plots import draw_curves, write_table
from blemish.training.progress import Progress, TrainingInterrupted

PLOT_INTERVAL_SECONDS = 30.0
_log = logging.getLogger("blemish.training")


class RunLogger(Callback):  # type: ignore[misc]
    """Writes the checkpoint, the table and the plots after each epoch, and stops early.

    Args:
        folder: of the run.
        patience: epochs without improvement before the end; None never stops early.
    """

    def __init__(self, folder: Path, patience: int | None) -> None:
        self.folder, self.patience = folder, patience
        self.checkpoints = CheckpointStore(folder / "checkpoints")
        self._last_plot = -PLOT_INTERVAL_SECONDS

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write to the run's log also from a process that Lightning started."""
        if trainer.is_global_zero and not _log.handlers:
            handler = logging.FileHandler(self.folder / "train.log", encoding="utf-8")
            handler.setFormatter(logging.Formatter(LOG_LINE))
            _log.addHandler(handler)
            _log.setLevel(logging.INFO)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the results of the epoch."""
        assert isinstance(pl_module, ImageLightningModule)  # noqa: S101
        progress = pl_module.progress
        row = progress.history[-1]
        metrics = {name: value for name, value in row.items() if name != "epoch"}
        if trainer.is_global_zero:
            best = copy_to_cpu(pl_module.eval_network.state_dict()) if pl_module.is_best else None
            # A resumed run needs the names of the loaded parameters and the source of the weights, but no
            # longer the weights files.
            network = pl_module.network
            state = {
                **pl_module.state(),
                "loaded": sorted(network.loaded),
                "weight_sources": [asdict(source) for source in network.weight_sources],
            }
            self.checkpoints.save(state, best)
            self._write_table(progress)
            if time.monotonic() - self._last_plot > PLOT_INTERVAL_SECONDS:  # plots take half a second
                self._draw(progress)
            line = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            _log.info("epoch %d: %s", progress.epoch, line)
        if self.patience is not None and progress.waiting >= self.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the plots of the whole training."""
        assert isinstance(pl_module, ImageLightningModule)  # noqa: S101
        if trainer.is_global_zero and pl_module.progress.history:
            self._draw(pl_module.progress)

    def _write_table(self, progress: Progress) -> None:
        try:
            write_table(progress.history, self.folder / "metrics.csv")
        except StorageFull as error:
            if not isinstance(error.__cause__, PermissionError):
                raise
            # On Windows a spreadsheet locks the file; the table of the next epoch contains this one's line.
            _log.warning("%s; training continues, and the next epoch writes this line too", error)

    def _draw(self, progress: Progress) -> None:
        draw_curves(progress.history, self.folder, best_epoch=progress.best_epoch)
        self._last_plot = time.monotonic()


class UserCallbacks(Callback):  # type: ignore[misc]
    """Calls the callbacks of the recipe and of `train(callbacks=...)` in the first process.

    Args:
        callbacks: in order.
        recipe: the resolved recipe.
        folder: of the run.
    """

    def __init__(self, callbacks: Sequence[NamedCallback], recipe: Recipe, folder: Path) -> None:
        self.callbacks, self.recipe, self.folder = tuple(callbacks), recipe, folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the start."""
        if trainer.is_global_zero:
            call(self.callbacks, "on_train_start", self.recipe, self.folder)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Report the metrics of the epoch, which `RunLogger` has saved before."""
        if trainer.is_global_zero:
            call(self.callbacks, "on_epoch_end", dict(pl_module.progress.history[-1]))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the end."""
        if trainer.is_global_zero:
            call(self.callbacks, "on_train_end")


class SignalHandler(Callback):  # type: ignore[misc]
    """Ends the training after the current batch on Ctrl-C or SIGTERM, and reports what is saved.

    Args:
        folder: of the run.
        alone: whether this process trains; one that waits for others ends on SIGTERM at once.
    """

    def __init__(self, folder: Path, *, alone: bool = True) -> None:
        self.folder = folder
        self.is_requested = False
        self._signals = (signal.SIGINT, signal.SIGTERM) if alone else (signal.SIGINT,)
        self._previous: dict[signal.Signals, Any] = {}
        self._completed = 0

    def __enter__(self) -> Self:
        # Around the whole fit: at its end Lightning would restore the handlers it found, which are ours.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in self._signals}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
        if kind is not None and issubclass(kind, SIGTERMException):  # would end the process with code 0
            raise self._interrupted("stopped") from None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_previous": {}}  # handlers belong to one process

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Stop if a signal arrived."""
        self._completed = pl_module.progress.epoch
        if self.is_requested:
            raise self._interrupted(f"stopped in epoch {self._completed + 1}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Record what is saved."""
        self._completed = pl_module.progress.epoch

    def _interrupted(self, event: str) -> TrainingInterrupted:
        saved = f"epoch {self._completed} is saved" if self._completed else "no epoch was completed"
        return TrainingInterrupted(
            f"{event}; {saved}. Resume with: blemish train --resume {self.folder}", reason="interrupted"
        )

    def _handle(self, number: int, frame: Any) -> None:
        if self.is_requested:  # the second signal stops at once
            raise KeyboardInterrupt
        self.is_requested = True


class ProgressBar(Callback):  # type: ignore[misc]
    """Shows epoch, steps, remaining time and milliseconds per image; and one line per completed epoch.

    Args:
        epochs: maximum number of epochs.
        monitor: the metric in the line of an epoch.
        quiet: whether to show nothing.
    """

    def __init__(self, epochs: int, monitor: str, *, quiet: bool = False) -> None:
        self.epochs, self.monitor, self.quiet = epochs, monitor, quiet
        self._bar: Any = None
        self._task: Any = None
        self._images = 0
        self._start_time = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Show the bar on standard error."""
        if self.quiet or not trainer.is_global_zero:
            return
        from rich import progress as bars
        from rich.console import Console

        console = Console(stderr=True)
        self._bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[pace]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar.start()
        steps = trainer.num_training_batches * (self.epochs - pl_module.progress.epoch)
        self._task = self._bar.add_task("training", total=steps, pace="")
        self._images, self._start_time = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Advance the bar."""
        if self._bar is None:
            return
        self._images += len(batch["position"])
        pace = 1000 * (time.perf_counter() - self._start_time) / self._images
        self._bar.update(
            self._task,
            advance=1,
            description=f"epoch {pl_module.epoch + 1}/{self.epochs}",
            pace=f"{pace:.1f} ms/image",
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Print the line of the epoch."""
        if self._bar is None:
            return
        row = pl_module.progress.history[-1]
        metric = f"{self.monitor.replace('_', ' ')} {row[self.monitor]:.4f}"
        is_improved = pl_module.progress.waiting == 0
        mark = " [bold green]best[/]" if is_improved else ""
        self._bar.console.print(
            f"epoch {row['epoch']:.0f}/{self.epochs}  train loss {row['train_loss']:.4f}  "
            f"val loss {row['val_loss']:.4f}  {metric}  {row['ms_per_image']:.1f} ms/image{mark}",
            highlight=False,
            soft_wrap=True,
        )

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Remove the bar."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Remove the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
