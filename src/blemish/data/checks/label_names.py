"""Checks of labels: names that may be misspelled, and labels with too few images."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from blemish.arrays import BoolArray
from blemish.data.check_context import CheckContext
from blemish.data.checks import register
from blemish.data.findings import Finding, Severity
from blemish.structures import Dataset

MIN_IMAGES_PER_LABEL = 10
MIN_IMAGES_TO_EVALUATE = 5
MIN_WORD_LETTERS = 4  # shorter words that differ in one letter are different words
MAX_IMBALANCE = 20.0
MIN_NAME_SIMILARITY = 0.88  # difflib's ratio from which two names count as one, misspelled


@register("labels.near-duplicates", codes=("similar-labels",))
def check_similar_names(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Label names that differ only in case, spaces, plural or one letter."""
    names = dataset.labels.names
    for first, second in sorted(_candidates(names), key=lambda pair: pair[::-1]):
        if are_similar(names[first], names[second]):
            yield Finding(
                "similar-labels",
                Severity.WARNING,
                f"the labels {names[first]!r} and {names[second]!r} may be the same",
                dataset.root,
                remedy="give both the same name if they mean the same, with blemish data merge --label-map",
            )


def _candidates(names: Sequence[str]) -> set[tuple[int, int]]:
    """Return the positions (first < second) of names that may be similar, without comparing all with all."""
    same: dict[str, int] = {}
    slots: dict[tuple[int, tuple[str, ...]], list[tuple[int, int, int]]] = {}
    candidates: set[tuple[int, int]] = set()
    for i, name in enumerate(names):
        words = _plain(name).split()
        first = same.setdefault("".join(words), i)
        if first != i:
            candidates.add((first, i))
        for at, word in enumerate(words):
            if len(word) < MIN_WORD_LETTERS or any(c.isdigit() for c in word):
                continue
            letters = 0
            for c in word:
                letters |= 1 << ord(c) % 64
            slot = slots.setdefault((at, (*words[:at], *words[at + 1 :])), [])
            # Letters that only one of the words has cannot match, and the similarity allows few of those.
            candidates.update(
                (j, i)
                for j, other_letters, length in slot
                if (letters ^ other_letters).bit_count()
                <= max(2, (1 - MIN_NAME_SIMILARITY) * (len(word) + length))
            )
            slot.append((i, letters, len(word)))
    return candidates


def are_similar(first: str, second: str) -> bool:
    """Return whether two label names may be the same, one of them misspelled.

    Example:
        >>> are_similar("scratch", "Scratches "), are_similar("front_dent", "rear_dent")
        (True, False)
        >>> are_similar("F_Normal", "R_Normal")
        False
    """
    one, two = _plain(first), _plain(second)
    if one.replace(" ", "") == two.replace(" ", ""):
        return True
    words, others = one.split(), two.split()
    if len(words) != len(others):
        return False
    # Names that differ in several words are different; in one word, it may be a typing error.
    differing = [(a, b) for a, b in zip(words, others, strict=True) if a != b]
    if len(differing) != 1:
        return False
    a, b = differing[0]
    if min(len(a), len(b)) < MIN_WORD_LETTERS or any(c.isdigit() for c in a + b):
        return False
    plural = {a + "s", a + "es"} & {b} or {b + "s", b + "es"} & {a}
    return bool(plural) or difflib.SequenceMatcher(None, a, b).ratio() >= MIN_NAME_SIMILARITY


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()


@register("labels.unused", codes=("unused-label",))
def check_unused(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Labels without any image."""
    for name, count in _image_counts(dataset).items():
        if count == 0:
            yield Finding(
                "unused-label",
                Severity.WARNING,
                f"the label {name!r} is in no image",
                dataset.root,
                remedy="label some images, or remove the name",
            )


@register("labels.few-examples", codes=("few-examples",))
def check_few_examples(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Labels with too few images to train or to evaluate."""
    totals = _image_counts(dataset)
    for name, count in totals.items():
        if 0 < count < MIN_IMAGES_PER_LABEL:
            yield Finding(
                "few-examples",
                Severity.WARNING,
                f"the label {name!r} has {_images(count)}, too few to train or to evaluate",
                dataset.root,
                remedy=f"label at least {MIN_IMAGES_PER_LABEL}",
            )
    for split in ("val", "test"):
        for name, count in _image_counts(dataset, split).items():
            if count < MIN_IMAGES_TO_EVALUATE and totals[name] >= MIN_IMAGES_PER_LABEL:
                yield Finding(
                    "few-examples",
                    Severity.WARNING,
                    f"the label {name!r} has {_images(count)} in {split}, too few to evaluate",
                    dataset.root,
                    remedy=f"split the data set again, with at least {MIN_IMAGES_TO_EVALUATE} in {split}",
                )


@register("labels.imbalance", codes=("imbalance",))
def check_imbalance(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Labels of which the commonest has over 20 times as many images as the rarest."""
    used = {name: count for name, count in _image_counts(dataset).items() if count}
    if len(used) < 2:
        return
    commonest, rarest = max(used, key=lambda n: used[n]), min(used, key=lambda n: used[n])
    if used[commonest] / used[rarest] > MAX_IMBALANCE:
        yield Finding(
            "imbalance",
            Severity.NOTE,
            f"{commonest!r} has {_images(used[commonest])} and {rarest!r} has {_images(used[rarest])}",
            dataset.root,
            remedy="use class weights in training, or label more images of the rare label",
        )


def _image_counts(dataset: Dataset, split: str | None = None) -> dict[str, int]:
    """Return the number of images of each label; nothing if images of the split, or labels, do not exist."""
    names = dataset.labels.names
    if not names or dataset.task.has_one_box:
        return {}
    presence: list[BoolArray] = [
        sample.ground_truth.presence_mask()
        for sample in dataset.samples
        if sample.ground_truth is not None and split in (None, sample.split)
    ]
    if split is not None and not presence:
        return {}
    counts = np.array(presence, bool).reshape(-1, len(names)).sum(0)
    return dict(zip(names, counts.tolist(), strict=True))


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
