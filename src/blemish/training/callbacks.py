"""What happens around the epochs: the progress bar, the files of the run, the checkpoint, the early end."""

from __future__ import annotations

import logging
import signal
import threading
import time
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from blemish.errors import StorageFull, TrainingFailed
from blemish.training.checkpoint import CheckpointStore
from blemish.training.lightning_module import ImageLightningModule, Progress, on_cpu
from blemish.training.plots import draw_curves, write_table

DRAWN_EVERY = 30.0  # seconds between two drawings of the curves
LOG_LINE = "%(asctime)s %(levelname)s %(message)s"
_log = logging.getLogger("blemish.training")


class TrainingInterrupted(TrainingFailed):
    """Somebody pressed Ctrl-C, or the system wants the process gone; the last complete epoch is saved."""


class RunLogger(Callback):  # type: ignore[misc]
    """After each epoch: the checkpoint, then the table and the curves; and the early end.

    Args:
        folder: of the run.
        patience: epochs without gain before the end; None for never.
    """

    def __init__(self, folder: Path, patience: int | None) -> None:
        self.folder, self.patience = folder, patience
        self.checkpoints = CheckpointStore(folder / "checkpoints")
        self._drawn = -DRAWN_EVERY

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """In a process of its own, write to the run's log too."""
        if trainer.is_global_zero and not _log.handlers:
            handler = logging.FileHandler(self.folder / "train.log", encoding="utf-8")
            handler.setFormatter(logging.Formatter(LOG_LINE))
            _log.addHandler(handler)
            _log.setLevel(logging.INFO)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save everything that the epoch gave."""
        assert isinstance(pl_module, ImageLightningModule)  # noqa: S101
        progress = pl_module.progress
        row = progress.history[-1]
        if trainer.is_global_zero:
            best = on_cpu(pl_module.judged.state_dict()) if pl_module.is_best else None
            # Who goes on needs to know what the weights' files filled, but no longer the files.
            state = {**pl_module.state(), "loaded": sorted(pl_module.network.loaded)}
            self.checkpoints.save(state, best)
            self._write_table(progress)
            if time.monotonic() - self._drawn > DRAWN_EVERY:  # half a second, which short epochs would feel
                self._draw(progress)
            _log.info(
                "epoch %d: %s",
                progress.epoch,
                ", ".join(f"{n} {v:.4g}" for n, v in row.items() if n != "epoch"),
            )
        for logger in trainer.loggers:
            logger.log_metrics({n: v for n, v in row.items() if n != "epoch"}, step=progress.epoch)
        if self.patience is not None and progress.waiting >= self.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the curves of the whole training."""
        assert isinstance(pl_module, ImageLightningModule)  # noqa: S101
        if trainer.is_global_zero and pl_module.progress.history:
            self._draw(pl_module.progress)

    def _write_table(self, progress: Progress) -> None:
        try:
            write_table(progress.history, self.folder / "metrics.csv")
        except StorageFull as error:
            if not isinstance(error.__cause__, PermissionError):
                raise
            # A spreadsheet on Windows lets nobody else write; the next epoch's table has all of this one's.
            _log.warning("%s; training goes on, and the table of the next epoch holds this one's line", error)

    def _draw(self, progress: Progress) -> None:
        draw_curves(progress.history, self.folder, best_epoch=progress.best_epoch)
        self._drawn = time.monotonic()


class SignalHandler(Callback):  # type: ignore[misc]
    """Ctrl-C and SIGTERM end the training in an orderly way: what was saved is said, and how to go on.

    Args:
        folder: of the run.
        alone: whether this process learns itself; one that waits for others is ended by SIGTERM at once.
    """

    def __init__(self, folder: Path, *, alone: bool = True) -> None:
        self.folder = folder
        self.asked = False
        self._signals = (signal.SIGINT, signal.SIGTERM) if alone else (signal.SIGINT,)
        self._before: dict[signal.Signals, Any] = {}
        self._complete = 0

    def __enter__(self) -> Self:
        # Around the whole fit: Lightning's own end would put back what it found while we were listening.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in self._signals}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        if kind is not None and issubclass(
            kind, SIGTERMException
        ):  # Lightning's, which would end with code 0
            raise self._stopped("stopped") from None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_before": {}}  # a handler of this process is none of another's

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Stop if asked to."""
        self._complete = pl_module.progress.epoch
        if self.asked:
            raise self._stopped(f"stopped in epoch {self._complete + 1}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Note what is saved."""
        self._complete = pl_module.progress.epoch

    def _stopped(self, what: str) -> TrainingInterrupted:
        saved = f"epoch {self._complete} is saved" if self._complete else "no epoch was complete"
        return TrainingInterrupted(f"{what}; {saved}: go on with blemish train --resume {self.folder}")

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:  # twice means now
            raise KeyboardInterrupt
        self.asked = True


class ProgressBar(Callback):  # type: ignore[misc]
    """One line that moves: epoch, images, time left, milliseconds an image; then one line an epoch.

    Args:
        epochs: of the whole training.
        monitor: the metric that is shown.
        quiet: whether nothing is shown.
    """

    def __init__(self, epochs: int, monitor: str, *, quiet: bool = False) -> None:
        self.epochs, self.monitor, self.quiet = epochs, monitor, quiet
        self._bar: Any = None
        self._task: Any = None
        self._done = 0
        self._since = 0.0

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
        self._done, self._since = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        self._done += len(batch["position"])
        pace = 1000 * (time.perf_counter() - self._since) / self._done
        self._bar.update(
            self._task,
            advance=1,
            description=f"epoch {pl_module.epoch + 1}/{self.epochs}",
            pace=f"{pace:.1f} ms/image",
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Print the epoch's line."""
        if self._bar is None:
            return
        row = pl_module.progress.history[-1]
        shown = f"{self.monitor.replace('_', ' ')} {row[self.monitor]:.4f}"
        mark = " [bold green]best[/]" if pl_module.is_best else ""
        self._bar.console.print(
            f"epoch {row['epoch']:.0f}/{self.epochs}  loss {row['train_loss']:.4f}  "
            f"validation {row['val_loss']:.4f}  {shown}  {row['ms_per_image']:.1f} ms/image{mark}",
            highlight=False,
            soft_wrap=True,
        )

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Take the bar away."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Take the bar away."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
