"""`save_report`: a report as `report.json` and `report.html`."""

from __future__ import annotations

import json
from pathlib import Path

from blemish.evaluation.html_report import render
from blemish.evaluation.report import Report
from blemish.model_file import write_atomically


def save_report(report: Report, folder: Path | str) -> tuple[Path, Path]:
    """Write `report.json` and `report.html`, each completely or not at all.

    Args:
        report: the report to write.
        folder: the output folder; it is created if it does not exist.

    Returns:
        The two paths.

    Raises:
        MissingExtra: the page needs the extra `eval`; the JSON has been written.
        StorageFull: a file could not be written.
    """
    folder = Path(folder)
    text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "report.json", text.encode())
    write_atomically(folder / "report.html", render(report).encode())
    return folder / "report.json", folder / "report.html"
