"""The data of a training: splits, normalization, 16-bit images."""

import csv
import json
import shutil

import numpy as np
from PIL import Image

from blemish.training.data_setup import prepare_data
from blemish.training.run import train


def test_images_of_the_test_split_are_not_opened(recipe, folders, tmp_path):
    for split, numbers in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 9))):
        for label in ("dark", "light"):
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for i in numbers:
                shutil.copy(folders / label / f"{i}.png", tmp_path / "data" / split / label)
    for path in (tmp_path / "data" / "test").rglob("*.png"):
        path.write_bytes(b"not an image")
    run = train(recipe(tmp_path / "data", training__epochs=1), output=tmp_path / "run", device="cpu")
    assert len(np.load(run.path / "prints.npz")["pixel"]) == 16


def test_prepare_data_reports_how_much_of_a_whole_data_set_is_held_back(recipe, folders):
    fractions = {"train": 0.5, "val": 0.25, "test": 0.25}
    data = prepare_data(recipe(data__split={"fractions": fractions}))
    counts = data.dataset.splits
    note = next(n for n in data.dataset.notes if "data.split.fractions" in n)
    assert all(str(counts[name]) in note for name in ("train", "val", "test"))


def test_prepare_data_has_no_note_on_fractions_if_the_data_set_has_splits(recipe, folders, tmp_path):
    for split, numbers in (("train", range(6)), ("val", range(6, 8))):
        for label in ("dark", "light"):
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for i in numbers:
                shutil.copy(folders / label / f"{i}.png", tmp_path / "data" / split / label)
    data = prepare_data(recipe(tmp_path / "data"))
    assert not any("data.split.fractions" in n for n in data.dataset.notes)


def test_resplit_leaves_the_test_split_alone(recipe, folders, tmp_path):
    for split, numbers in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 9))):
        for label in ("dark", "light"):
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for i in numbers:
                shutil.copy(folders / label / f"{i}.png", tmp_path / "data" / split / label)
    resplit = {"resplit": True, "fractions": {"train": 0.5, "val": 0.5}}
    data = prepare_data(recipe(tmp_path / "data", data__split=resplit))
    assert data.dataset.splits == {"train": 8, "val": 8, "test": 2}
    assert all(s.path.parent.parent.name == "test" for s in data.dataset if s.split == "test")
    assert {s.path.parent.parent.name for s in data.train} == {"train", "val"}


def test_dataset_normalization_measures_the_training_images(recipe, tmp_path, contract_of):
    run = train(
        recipe(data__normalization="dataset", training__epochs=1), output=tmp_path / "run", device="cpu"
    )
    spec = contract_of(run).inputs[0]
    from blemish.imaging import open_image
    from blemish.preprocessing import resize

    with (run.path / "split.csv").open() as file:
        chosen = [row["id"] for row in csv.DictReader(file) if row["split"] == "train"]
    root = json.loads(json.dumps(recipe().data.path))
    pixels = [resize(open_image(f"{root}/{i}"), spec)[0] / 255 for i in chosen]
    np.testing.assert_allclose(spec.mean, np.mean(pixels, (0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(spec.std, np.std(np.stack(pixels), (0, 1, 2)), atol=1e-4)


def test_train_on_16_bit_images(recipe, tmp_path, contract_of):
    random = np.random.default_rng(0)
    for label, level in (("dark", 3000), ("light", 9000)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(6):
            pixels = random.integers(0, 2000, (30, 30)).astype(np.uint16) + level
            Image.fromarray(pixels.astype(np.uint16)).save(tmp_path / "data" / label / f"{i}.png")
    run = train(
        recipe(tmp_path / "data", data__white_level=12000, training__epochs=2, augmentation__brightness=0.1,
               augmentation__rotation_degrees=5),
        output=tmp_path / "run", device="cpu",
    )  # fmt: skip
    assert contract_of(run).inputs[0].white_level == 12000
