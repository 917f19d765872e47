"""Images that are there twice, and objects that stand on both sides of a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from blemish.data.duplicates import Pair
from blemish.data.findings import Finding, Severity
from blemish.structures import Dataset, Sample


def check_copies(samples: Sequence[Sample], pairs: Sequence[Pair]) -> Iterator[Finding]:
    """Exact and near copies: a leak where they stand in two splits, a contradiction where labels differ."""
    for pair in pairs:
        first, second = samples[pair.first], samples[pair.second]
        if first.path == second.path:
            continue  # `check_listed_twice` has told
        how = _how(pair)
        contradiction = pair.exact and _labels(first) != _labels(second)
        if _across(first, second):
            dropped = _expendable(first, second)
            kept = other(dropped, first, second)
            message = f"it is in {dropped.split} and {how} {kept.id}, which is in {kept.split}"
            remedy = "keep both on one side: data split --group-by near-duplicates"
            yield _leak(dropped, message, remedy, contradiction)
        else:
            yield Finding(
                "exact-duplicate" if pair.exact else "near-duplicate",
                Severity.WARNING if pair.exact else Severity.NOTE,
                f"it {how} {first.id}",
                second.path,
                second.origin,
                remedy="drop one" if pair.exact else "keep both on one side of every split",
                fix="drops it" if pair.exact and not contradiction else "",
            )
        if contradiction:  # which of both may go is for people to say, so neither does
            yield _contradiction(second, f"it shows the same as {first.id} and has other labels")


def check_listed_twice(samples: Sequence[Sample]) -> Iterator[Finding]:
    """One file in several splits, which labels alone can tell without a look at any pixel."""
    by_path: dict[Path, list[Sample]] = {}
    for sample in samples:
        by_path.setdefault(sample.path, []).append(sample)
    for listed in by_path.values():
        kept = listed[0]
        for sample in listed[1:]:
            if not _across(kept, sample):
                continue
            dropped = _expendable(kept, sample)
            kept = other(dropped, kept, sample)
            contradiction = _labels(kept) != _labels(dropped)
            message = f"it is in {dropped.split} and in {kept.split}"
            yield _leak(dropped, message, "list it in one split only: data split", contradiction)
            if contradiction:
                yield _contradiction(dropped, f"it has other labels in {dropped.split} than in {kept.split}")


def check_groups(dataset: Dataset) -> Iterator[Finding]:
    """Groups whose images stand in more than one split."""
    sides: dict[str, dict[str, Sample]] = {}
    for sample in dataset.samples:
        if sample.group is not None and sample.split is not None:
            sides.setdefault(sample.group, {}).setdefault(sample.split, sample)
    for group, by_split in sides.items():
        if len(by_split) > 1:
            sample = list(by_split.values())[-1]
            yield Finding(
                "group-leak",
                Severity.ERROR,
                f"the group {group!r} stands in {' and '.join(by_split)}",
                sample.path,
                sample.origin,
                remedy="divide the set anew with data split, which keeps groups together",
            )


def _across(first: Sample, second: Sample) -> bool:
    return first.split != second.split and first.split is not None and second.split is not None


def _leak(dropped: Sample, message: str, remedy: str, contradiction: bool) -> Finding:
    return Finding(
        "split-leak",
        Severity.ERROR,
        message,
        dropped.path,
        dropped.origin,
        remedy=remedy,
        fix="" if contradiction else f"drops it from {dropped.split}",
        split=dropped.split or "",
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


def other(one: Sample, first: Sample, second: Sample) -> Sample:
    """The one of two that is not `one`."""
    return second if one is first else first


def _expendable(first: Sample, second: Sample) -> Sample:
    """The one in the split that can lose it: train before val before test."""
    order = {"train": 0, "val": 1, "test": 2}
    return min((first, second), key=lambda s: order.get(s.split or "", 3))


def _how(pair: Pair) -> str:
    if pair.exact:
        return "shows pixel for pixel the same as"
    same = "the mirror image of" if pair.mirrored else "the same as"
    return f"shows nearly ({pair.similarity:.2f}) {same}"


def _labels(sample: Sample) -> list[str]:
    return [] if sample.ground_truth is None else sorted(sample.ground_truth.label_names)
