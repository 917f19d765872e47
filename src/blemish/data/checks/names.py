"""Label names that look like mistakes, and labels with too few photographs to learn or to measure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

import numpy as np

from blemish.data.findings import Finding, Severity
from blemish.vocabulary import Dataset, Task

FEWEST_PHOTOGRAPHS = 10
FEWEST_TO_MEASURE = 5
MOST_IMBALANCE = 20.0
ALIKE = 0.88  # difflib's ratio from which two names are taken for one misspelt


def check_names(dataset: Dataset) -> Iterator[Finding]:
    """Names that differ in case, spaces, plural or a letter only."""
    names = dataset.labels.names
    for i, second in enumerate(names):
        for first in names[:i]:
            if alike(first, second):
                yield Finding(
                    "similar-labels",
                    Severity.WARNING,
                    f"the labels {first!r} and {second!r} look like one",
                    dataset.root,
                    remedy="give both the same name if they mean the same, with data merge --map",
                )


def alike(first: str, second: str) -> bool:
    """Whether two label names may be one, misspelt.

    Example:
        >>> alike("scratch", "Scratches "), alike("front_dent", "rear_dent"), alike("F_Normal", "R_Normal")
        (True, False, False)
    """
    one, two = (re.sub(r"[\W_]+", " ", n.casefold()).strip() for n in (first, second))
    if one.replace(" ", "") == two.replace(" ", ""):
        return True
    words, others = one.split(), two.split()
    if len(words) != len(others):
        return False
    # Names that differ in a whole word are different things; in one word they may be a slip of the pen.
    differing = [(a, b) for a, b in zip(words, others, strict=True) if a != b]
    if len(differing) != 1:
        return False
    a, b = differing[0]
    if min(len(a), len(b)) < 4 or any(c.isdigit() for c in a + b):
        return False
    plural = {a + "s", a + "es"} & {b} or {b + "s", b + "es"} & {a}
    return bool(plural) or difflib.SequenceMatcher(None, a, b).ratio() >= ALIKE


def check_counts(dataset: Dataset) -> Iterator[Finding]:
    """Labels that nobody has, that are rare, or that a split for measuring lacks."""
    if not dataset.labels.names or dataset.task is Task.LOCALIZATION:
        return
    held = np.array([s.truth.holds() for s in dataset.samples if s.truth is not None], bool)
    held = held.reshape(-1, len(dataset.labels))
    splits = np.array([s.split or "" for s in dataset.samples if s.truth is not None])
    totals = held.sum(0)
    for label, total in zip(dataset.labels.names, totals.tolist(), strict=True):
        if total == 0:
            yield Finding(
                "unused-label",
                Severity.WARNING,
                f"the label {label!r} stands in no photograph",
                dataset.root,
                remedy="label some, or take the name out",
            )
        elif total < FEWEST_PHOTOGRAPHS:
            yield Finding(
                "few-examples",
                Severity.WARNING,
                f"the label {label!r} stands in {total} photographs, too few to learn or to measure",
                dataset.root,
                remedy=f"label at least {FEWEST_PHOTOGRAPHS}",
            )
    for split in [s for s in ("val", "test") if (splits == s).any()]:
        for label, total, whole in zip(
            dataset.labels.names, held[splits == split].sum(0).tolist(), totals.tolist(), strict=True
        ):
            if total < FEWEST_TO_MEASURE and whole >= FEWEST_PHOTOGRAPHS:
                yield Finding(
                    "few-examples",
                    Severity.WARNING,
                    f"the label {label!r} stands in {total} photographs of {split}, too few to measure",
                    dataset.root,
                    remedy=f"divide the set anew, so that at least {FEWEST_TO_MEASURE} are there",
                )
    used = totals[totals > 0]
    if len(used) > 1 and used.max() / used.min() > MOST_IMBALANCE:
        most, least = (
            dataset.labels.names[int(i)]
            for i in (totals.argmax(), np.where(totals > 0, totals, 1 << 60).argmin())
        )
        yield Finding(
            "imbalance",
            Severity.NOTE,
            f"{most!r} stands in {used.max()} photographs and {least!r} in {used.min()}",
            dataset.root,
            remedy="weigh the classes in training, or label more of the rare one",
        )
