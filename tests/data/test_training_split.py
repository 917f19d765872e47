import numpy as np
import pytest

from blemish.data.synthetic import write_panels
from blemish.data.training_split import hash_for_training, split_for_training
from blemish.testing import raises

FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}


@pytest.fixture
def dataset(tmp_path):
    return write_panels(tmp_path / "data", 20, 0, layout="images", size_hw=(32, 32))


def with_splits(dataset, *names):
    return dataset.with_splits({s.id: names[i % len(names)] for i, s in enumerate(dataset)})


def test_split_for_training_keeps_the_splits_of_the_data(dataset):
    own = with_splits(dataset, "train", "val", "test")
    assert split_for_training(own, fractions=FRACTIONS) is own
    again = split_for_training(own, fractions=FRACTIONS, resplit=True)
    assert [s.split for s in again] != [s.split for s in own]
    assert [s.split == "test" for s in again] == [s.split == "test" for s in own]


def test_split_for_training_draws_all_splits(dataset):
    plain = with_splits(dataset, None)
    assert split_for_training(plain, fractions=FRACTIONS).splits == {"train": 12, "val": 4, "test": 4}


@pytest.mark.parametrize("names", [("train", "test"), ("val", "test")])
def test_split_for_training_leaves_the_test_split_alone(dataset, names):
    own = with_splits(dataset, *names)
    split = split_for_training(own, fractions=FRACTIONS)
    assert [s.split == "test" for s in split] == [s.split == "test" for s in own]
    assert split.splits["train"] in (7, 8)  # 0.6 / 0.8 of the ten others


def test_hash_for_training_names_every_unreadable_image(dataset):
    samples = tuple(dataset)
    hashes, side = hash_for_training(samples[:15], samples[15:], "panels")
    assert len(hashes.pixel) == len(side) == 20
    assert np.flatnonzero(side).tolist() == [15, 16, 17, 18, 19]
    for sample in samples[3:5]:
        sample.path.write_bytes(b"no image")
    with raises("bad-dataset.unreadable-images") as error:
        hash_for_training(samples, (), "panels")
    assert all(sample.path.name in str(error.value) for sample in samples[3:5])
