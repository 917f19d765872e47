"""The history of a run as a table and as plots."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blemish.metrics.metric_table import METRICS
from blemish.model_file import write_atomically
from blemish.training.monitored_metrics import TRAIN_LOSS, VAL_LOSS

MAX_MARKED_EPOCHS = 40  # with more epochs, the points of a curve have no markers


def write_table(history: Sequence[dict[str, float]], path: Path) -> None:
    """Write `metrics.csv`: one line per epoch; the whole file, so that a resumed run has each epoch once.

    Args:
        history: one row per epoch.
        path: the file.

    Raises:
        StorageFull: the file cannot be written.
    """
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in history for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow({n: int(v) if n == "epoch" else f"{v:.8g}" for n, v in row.items()})
    write_atomically(path, text.getvalue().encode())


def draw_curves(history: Sequence[dict[str, float]], folder: Path, *, best_epoch: int = 0) -> None:
    """Draw `losses.png`, and `metrics.png` with every metric whose largest value is 1.

    Args:
        history: one row per epoch.
        folder: of the run.
        best_epoch: marked in both plots; 0 for none.
    """
    losses = [n for n in (TRAIN_LOSS, VAL_LOSS) if any(n in row for row in history)]
    metrics = [n for n in history[0] if n in METRICS and METRICS.get(n).range[1] == 1]
    _draw(history, losses, folder / "losses.png", "loss", best_epoch)
    if metrics:
        _draw(history, metrics, folder / "metrics.png", "validation", best_epoch)


def _draw(
    history: Sequence[dict[str, float]], names: Sequence[str], path: Path, title: str, best_epoch: int
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    epochs = [row["epoch"] for row in history]
    marker = "." if len(epochs) < MAX_MARKED_EPOCHS else ""
    for name in names:
        values = [row.get(name, float("nan")) for row in history]
        axes.plot(epochs, values, marker=marker, label=name.replace("_", " "))
    if best_epoch:
        axes.axvline(best_epoch, color="0.6", linestyle=":", label=f"exported epoch {best_epoch}")
    axes.set(xlabel="epoch", ylabel=title)
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_atomically(path, buffer.getvalue())
