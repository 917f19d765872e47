"""split_dataset: seeded, stratified, and without a group in two splits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data import open_dataset, split_dataset
from blemish.structures import Dataset, GroundTruth, Labels, Sample, Task
from blemish.testing import raises


def make_dataset(presence, groups=None, columns=None, task=Task.MULTILABEL, tmp="x"):
    labels = Labels(tuple("abcdefgh"[: presence.shape[1]]))
    samples = tuple(
        Sample(
            id=f"car{i // 3}_view{i % 3}.png",
            path=Path(f"{tmp}/{i}.png"),
            group=None if groups is None else groups[i],
            ground_truth=GroundTruth(task=task, labels=labels, label_index=np.flatnonzero(row)),
            columns={} if columns is None else {"serial": columns[i]},
        )
        for i, row in enumerate(presence)
    )
    return Dataset(task=task, labels=labels, samples=samples, root=tmp)


@pytest.fixture
def multilabel():
    rng = np.random.default_rng(3)
    return make_dataset(rng.random((1000, 4)) < [0.5, 0.1, 0.03, 0.01])


def counts(dataset):
    return np.array([s.ground_truth.presence_mask() for s in dataset]).sum(0)


def test_split_dataset_stratifies_every_label(multilabel):
    result = split_dataset(multilabel, fractions={"train": 0.7, "val": 0.2, "test": 0.1}, seed=5)
    assert sum(result.splits.values()) == 1000
    assert result.splits == pytest.approx({"train": 700, "val": 200, "test": 100}, abs=8)
    for split, fraction in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
        expected = fraction * counts(multilabel)
        np.testing.assert_allclose(counts(result.of_split(split)), expected, atol=1, rtol=0.02)
    assert "seed 5" in result.notes[-1]


def test_split_dataset_is_reproducible_by_seed(multilabel):
    first, again, other = (split_dataset(multilabel, seed=s) for s in (1, 1, 2))
    assert [s.split for s in first] == [s.split for s in again]
    assert [s.split for s in first] != [s.split for s in other]


def test_split_dataset_stratifies_classification_to_one_image():
    presence = np.repeat(np.eye(3, dtype=bool), [80, 15, 5], axis=0)
    result = split_dataset(make_dataset(presence, task=Task.CLASSIFICATION))
    in_val = [sum(s.split == "val" for s in result.samples[a:b]) for a, b in ((0, 80), (80, 95), (95, 100))]
    assert in_val == [16, 3, 1]


@pytest.mark.parametrize("grouping", ["own", "column:serial", "pattern:^(car\\d+)_"])
def test_split_dataset_keeps_groups_in_one_split(grouping):
    rng = np.random.default_rng(0)
    presence = rng.random((300, 3)) < 0.3
    keys = [f"g{i // 3}" for i in range(300)]
    dataset = make_dataset(presence, groups=keys if grouping == "own" else None, columns=keys)
    result = split_dataset(dataset, group_by=None if grouping == "own" else grouping, seed=2)
    splits_of: dict[str, set[str]] = {}
    for sample, key in zip(result, keys, strict=True):
        splits_of.setdefault(key, set()).add(sample.split)
    assert all(len(s) == 1 for s in splits_of.values())
    assert result.splits["val"] == pytest.approx(60, abs=3)
    assert "100 groups" in result.notes[-1]


def test_split_dataset_joins_groupings_in_chains():
    presence = np.ones((6, 1), bool)
    dataset = make_dataset(
        presence, groups=["p", "p", None, None, "q", "q"], columns=["", "1", "1", "", "", ""]
    )
    result = split_dataset(dataset, fractions={"train": 0.5, "val": 0.5}, group_by="column:serial")
    assert len({s.split for s in result.samples[:3]}) == 1


def test_split_dataset_keeps_near_duplicates_together(draw, tmp_path):
    for i in range(8):
        draw(f"{'ab'[i % 2]}/{i}.png", (64, 64), seed=i)
        draw(f"{'ab'[i % 2]}/{i}_copy.jpg", (96, 96), seed=i)
    result = split_dataset(
        open_dataset(tmp_path), fractions={"train": 0.5, "val": 0.5}, group_by="near-duplicates"
    )
    of = {s.path.stem: s.split for s in result}
    assert all(of[str(i)] == of[f"{i}_copy"] for i in range(8))
    assert set(of.values()) == {"train", "val"}


def test_split_dataset_leaves_no_split_empty():
    result = split_dataset(
        make_dataset(np.eye(3, dtype=bool)), fractions={"train": 0.98, "val": 0.01, "test": 0.01}
    )
    assert result.splits == {"train": 1, "val": 1, "test": 1}


@pytest.mark.parametrize(
    ("options", "code", "facts"),
    [
        ({"fractions": {"train": 0.8, "val": 0.3}}, "bad-input.fractions", ["train=0.8", "val=0.3"]),
        ({"fractions": {"train": 1.2, "val": -0.2}}, "bad-input.fractions", ["val=-0.2"]),
        (
            {"fractions": {"train": 0.8, "holdout": 0.2}},
            "unknown-name.split",
            ["'holdout'", "train, val, test"],
        ),
        ({"group_by": "column:seriel"}, "bad-dataset.unknown-column", ["'seriel'", "'serial'"]),
        ({"group_by": "pattern:^bus"}, "bad-dataset.pattern-without-match", ["^bus"]),
        ({"group_by": "pattern:("}, "bad-input.group-by", ["'('"]),
        ({"group_by": "colour"}, "bad-input.group-by", ["'colour'", "near-duplicates"]),
        ({"group_by": "pattern:car"}, "bad-dataset.too-few-groups", ["2 splits", "1 groups"]),
    ],
)
def test_split_dataset_invalid_options(options, code, facts):
    dataset = make_dataset(np.ones((4, 1), bool), columns=["a", "b", "c", "d"])
    with raises(code, *facts):
        split_dataset(dataset, **options)


def test_split_by_near_duplicates_leaves_no_overlap_that_evaluate_would_report(tmp_path):
    """Images with close fingerprints are on one side, by the rule that also warns of leaked test images."""
    from blemish.data.image_hashes import hash_images, nearly_identical

    rng = np.random.default_rng(0)
    texture = np.array(Image.fromarray(rng.integers(0, 255, (24, 24), np.uint8)).resize((96, 96), 2), float)
    folder = tmp_path / "images" / "good"
    folder.mkdir(parents=True)
    other = tmp_path / "images" / "bad"
    other.mkdir()
    for number in range(40):  # slightly different textures on the same background
        noise = rng.normal(0, 1 if number % 2 else 60, (96, 96))
        pixels = np.clip(texture + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save((folder if number % 4 else other) / f"{number:02}.png")
    fractions = {"train": 0.5, "val": 0.2, "test": 0.3}
    divided = split_dataset(
        open_dataset(tmp_path / "images"), fractions=fractions, group_by="near-duplicates", seed=3
    )
    hashes = hash_images(divided)
    pair = hashes.perceptual, hashes.detail
    first, second = nearly_identical(pair, pair)
    assert (first != second).any(), "no two images are nearly identical, so that nothing is tested"
    assert all(divided[a].split == divided[b].split for a, b in zip(first, second, strict=True))
