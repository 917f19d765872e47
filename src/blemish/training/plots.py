"""A run's figures as a table and as pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blemish.model_file import write_atomically

_NO_CURVE = {"epoch", "train_loss", "val_loss", "seconds", "ms_per_image", "learning_rate"}
_SHARES = {"macro_f1", "weighted_f1", "accuracy", "exact_match", "macro_ap", "calibration_error"}
_SHARES |= {"mean_iou", "iou_50", "iou_75", "relative_accuracy"}


def write_table(history: Sequence[dict[str, float]], path: Path) -> None:
    """`metrics.csv`: one line an epoch, rewritten whole, so that a resumed run has each epoch once."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in history for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow({n: int(v) if n == "epoch" else f"{v:.8g}" for n, v in row.items()})
    write_atomically(path, text.getvalue().encode())


def draw_curves(history: Sequence[dict[str, float]], folder: Path, *, best_epoch: int = 0) -> None:
    """`losses.png`, and `metrics.png` with every metric that lies in [0, 1].

    Args:
        history: one row an epoch.
        folder: of the run.
        best_epoch: marked in both; 0 for none.
    """
    losses = [n for n in ("train_loss", "val_loss") if any(n in row for row in history)]
    metrics = [n for n in history[0] if n not in _NO_CURVE and (n in _SHARES or n.startswith("ap"))]
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
    for name in names:
        values = [row.get(name, float("nan")) for row in history]
        axes.plot(epochs, values, marker="." if len(epochs) < 40 else "", label=name.replace("_", " "))
    if best_epoch:
        axes.axvline(best_epoch, color="0.6", linestyle=":", label=f"best epoch {best_epoch}")
    axes.set(xlabel="epoch", ylabel=title)
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_atomically(path, buffer.getvalue())
