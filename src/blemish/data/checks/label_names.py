"""Label names that look like mistakes, and labels with too few images to learn or to measure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from blemish.data.findings import Finding, Severity
from blemish.structures import Dataset

FEWEST_IMAGES = 10
FEWEST_TO_MEASURE = 5
FEWEST_LETTERS = 4  # shorter words differ in a letter because they are others
MOST_IMBALANCE = 20.0
ALIKE = 0.88  # difflib's ratio from which two names are taken for one misspelt


def check_names(dataset: Dataset) -> Iterator[Finding]:
    """Names that differ in case, spaces, plural or a letter only."""
    names = dataset.labels.names
    for first, second in sorted(_candidates(names), key=lambda pair: pair[::-1]):
        if alike(names[first], names[second]):
            yield Finding(
                "similar-labels",
                Severity.WARNING,
                f"the labels {names[first]!r} and {names[second]!r} look like one",
                dataset.root,
                remedy="give both the same name if they mean the same, with data merge --map",
            )


def _candidates(names: Sequence[str]) -> set[tuple[int, int]]:
    """Positions (first < second) of names that may be alike, in less time than comparing all with all."""
    same: dict[str, int] = {}
    slots: dict[tuple[int, tuple[str, ...]], list[tuple[int, int, int]]] = {}
    out: set[tuple[int, int]] = set()
    for i, name in enumerate(names):
        words = _plain(name).split()
        first = same.setdefault("".join(words), i)
        if first != i:
            out.add((first, i))
        for at, word in enumerate(words):
            if len(word) < FEWEST_LETTERS or any(c.isdigit() for c in word):
                continue
            letters = 0
            for c in word:
                letters |= 1 << ord(c) % 64
            slot = slots.setdefault((at, (*words[:at], *words[at + 1 :])), [])
            # Letters that only one of both has cannot match, and `ALIKE` allows few of those.
            out.update(
                (j, i)
                for j, theirs, length in slot
                if (letters ^ theirs).bit_count() <= max(2, (1 - ALIKE) * (len(word) + length))
            )
            slot.append((i, letters, len(word)))
    return out


def alike(first: str, second: str) -> bool:
    """Whether two label names may be one, misspelt.

    Example:
        >>> alike("scratch", "Scratches "), alike("front_dent", "rear_dent"), alike("F_Normal", "R_Normal")
        (True, False, False)
    """
    one, two = _plain(first), _plain(second)
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
    if min(len(a), len(b)) < FEWEST_LETTERS or any(c.isdigit() for c in a + b):
        return False
    plural = {a + "s", a + "es"} & {b} or {b + "s", b + "es"} & {a}
    return bool(plural) or difflib.SequenceMatcher(None, a, b).ratio() >= ALIKE


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()


def check_counts(dataset: Dataset) -> Iterator[Finding]:
    """Labels that nobody has, that are rare, or that a split for measuring lacks."""
    if not dataset.labels.names or dataset.task.has_one_box:
        return
    held = np.array(
        [s.ground_truth.presence_mask() for s in dataset.samples if s.ground_truth is not None], bool
    )
    held = held.reshape(-1, len(dataset.labels))
    splits = np.array([s.split or "" for s in dataset.samples if s.ground_truth is not None])
    totals = held.sum(0)
    for label, total in zip(dataset.labels.names, totals.tolist(), strict=True):
        if total == 0:
            yield Finding(
                "unused-label",
                Severity.WARNING,
                f"the label {label!r} stands in no image",
                dataset.root,
                remedy="label some, or take the name out",
            )
        elif total < FEWEST_IMAGES:
            yield Finding(
                "few-examples",
                Severity.WARNING,
                f"the label {label!r} stands in {total} images, too few to learn or to measure",
                dataset.root,
                remedy=f"label at least {FEWEST_IMAGES}",
            )
    for split in [s for s in ("val", "test") if (splits == s).any()]:
        for label, total, whole in zip(
            dataset.labels.names, held[splits == split].sum(0).tolist(), totals.tolist(), strict=True
        ):
            if total < FEWEST_TO_MEASURE and whole >= FEWEST_IMAGES:
                yield Finding(
                    "few-examples",
                    Severity.WARNING,
                    f"the label {label!r} stands in {total} images of {split}, too few to measure",
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
            f"{most!r} stands in {used.max()} images and {least!r} in {used.min()}",
            dataset.root,
            remedy="weigh the classes in training, or label more of the rare one",
        )
