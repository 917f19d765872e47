"""Split a data set into train, val and test: seeded, stratified by label, without leaking groups."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from blemish.arrays import FloatArray, IntArray
from blemish.data.duplicates import find_copies, image_signatures
from blemish.data.image_hashes import connected_components, nearly_identical
from blemish.data.split_names import SPLITS
from blemish.errors import BadDataset, BadInput, UnknownName, suggestion
from blemish.structures import Dataset

DEFAULT_FRACTIONS = {"train": 0.8, "val": 0.2}
GROUPINGS = "column:NAME, pattern:REGEX or near-duplicates"


def split_dataset(
    dataset: Dataset,
    *,
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
    group_by: str | Sequence[str] | None = None,
) -> Dataset:
    """Return the same images, each with a split; earlier splits are discarded.

    Every label is distributed as evenly as whole groups allow: the label of classification, each label of
    multilabel, the objects of each label otherwise. Images of one group go to the same split. The groups of
    the samples are always kept together.

    Args:
        dataset: the data set to split.
        fractions: fraction of each split, adding up to 1; default: train 0.8 and val 0.2.
        seed: the same seed gives the same splits.
        group_by: further groups, one or several of `column:NAME` (a column of the table that was read),
            `pattern:REGEX` (the first group of a regular expression that is searched in sample ids) and
            `near-duplicates` (copies of one image).

    Raises:
        UnknownName: a split is not train, val or test.
        BadInput: the fractions or `group_by` are invalid.
        BadDataset: a column does not exist, a pattern matches no image, or there are fewer groups than
            splits.

    Source:
        Sechidis, Tsoumakas & Vlahavas 2011, "On the Stratification of Multi-Label Data", algorithm 1, with
        whole groups in the place of single examples.
    """
    checked = _checked_fractions(fractions or DEFAULT_FRACTIONS)
    groupings = [group_by] if isinstance(group_by, str) else list(group_by or ())
    groups, description = _groups(dataset, groupings)
    counts = _label_counts(dataset, groups)
    sizes = np.bincount(groups, minlength=counts.shape[0]).astype(np.float64)
    if len(sizes) < len(checked):
        raise BadDataset(
            f"expected at least {len(checked)} groups for {len(checked)} splits, got {len(dataset)} images in"
            f" {len(sizes)} groups",
            where=dataset.root,
            remedy="group less or use fewer splits",
            reason="too-few-groups",
        )
    chosen = _stratify(counts, sizes, np.array(list(checked.values())), np.random.default_rng(seed))
    names = list(checked)
    samples = tuple(replace(s, split=names[chosen[g]]) for s, g in zip(dataset.samples, groups, strict=True))
    result = replace(dataset, samples=samples)
    parts = ", ".join(f"{name} {result.splits.get(name, 0)}" for name in names)
    grouped = f" in {len(sizes)} groups ({description})" if description else ""
    note = f"{len(dataset)} images{grouped} were split with seed {seed}, stratified by label: {parts}"
    return replace(result, notes=(*dataset.notes, note))


def _checked_fractions(fractions: Mapping[str, float]) -> dict[str, float]:
    checked = {str(k): float(v) for k, v in fractions.items()}
    if not checked or any(not 0 < v <= 1 for v in checked.values()) or abs(sum(checked.values()) - 1) > 1e-6:
        shown = ", ".join(f"{k}={v:g}" for k, v in checked.items()) or "none"
        raise BadInput(
            f"fractions: expected numbers above 0 that add up to 1, got {shown}", reason="fractions"
        )
    for name in checked:
        if name not in SPLITS:
            raise UnknownName("split", name, SPLITS, where="the fractions")
    return checked


def _groups(dataset: Dataset, groupings: Sequence[str]) -> tuple[IntArray, str]:
    """(n,) the group of each image, and a description of how the groups were made."""
    descriptions: list[str] = []
    pairs: list[tuple[int, int]] = []
    if any(s.group is not None for s in dataset.samples):
        pairs += _link_equal([s.group for s in dataset.samples])
        descriptions.append("of the data set")
    for grouping in groupings:
        kind, _, value = grouping.partition(":")
        if kind == "column" and value:
            pairs += _link_equal(_column(dataset, value))
        elif kind == "pattern" and value:
            pairs += _link_equal(_matches(dataset, value))
        elif grouping == "near-duplicates":
            pairs += _near_duplicates([s.path for s in dataset.samples])
        else:
            raise BadInput(f"group_by: expected {GROUPINGS}, got {grouping!r}", reason="group-by")
        descriptions.append(grouping)
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    return connected_components(len(dataset), ends[:, 0], ends[:, 1]), ", ".join(descriptions)


def _near_duplicates(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return the pairs that `data check` calls copies, and those that `evaluate` would report as overlap."""
    signatures = image_signatures(paths)
    pairs = [(p.first, p.second) for p in find_copies(signatures)]
    opened = np.flatnonzero(signatures.opened)
    hashes = signatures.perceptual[opened], signatures.detail[opened]
    first, second = nearly_identical(hashes, hashes)
    later = second > first
    return pairs + list(zip(opened[first[later]].tolist(), opened[second[later]].tolist(), strict=True))


def _link_equal(keys: Sequence[str | None]) -> list[tuple[int, int]]:
    first: dict[str, int] = {}
    return [(first.setdefault(k, i), i) for i, k in enumerate(keys) if k is not None]


def _column(dataset: Dataset, name: str) -> list[str | None]:
    known = list(dict.fromkeys(c for s in dataset.samples for c in s.columns))
    if name not in known:
        if name == "group" and any(s.group for s in dataset.samples):
            return [s.group for s in dataset.samples]
        nearest = suggestion(name, known) if known else "; the format has no further columns"
        raise BadDataset(
            f"there is no column {name!r} to group by{nearest}", where=dataset.root, reason="unknown-column"
        )
    return [s.columns.get(name) or None for s in dataset.samples]


def _matches(dataset: Dataset, pattern: str) -> list[str | None]:
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise BadInput(
            f"group_by: the pattern {pattern!r} is not a regular expression ({error})", reason="group-by"
        ) from error
    keys: list[str | None] = []
    for sample in dataset.samples:
        match = regex.search(sample.id)
        keys.append(None if match is None else match[1] if regex.groups else match[0])
    if all(k is None for k in keys):
        raise BadDataset(
            f"the pattern {pattern!r} matches no image; one of them is {dataset.samples[0].id!r}",
            where=dataset.root,
            remedy="correct the pattern",
            reason="pattern-without-match",
        )
    return keys


def _label_counts(dataset: Dataset, groups: IntArray) -> FloatArray:
    """(g, L) the number of times that each label occurs in each group."""
    counts = np.zeros((int(groups.max(initial=-1)) + 1, max(len(dataset.labels), 1)))
    for sample, group in zip(dataset.samples, groups.tolist(), strict=True):
        if sample.ground_truth is not None:
            np.add.at(counts[group], sample.ground_truth.label_index, 1)
    return counts


def _stratify(
    counts: FloatArray, sizes: FloatArray, fractions: FloatArray, rng: np.random.Generator
) -> IntArray:
    """(g,) the split of each group."""
    chosen = np.full(len(sizes), -1)
    capacity = fractions * sizes.sum()  # images that each split can still take
    label_capacity = fractions[:, None] * counts.sum(0)  # (splits, L)
    # Large groups first, because small ones can even out the rest; chance decides among equals.
    order = np.lexsort((rng.permutation(len(sizes)), -sizes))
    groups_with_label = [order[counts[order, label] > 0] for label in range(counts.shape[1])]
    remaining = (counts > 0).sum(0)

    def assign(group: int, preferred: FloatArray) -> None:
        fits = capacity >= sizes[group] / 2
        if fits.any():  # otherwise the common labels would fill a split over its fraction
            preferred = np.where(fits, preferred, -np.inf)
        best = np.flatnonzero(preferred >= preferred.max() - 1e-9)
        if len(best) > 1:
            best = best[capacity[best] >= capacity[best].max() - 1e-9]
        split = int(best[0] if len(best) == 1 else rng.choice(best))
        chosen[group] = split
        capacity[split] -= sizes[group]
        label_capacity[split] -= counts[group]
        remaining[counts[group] > 0] -= 1

    while remaining.any():
        label = int(np.where(remaining > 0, remaining, np.iinfo(np.int64).max).argmin())  # the rarest first
        for group in groups_with_label[label].tolist():
            if chosen[group] < 0:
                assign(group, label_capacity[:, label])
    for group in order.tolist():
        if chosen[group] < 0:
            assign(group, capacity)
    _fill_empty(chosen, sizes, counts, len(fractions))
    return chosen.astype(np.int64)


def _fill_empty(chosen: IntArray, sizes: FloatArray, counts: FloatArray, splits: int) -> None:
    """Move the smallest group of the fullest split to each empty one."""
    for split in range(splits):
        if (chosen == split).any():
            continue
        groups_of = np.bincount(chosen, minlength=splits)
        donor = int(groups_of.argmax())
        members = np.flatnonzero(chosen == donor)
        chosen[members[np.lexsort((counts[members].sum(1), sizes[members]))[0]]] = split
