"""The check `boards.serial-number`: boards without a serial number."""

from __future__ import annotations

from collections.abc import Iterator

from blemish.data.check_context import CheckContext
from blemish.data.checks import register
from blemish.data.findings import Finding, Severity
from blemish.structures import Dataset


@register("boards.serial-number", codes=("missing-serial-number",))
def check_serial_numbers(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Boards without a serial number."""
    if dataset.format != "boards":
        return
    for sample in dataset:
        if sample.group is None:
            yield Finding(
                "missing-serial-number",
                Severity.WARNING,
                "the board has no serial number",
                sample.path,
                origin=sample.origin,
                remedy="add it as the third field",
            )
