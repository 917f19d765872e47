"""Splits: seeded, even, and with no group on both sides."""

import numpy as np
import pytest

from blemish.data import open_dataset, split_dataset
from blemish.errors import BadDataset, BadInput, UnknownName
from blemish.structures import Dataset, GroundTruth, Labels, Sample, Task


def made(holds, groups=None, columns=None, task=Task.MULTILABEL, tmp="x"):
    labels = Labels(tuple("abcdefgh"[: holds.shape[1]]))
    samples = tuple(
        Sample(
            id=f"car{i // 3}_view{i % 3}.png",
            path=f"{tmp}/{i}.png",
            group=None if groups is None else groups[i],
            ground_truth=GroundTruth(task=task, labels=labels, label_index=np.flatnonzero(row)),
            columns={} if columns is None else {"serial": columns[i]},
        )
        for i, row in enumerate(holds)
    )
    return Dataset(task=task, labels=labels, samples=samples, root=tmp)


@pytest.fixture
def multilabel():
    rng = np.random.default_rng(3)
    return made(rng.random((1000, 4)) < [0.5, 0.1, 0.03, 0.01])


def counts(dataset):
    return np.array([s.ground_truth.presence_mask() for s in dataset]).sum(0)


def test_every_label_is_spread_evenly(multilabel):
    divided = split_dataset(multilabel, fractions={"train": 0.7, "val": 0.2, "test": 0.1}, seed=5)
    assert sum(divided.splits.values()) == 1000
    assert divided.splits == pytest.approx({"train": 700, "val": 200, "test": 100}, abs=8)
    for split, fraction in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
        wanted = fraction * counts(multilabel)
        np.testing.assert_allclose(counts(divided.of_split(split)), wanted, atol=1, rtol=0.02)
    assert "seed 5" in divided.notes[-1]


def test_a_seed_gives_one_split_and_another_seed_another(multilabel):
    first, again, other = (split_dataset(multilabel, seed=s) for s in (1, 1, 2))
    assert [s.split for s in first] == [s.split for s in again]
    assert [s.split for s in first] != [s.split for s in other]


def test_classification_is_stratified_to_one_image():
    holds = np.repeat(np.eye(3, dtype=bool), [80, 15, 5], axis=0)
    divided = split_dataset(made(holds, task=Task.CLASSIFICATION))
    inside = [sum(s.split == "val" for s in divided.samples[a:b]) for a, b in ((0, 80), (80, 95), (95, 100))]
    assert inside == [16, 3, 1]


@pytest.mark.parametrize("way", ["own", "column:serial", "pattern:^(car\\d+)_"])
def test_a_group_is_never_on_both_sides(way):
    rng = np.random.default_rng(0)
    holds = rng.random((300, 3)) < 0.3
    keys = [f"g{i // 3}" for i in range(300)]
    dataset = made(holds, groups=keys if way == "own" else None, columns=keys)
    divided = split_dataset(dataset, group_by=None if way == "own" else way, seed=2)
    sides: dict[str, set[str]] = {}
    for sample, key in zip(divided, keys, strict=True):
        sides.setdefault(key, set()).add(sample.split)
    assert all(len(s) == 1 for s in sides.values())
    assert divided.splits["val"] == pytest.approx(60, abs=3)
    assert "100 groups" in divided.notes[-1]


def test_ways_to_group_are_joined_in_chains():
    holds = np.ones((6, 1), bool)
    dataset = made(holds, groups=["p", "p", None, None, "q", "q"], columns=["", "1", "1", "", "", ""])
    divided = split_dataset(dataset, fractions={"train": 0.5, "val": 0.5}, group_by="column:serial")
    assert len({s.split for s in divided.samples[:3]}) == 1


def test_near_duplicates_stay_together(draw, tmp_path):
    for i in range(8):
        draw(f"{'ab'[i % 2]}/{i}.png", (64, 64), seed=i)
        draw(f"{'ab'[i % 2]}/{i}_copy.jpg", (96, 96), seed=i)
    divided = split_dataset(
        open_dataset(tmp_path), fractions={"train": 0.5, "val": 0.5}, group_by="near-duplicates"
    )
    of = {s.path.stem: s.split for s in divided}
    assert all(of[str(i)] == of[f"{i}_copy"] for i in range(8))
    assert set(of.values()) == {"train", "val"}


def test_no_split_is_left_empty():
    divided = split_dataset(made(np.eye(3, dtype=bool)), fractions={"train": 0.98, "val": 0.01, "test": 0.01})
    assert divided.splits == {"train": 1, "val": 1, "test": 1}


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"fractions": {"train": 0.8, "val": 0.3}}, BadInput, "add up to 1"),
        ({"fractions": {"train": 1.2, "val": -0.2}}, BadInput, "above 0"),
        ({"fractions": {"train": 0.8, "holdout": 0.2}}, UnknownName, "'holdout'.*train, val, test"),
        ({"group_by": "column:seriel"}, BadDataset, "did you mean 'serial'"),
        ({"group_by": "pattern:^bus"}, BadDataset, "matches no image"),
        ({"group_by": "pattern:("}, BadInput, "no regular expression"),
        ({"group_by": "colour"}, BadInput, "near-duplicates"),
        ({"group_by": "pattern:car"}, BadDataset, "1 groups cannot fill 2 splits"),
    ],
)
def test_what_cannot_be_divided_is_said(options, error, says):
    dataset = made(np.ones((4, 1), bool), columns=["a", "b", "c", "d"])
    with pytest.raises(error, match=says):
        split_dataset(dataset, **options)
