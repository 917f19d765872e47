"""Divide images into train, val and test: seeded, even in labels, one object never on both sides."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from blemish.arrays import FloatArray, IntArray
from blemish.data.duplicates import find_copies, image_signatures
from blemish.data.image_hashes import linked_groups
from blemish.data.split_names import SPLITS
from blemish.errors import BadDataset, BadInput, UnknownName, suggestion
from blemish.structures import Dataset

DEFAULT_FRACTIONS = {"train": 0.8, "val": 0.2}
WAYS = "column:NAME, pattern:REGEX, near-duplicates"


def split_dataset(
    dataset: Dataset,
    *,
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
    group_by: str | Sequence[str] | None = None,
) -> Dataset:
    """The same images, each in a split; earlier splits are forgotten.

    Every label is spread over the splits as evenly as whole groups allow: labels of classification, each
    label of multilabel sets, objects of each label in sets of boxes. Images of one group go to the same
    split. The samples' own groups are always kept together.

    Args:
        dataset: what to divide.
        fractions: share of each split, adding up to 1; train .8 and val .2 where not given.
        seed: the same seed gives the same splits.
        group_by: what else makes a group, one or several of `column:NAME` (a column of the table that was
            read), `pattern:REGEX` (the first group of a regular expression that is searched in sample ids)
            and `near-duplicates` (images that look the same).

    Raises:
        UnknownName: a split that is none of train, val and test.
        BadInput: fractions or group_by that cannot be.
        BadDataset: no such column, a pattern that nothing matches, or fewer groups than splits.

    Source:
        Sechidis, Tsoumakas & Vlahavas 2011, "On the Stratification of Multi-Label Data", algorithm 1, with
        whole groups in the place of single examples.
    """
    shares = _checked(fractions or DEFAULT_FRACTIONS)
    ways = [group_by] if isinstance(group_by, str) else list(group_by or ())
    groups, said = _groups(dataset, ways)
    counts = _label_counts(dataset, groups)
    sizes = np.bincount(groups, minlength=counts.shape[0]).astype(np.float64)
    if len(sizes) < len(shares):
        raise BadDataset(
            f"{dataset.root}: {len(dataset)} images in {len(sizes)} groups cannot fill {len(shares)}"
            f" splits;"
            " group them less or ask for fewer splits"
        )
    chosen = _stratify(counts, sizes, np.array(list(shares.values())), np.random.default_rng(seed))
    names = list(shares)
    samples = tuple(replace(s, split=names[chosen[g]]) for s, g in zip(dataset.samples, groups, strict=True))
    divided = replace(dataset, samples=samples)
    parts = ", ".join(f"{name} {divided.splits.get(name, 0)}" for name in names)
    grouped = f" in {len(sizes)} groups ({said})" if said else ""
    note = f"{len(dataset)} images{grouped} were divided with seed {seed}, stratified by label: {parts}"
    return replace(divided, notes=(*dataset.notes, note))


def _checked(fractions: Mapping[str, float]) -> dict[str, float]:
    shares = {str(k): float(v) for k, v in fractions.items()}
    if not shares or any(not 0 < v <= 1 for v in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        shown = ", ".join(f"{k} {v:g}" for k, v in shares.items()) or "none"
        raise BadInput(
            f"the fractions of the splits ({shown}) must each be above 0 and add up to 1; correct them"
        )
    for name in shares:
        if name not in SPLITS:
            raise UnknownName("split", name, SPLITS, where="the fractions")
    return shares


def _groups(dataset: Dataset, ways: Sequence[str]) -> tuple[IntArray, str]:
    """(n,) group of each image, and how they were made, for people."""
    count = len(dataset)
    said: list[str] = []
    pairs: list[tuple[int, int]] = []
    if any(s.group is not None for s in dataset.samples):
        pairs += _link_equal([s.group for s in dataset.samples])
        said.append("the set's own")
    for way in ways:
        kind, _, value = way.partition(":")
        if kind == "column" and value:
            pairs += _link_equal(_column(dataset, value))
        elif kind == "pattern" and value:
            pairs += _link_equal(_matches(dataset, value))
        elif way == "near-duplicates":
            pairs += [
                (p.first, p.second) for p in find_copies(image_signatures([s.path for s in dataset.samples]))
            ]
        else:
            raise BadInput(f"there is no way {way!r} to group images; use {WAYS}")
        said.append(way)
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    return linked_groups(count, ends[:, 0], ends[:, 1]), ", ".join(said)


def _link_equal(keys: Sequence[str | None]) -> list[tuple[int, int]]:
    first: dict[str, int] = {}
    return [(first.setdefault(k, i), i) for i, k in enumerate(keys) if k is not None]


def _column(dataset: Dataset, name: str) -> list[str | None]:
    known = list(dict.fromkeys(c for s in dataset.samples for c in s.columns))
    if name not in known:
        if name == "group" and any(s.group for s in dataset.samples):
            return [s.group for s in dataset.samples]
        near = suggestion(name, known) if known else "; its format has no further columns"
        raise BadDataset(f"{dataset.root}: there is no column {name!r} to group by{near}")
    return [s.columns.get(name) or None for s in dataset.samples]


def _matches(dataset: Dataset, pattern: str) -> list[str | None]:
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise BadInput(f"the pattern {pattern!r} is no regular expression ({error}); correct it") from error
    keys: list[str | None] = []
    for sample in dataset.samples:
        match = regex.search(sample.id)
        keys.append(None if match is None else match[1] if regex.groups else match[0])
    if all(k is None for k in keys):
        raise BadDataset(
            f"{dataset.root}: the pattern {pattern!r} matches no image, such as"
            f" {dataset.samples[0].id!r};"
            " correct it"
        )
    return keys


def _label_counts(dataset: Dataset, groups: IntArray) -> FloatArray:
    """(g, L) how often each label stands in each group."""
    counts = np.zeros((int(groups.max(initial=-1)) + 1, max(len(dataset.labels), 1)))
    for sample, group in zip(dataset.samples, groups.tolist(), strict=True):
        if sample.ground_truth is not None:
            np.add.at(counts[group], sample.ground_truth.label_index, 1)
    return counts


def _stratify(
    counts: FloatArray, sizes: FloatArray, shares: FloatArray, rng: np.random.Generator
) -> IntArray:
    """(g,) the split of each group."""
    chosen = np.full(len(sizes), -1)
    wanted = shares * sizes.sum()  # images that each split still wants
    wanted_labels = shares[:, None] * counts.sum(0)  # (splits, L)
    # Large groups first, since small ones can still even out what they leave; chance decides among equals.
    order = np.lexsort((rng.permutation(len(sizes)), -sizes))
    waiting = [order[counts[order, label] > 0] for label in range(counts.shape[1])]
    left = (counts > 0).sum(0)

    def give(group: int, preferred: FloatArray) -> None:
        room = wanted >= sizes[group] / 2
        if room.any():  # else the common labels would fill a split over its share
            preferred = np.where(room, preferred, -np.inf)
        best = np.flatnonzero(preferred >= preferred.max() - 1e-9)
        if len(best) > 1:
            best = best[wanted[best] >= wanted[best].max() - 1e-9]
        split = int(best[0] if len(best) == 1 else rng.choice(best))
        chosen[group] = split
        wanted[split] -= sizes[group]
        wanted_labels[split] -= counts[group]
        left[counts[group] > 0] -= 1

    while left.any():
        label = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())  # the rarest first
        for group in waiting[label].tolist():
            if chosen[group] < 0:
                give(group, wanted_labels[:, label])
    for group in order.tolist():
        if chosen[group] < 0:
            give(group, wanted)
    _fill_empty(chosen, sizes, counts, len(shares))
    return chosen.astype(np.int64)


def _fill_empty(chosen: IntArray, sizes: FloatArray, counts: FloatArray, splits: int) -> None:
    """Give a split that got nothing the smallest group of the fullest one."""
    for split in range(splits):
        if (chosen == split).any():
            continue
        groups_of = np.bincount(chosen, minlength=splits)
        donor = int(groups_of.argmax())
        members = np.flatnonzero(chosen == donor)
        chosen[members[np.lexsort((counts[members].sum(1), sizes[members]))[0]]] = split
