"""Checks whose findings the readers of the formats report while they read."""

from __future__ import annotations

from blemish.data.check_context import CheckContext
from blemish.data.checks import CHECKS, Check
from blemish.data.findings import Finding
from blemish.structures import Dataset

UNCLAIMED = "formats.other"  # receives the faults of which no check declares the code

# id -> code, description
READER_CHECKS = {
    "images.missing": ("missing-image", "Images that labels name and that do not exist."),
    "images.unlisted": ("image-not-listed", "Images with labels that the lists of the data set do not name."),
    "annotations.without-image": ("label-without-image", "Labels without an image."),
    "annotations.not-upright": (
        "labels-not-upright",
        "Labels that were drawn before the EXIF orientation was applied.",
    ),
    "annotations.ambiguous-orientation": (
        "orientation-ambiguous",
        "Labels that may have been drawn before or after the EXIF orientation was applied.",
    ),
    "annotations.other-scale": (
        "labels-in-another-scale",
        "Labels that were drawn on an image of another size.",
    ),
    "annotations.stated-size": ("wrong-stated-size", "Labels that state a wrong size of the image."),
    "annotations.inverted-box": ("box-inside-out", "Boxes that end before they begin."),
    "annotations.invalid-box": ("bad-box", "Boxes that are not four finite numbers."),
    "annotations.invalid-line": ("bad-line", "Lines of label files that cannot be read."),
    "annotations.mixed-lines": ("mixed-lines", "Label files with both boxes and polygons."),
    "annotations.several-labels": ("several-labels", "Objects with several labels."),
    "annotations.crowd": ("crowd-objects", "Objects that are marked as crowd."),
    "annotations.boxes-only": ("boxes-among-outlines", "Outlines, of which most are boxes."),
    "annotations.invalid-file": ("bad-file", "Label files that cannot be read."),
    "annotations.invalid-run-lengths": ("bad-run-lengths", "Run-length masks that do not fit the image."),
    "annotations.repeated-line": ("repeated-line", "Images that are listed twice."),
    "annotations.other-filename": ("other-filename", "Label files that name another image."),
    "labels.unknown": ("unknown-label", "Label numbers or ids without a name."),
    "labels.empty": ("empty-label", "Labels without a name, and label folders without images."),
    "labels.empty-cell": ("empty-cell", "Empty cells in a table column of 0 and 1."),
    "labels.repeated": ("repeated-label", "Two labels with the same name."),
    "labels.too-few": ("too-few-labels", "Classification data sets with fewer than two labels."),
    "labels.splits": ("labels-are-splits", "Classification data sets whose labels are names of splits."),
    "formats.second": ("other-format", "Label files in a second format, which are not read."),
    "splits.unknown": ("unknown-split", "Splits that are not train, val or test."),
}


def no_findings(dataset: Dataset, context: CheckContext) -> tuple[Finding, ...]:
    """Return no findings, for checks whose findings a reader reports."""
    return ()


for check_id, (code, description) in READER_CHECKS.items():
    CHECKS.register(check_id, Check(check_id, no_findings, (code,), description), module=__name__)
CHECKS.register(
    UNCLAIMED,
    Check(UNCLAIMED, no_findings, (), "Faults that a third-party format reports and no check declares."),
    module=__name__,
)
