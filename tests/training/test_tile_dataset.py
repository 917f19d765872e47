"""Tiles of large images: their pixels, their ground truth, and training on them."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from blemish.config.schema import TilesConfig
from blemish.data.write_dataset import write_dataset
from blemish.geometry import mask_from_array, mask_to_array
from blemish.imaging import open_image
from blemish.inference.tiles import Tiling
from blemish.structures import Dataset, GroundTruth, Labels, Sample, Task
from blemish.testing import raises
from blemish.training import data_setup, read_recipe, train
from blemish.training.tile_dataset import cut_image, ground_truth_of_tile

LABELS = Labels(("dent", "scratch"))
SIZE = (90, 130)


def ground_truth_of(boxes, *, masks, labels=None):
    arrays = []
    for x1, y1, x2, y2 in boxes:
        array = np.zeros(SIZE, bool)
        array[y1:y2, x1:x2] = True
        array[y1, x1] = False  # no mask fills its box
        arrays.append(array)
    return GroundTruth(
        task=Task.SEGMENTATION if masks else Task.DETECTION,
        labels=LABELS,
        size_hw=SIZE,
        label_index=np.zeros(len(boxes), np.int64) if labels is None else np.array(labels),
        boxes_xyxy=np.array(boxes, float).reshape(-1, 4),
        masks=tuple(map(mask_from_array, arrays)) if masks else None,
    )


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    ground_truth = ground_truth_of(
        [[5, 5, 25, 20], [50, 30, 80, 50], [100, 60, 130, 90]], masks=True, labels=[0, 1, 0]
    )
    return Sample(
        id="car/a.png", path=path, size_hw=SIZE, group="car", split="train", ground_truth=ground_truth
    )


def test_cut_image_keeps_pixels_and_objects(image, tmp_path):
    part = TilesConfig(size=64, overlap=0.25, min_visibility=0.5)
    tiles = list(cut_image(image, part, tmp_path))
    regions = Tiling(64, 0.25).regions(SIZE)
    assert len(tiles) == len(regions) == len({t.id for t in tiles})
    whole = open_image(image.path).pixels
    arrays = [mask_to_array(m) for m in image.ground_truth.masks]
    for tile, (x1, y1, x2, y2) in zip(tiles, regions, strict=True):
        assert (tile.group, tile.split) == ("car", "train")
        assert np.array_equal(open_image(tile.path).pixels, whole[y1:y2, x1:x2])
        seen = [i for i, a in enumerate(arrays) if a[y1:y2, x1:x2].any()]
        assert tile.ground_truth.label_index.tolist() == [image.ground_truth.label_index[i] for i in seen]
        for row, i in enumerate(seen):
            piece = arrays[i][y1:y2, x1:x2]
            assert np.array_equal(mask_to_array(tile.ground_truth.masks[row]), piece)
            rows, columns = np.nonzero(piece)
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert tile.ground_truth.boxes_xyxy[row].tolist() == around or piece.sum() == arrays[i].sum()
            assert tile.ground_truth.crowd[row] == (piece.sum() < 0.5 * arrays[i].sum())


def test_ground_truth_of_tile_uses_the_box_area_without_masks():
    ground_truth = ground_truth_of([[0, 0, 40, 10], [50, 0, 60, 10], [20, 0, 24, 10]], masks=False)
    shown = ground_truth_of_tile(ground_truth, np.array([10, 0, 42, 32]), 0.8)
    assert shown.boxes_xyxy.tolist() == [[0, 0, 30, 10], [10, 0, 14, 10]]
    assert shown.crowd.tolist() == [True, False]  # three quarters are too little here
    assert not ground_truth_of_tile(ground_truth, np.array([10, 0, 42, 32]), 0.7).crowd.any()


def test_cut_image_returns_a_small_image_unchanged(image, tmp_path):
    for sample in (image, replace(image, size_hw=None)):
        (tile,) = cut_image(sample, TilesConfig(size=130), tmp_path)
        assert tile is sample


def pixels_of(tiles):
    return [open_image(tile.path).pixels for tile in tiles]


def test_cut_image_ignores_tiles_of_another_size_or_image(image, tmp_path):
    """A run that failed early leaves tiles of another size or of another image behind."""
    (tmp_path / "run").mkdir()
    list(cut_image(image, TilesConfig(size=64), tmp_path / "run"))
    for tile in cut_image(image, TilesConfig(size=100), tmp_path / "run"):
        assert open_image(tile.path).size_hw == tile.size_hw
    Image.new("RGB", SIZE[::-1], (7, 7, 7)).save(image.path)
    assert all(
        (pixels == 7).all() for pixels in pixels_of(cut_image(image, TilesConfig(size=64), tmp_path / "run"))
    )


def test_cut_image_separates_images_with_similar_names(tmp_path):
    (tmp_path / "tiles").mkdir()
    (tmp_path / "a").mkdir()
    for name, grey in (("a/b.png", 10), ("a-b.png", 200)):
        Image.new("RGB", SIZE[::-1], (grey,) * 3).save(tmp_path / name)
        ground_truth = ground_truth_of([[0, 0, 40, 10]], masks=False)
        sample = Sample(id=name, path=tmp_path / name, size_hw=SIZE, split="train", ground_truth=ground_truth)
        tiles = pixels_of(cut_image(sample, TilesConfig(size=64), tmp_path / "tiles"))
        assert all((pixels == grey).all() for pixels in tiles)


def test_cut_image_does_not_write_existing_tiles_again(image, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    before = [tile.path for tile in cut_image(image, TilesConfig(size=64), tmp_path / "run")]
    monkeypatch.setattr(Image.Image, "save", None)
    assert [tile.path for tile in cut_image(image, TilesConfig(size=64), tmp_path / "run")] == before


def dataset(root, count=6):
    random = np.random.default_rng(1)
    samples = []
    for i in range(count):
        pixels = random.integers(0, 60, (*SIZE, 3), np.uint8)
        x, y = int(random.integers(0, 90)), int(random.integers(0, 50))
        pixels[y : y + 30, x : x + 30] += 150
        path = root / f"{i}.png"
        Image.fromarray(pixels).save(path)
        ground_truth = ground_truth_of([[x, y, x + 30, y + 30]], masks=False)
        split = "train" if i < 4 else "val"
        samples.append(Sample(id=path.name, path=path, size_hw=SIZE, split=split, ground_truth=ground_truth))
    return Dataset(task=Task.DETECTION, labels=LABELS, samples=tuple(samples), root=root)


@pytest.mark.slow
def test_train_on_tiles(tmp_path, exported):
    (tmp_path / "drawn").mkdir()
    write_dataset(dataset(tmp_path / "drawn"), tmp_path / "set", "coco")
    run = train(
        None, data=tmp_path / "set", model="ssd300-resnet50", output=tmp_path / "run", device="cpu",
        set={
            "task": "detection", "model.weights": "none", "model.input_size": 64, "training.epochs": 1,
            "model.options": {"backbone": "resnet18"}, "training.batch_size": 4, "training.workers": 0,
            "training.tensorboard": False, "data.tiles": {"size": 64, "empty_ratio": 0},
        },
    )  # fmt: skip
    log = (run.path / "train.log").read_text(encoding="utf-8")
    assert "4 training images gave 24 tiles" in log
    assert "2 validation images gave 12" in log
    assert not (run.path / "tiles").exists()
    from blemish.model_file import read_model_file

    file = read_model_file(run.model_file)
    assert file.contract.recipe["data"]["tiles"]["size"] == 64
    assert len(file.fingerprints.pixel) == 6  # of whole images


def test_tiles_are_refused_for_image_level_tasks(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(data_setup, "hash_for_training", None)  # refused before any image is opened
    with raises("bad-recipe.key-of-another-task", "data.tiles", "classification"):
        train(
            None, data=folders, model="timm/test_resnet", weights="none", output=tmp_path / "run",
            set={"data.tiles": {"size": 64}},
        )  # fmt: skip
    with raises("bad-recipe.invalid-value", "data.tiles.overlap"):
        read_recipe(settings=["data.tiles={size: 64, overlap: 1}"])
    with raises("bad-recipe.unknown-key", "'data.tiles.overlaps'", "'overlap'"):
        read_recipe(settings=["data.tiles={size: 64, overlaps: 0.1}"])
