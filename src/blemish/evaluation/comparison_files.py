"""`save_comparison`: a comparison as JSON, as a Markdown table and as a plot."""

from __future__ import annotations

import json
from pathlib import Path

from blemish.evaluation.comparison import Comparison
from blemish.evaluation.comparison_plot import speed_plot
from blemish.model_file import write_atomically


def save_comparison(comparison: Comparison, folder: Path | str) -> tuple[Path, ...]:
    """Write `comparison.json`, the table `comparison.md` and the plot `comparison.svg`.

    Args:
        comparison: the comparison to write.
        folder: the output folder; it is created if it does not exist.

    Returns:
        The three paths.

    Raises:
        StorageFull: a file could not be written.
    """
    folder = Path(folder)
    texts = {
        "comparison.json": json.dumps(comparison.to_dict(), indent=1, ensure_ascii=False, allow_nan=False),
        "comparison.md": comparison.to_markdown(),
        "comparison.svg": speed_plot(comparison),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
    return tuple(folder / name for name in texts)
