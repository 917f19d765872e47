"""Checks of copies: images that occur twice, and leaks between splits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from blemish.data.check_context import CheckContext
from blemish.data.checks import register
from blemish.data.duplicates import Pair
from blemish.data.findings import Finding, Severity
from blemish.structures import Dataset, Sample

LEAST_VALUABLE_FIRST = {"train": 0, "val": 1, "test": 2}  # a leak is removed from the first of these


@register("copies.across-splits", codes=("split-leak",))
def check_across_splits(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Images, or copies of them, in two splits."""
    for kept, dropped in _listed_in_two_splits(dataset):
        message = f"it is in both {dropped.split} and {kept.split}"
        yield _leak(kept, dropped, message, "list it in one split only, for example with blemish data split")
    for first, second, pair in context.copies:
        if first.path != second.path and _in_two_splits(first, second):
            kept, dropped = _by_value(first, second)
            message = f"it is in {dropped.split} and {_similarity(pair)} {kept.id}, which is in {kept.split}"
            remedy = "keep both in one split: blemish data split --group-by near-duplicates"
            yield _leak(kept, dropped, message, remedy, exact=pair.exact)


@register("copies.contradicting-labels", codes=("contradicting-labels",))
def check_contradictions(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Copies of one image with different labels."""
    for kept, dropped in _listed_in_two_splits(dataset):
        if _labels(kept) != _labels(dropped):
            message = f"it has other labels in {dropped.split} than in {kept.split}"
            yield _contradiction(dropped, message)
    for first, second, pair in context.copies:
        if first.path != second.path and pair.exact and _labels(first) != _labels(second):
            yield _contradiction(second, f"it has the same pixels as {first.id} and other labels")


@register("copies.exact", codes=("exact-duplicate",))
def check_exact_copies(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Images with the same pixels as another image of the same split."""
    for first, second, pair in _copies_within_a_split(context):
        if pair.exact:
            same_labels = _labels(first) == _labels(second)  # otherwise a person has to decide
            yield Finding(
                "exact-duplicate",
                Severity.WARNING,
                f"it {_similarity(pair)} {first.id}",
                second.path,
                second.origin,
                remedy="drop one of them",
                fix="drops it" if same_labels else "",
                drops_image=same_labels,
            )


@register("copies.near", codes=("near-duplicate",))
def check_near_copies(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Resized, recompressed, brightened, cropped or mirrored copies within a split."""
    for first, second, pair in _copies_within_a_split(context):
        if not pair.exact:
            yield Finding(
                "near-duplicate",
                Severity.NOTE,
                f"it {_similarity(pair)} {first.id}",
                second.path,
                second.origin,
                remedy="keep both in one split",
            )


@register("groups.across-splits", codes=("group-leak",))
def check_groups(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Groups with images in more than one split."""
    splits_of: dict[str, dict[str, Sample]] = {}
    for sample in dataset.samples:
        if sample.group is not None and sample.split is not None:
            splits_of.setdefault(sample.group, {}).setdefault(sample.split, sample)
    for group, by_split in splits_of.items():
        if len(by_split) > 1:
            sample = list(by_split.values())[-1]
            yield Finding(
                "group-leak",
                Severity.ERROR,
                f"the group {group!r} is in {' and '.join(by_split)}",
                sample.path,
                sample.origin,
                remedy="split the data set again with blemish data split, which keeps groups together",
            )


def _listed_in_two_splits(dataset: Dataset) -> Iterator[tuple[Sample, Sample]]:
    """Yield (kept, dropped) for every image file that is listed in two splits."""
    by_path: dict[Path, list[Sample]] = {}
    for sample in dataset.samples:
        by_path.setdefault(sample.path, []).append(sample)
    for listed in by_path.values():
        kept = listed[0]
        for sample in listed[1:]:
            if _in_two_splits(kept, sample):
                kept, dropped = _by_value(kept, sample)
                yield kept, dropped


def _copies_within_a_split(context: CheckContext) -> Iterator[tuple[Sample, Sample, Pair]]:
    for first, second, pair in context.copies:
        if first.path != second.path and not _in_two_splits(first, second):
            yield first, second, pair


def _in_two_splits(first: Sample, second: Sample) -> bool:
    return first.split != second.split and first.split is not None and second.split is not None


def _by_value(first: Sample, second: Sample) -> tuple[Sample, Sample]:
    """Return (kept, dropped): the split that can lose an image is train before val before test."""
    dropped = min((first, second), key=lambda s: LEAST_VALUABLE_FIRST.get(s.split or "", 3))
    return (second if dropped is first else first), dropped


def _leak(kept: Sample, dropped: Sample, message: str, remedy: str, *, exact: bool = True) -> Finding:
    # If exact copies have different labels, a person has to decide which of them to drop.
    can_drop = not exact or _labels(kept) == _labels(dropped)
    return Finding(
        "split-leak",
        Severity.ERROR,
        message,
        dropped.path,
        dropped.origin,
        remedy=remedy,
        fix=f"drops it from {dropped.split}" if can_drop else "",
        split=dropped.split or "",
        drops_image=can_drop,
    )


def _contradiction(sample: Sample, message: str) -> Finding:
    return Finding(
        "contradicting-labels",
        Severity.ERROR,
        message,
        sample.path,
        sample.origin,
        remedy="decide which labels are right",
    )


def _similarity(pair: Pair) -> str:
    if pair.exact:
        return "has the same pixels as"
    return f"is {'a mirrored' if pair.mirrored else 'a'} copy (similarity {pair.similarity:.2f}) of"


def _labels(sample: Sample) -> list[str]:
    return [] if sample.ground_truth is None else sorted(sample.ground_truth.label_names)
