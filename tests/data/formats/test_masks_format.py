"""blemish.data.formats.masks_format: images with semantic masks in the layouts of several data sets."""

import numpy as np
import pytest
from PIL import Image

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.geometry import mask_to_array
from blemish.structures import Task
from blemish.testing import check_format, raises

BLANK = np.zeros((20, 24), np.uint8)
TWO = BLANK.copy()
TWO[2:6, 3:9] = TWO[10:14, 15:20] = 255


@pytest.fixture
def paint(tmp_path):
    """A function that writes a mask of (h, w) or (h, w, 3) pixels."""

    def one(name, values=TWO, **save):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(values, np.uint8)).save(path, **save)
        return path

    return one


@pytest.mark.parametrize(
    ("image", "mask", "split"),
    [
        ("images/a.jpg", "masks/a.png", None),
        ("Images/a.jpg", "GT/a.bmp", None),
        ("img/a.jpg", "ann/a.png", None),
        ("images/a.jpg", "masks/a_mask.png", None),
        ("train/images/a.jpg", "train/masks/a.png", "train"),
        ("images/val/a.jpg", "annotations/val/a.png", "val"),
        ("train_img/a.jpg", "train_lab/a.png", "train"),
        ("test/a.jpg", "test_masks/a_mask.png", "test"),
        ("JPEGImages/a.jpg", "SegmentationClass/a.png", None),
        ("kos01/a.jpg", "kos01/a_label.bmp", None),
        ("a.jpg", "a_mask.png", None),
        ("input/a_rgb.jpg", "target/a.png", None),
        ("image_2/a.jpg", "label_2/a.png", None),
        ("imagesTr/a.jpg", "labelsTr/a.png", None),
    ],
)
def test_masks_of_images_in_many_layouts(draw, paint, tmp_path, image, mask, split):
    for stem in ("a", "b"):
        draw(image.replace("a.jpg", f"{stem}.jpg").replace("a_rgb", f"{stem}_rgb"))
        paint(mask.replace("a.png", f"{stem}.png").replace("a.bmp", f"{stem}.bmp").replace("a_", f"{stem}_"))
    found = open_dataset(tmp_path)
    assert (found.format, found.task, found.labels.names) == ("masks", Task.SEGMENTATION, ("object",))
    assert {s.split for s in found} == {split}
    assert [len(s.ground_truth) for s in found] == [2, 2]
    union = np.logical_or.reduce([mask_to_array(m) for m in found[0].ground_truth.masks])
    assert (union == (TWO > 0)).all()
    assert any("connected region" in n for n in found.notes)
    assert not check(tmp_path, duplicates=False).errors


def test_empty_masks_are_images_without_objects(draw, paint, tmp_path):
    for name, mask in (("a", TWO), ("b", BLANK)):
        draw(f"images/{name}.png")
        paint(f"masks/{name}.png", mask)
    assert [len(s.ground_truth) for s in open_dataset(tmp_path)] == [2, 0]


def test_values_are_labels_and_255_next_to_them_is_a_border(draw, paint, tmp_path):
    draw("images/a.png")
    values = BLANK.copy()
    values[2:6, 3:9], values[6, 3:9], values[10:14, 15:20] = 1, 255, 3
    paint("masks/a.png", values)
    found = open_dataset(tmp_path)
    assert found[0].ground_truth.label_names == ("1", "3")
    assert any("255" in n and "left out" in n for n in found.notes)
    (tmp_path / "classes.txt").write_text("background\ndent\nrust\ncrack\n")
    found = open_dataset(tmp_path)
    assert found.labels.names == ("dent", "rust", "crack")
    assert found[0].ground_truth.label_names == ("dent", "crack")
    (tmp_path / "classes.txt").write_text("dent\nrust\ncrack\n")
    assert open_dataset(tmp_path)[0].ground_truth.label_names == ("dent", "crack")
    (tmp_path / "classes.txt").write_text("dent\nrust\n")
    with raises("bad-dataset.label-names", "value 3", "2 names"):
        open_dataset(tmp_path)


def test_colors_are_named_by_labelmap(draw, paint, tmp_path):
    draw("images/a.png")
    values = np.zeros((20, 24, 3), np.uint8)
    values[2:6, 3:9], values[10:14, 15:20] = (255, 0, 0), (0, 128, 0)
    paint("masks/a.png", values)
    found = open_dataset(tmp_path)
    assert found.labels.names == ("#008000", "#ff0000")
    text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndent:255,0,0::\nrust:0,128,0::\n"
    (tmp_path / "labelmap.txt").write_text(text)
    assert sorted(open_dataset(tmp_path)[0].ground_truth.label_names) == ["dent", "rust"]
    (tmp_path / "labelmap.txt").write_text("dent:255,0,0::\n")
    with raises("bad-dataset.label-names", "#008000"):
        open_dataset(tmp_path)


def test_masks_saved_as_jpeg_are_read_as_black_and_white(draw, paint, tmp_path):
    draw("images/a.png", (96, 80))
    values = np.kron(TWO, np.ones((4, 4), np.uint8))
    paint("masks/a.jpg", values, quality=60)
    found = open_dataset(tmp_path)
    assert [m.area for m in found[0].ground_truth.masks] == [24 * 16, 20 * 16]


def test_ordinary_image_in_the_folder_of_masks_is_an_error(draw, tmp_path):
    draw("images/a.png", (64, 64))
    draw("masks/a.png", (64, 64), seed=3)
    with raises("bad-dataset.bad-file", "masks/a.png", "colors"):
        open_dataset(tmp_path)


def test_mask_of_another_size_is_scaled_or_reported(draw, paint, tmp_path):
    draw("images/a.png", (48, 40))
    paint("masks/a.png")
    found = open_dataset(tmp_path)
    assert found[0].ground_truth.boxes_xyxy.tolist() == [[6, 4, 18, 12], [30, 20, 40, 28]]
    assert any("another size" in n for n in found.notes)
    paint("masks/a.png", np.full((90, 24), 255))
    assert check(tmp_path, duplicates=False).of("labels-in-another-scale")


def test_images_and_masks_without_partner_are_reported(draw, paint, tmp_path):
    for name in ("a", "b", "c"):
        draw(f"images/{name}.png")
    for name in ("a", "b", "x"):
        paint(f"masks/{name}.png")
    found = open_dataset(tmp_path)
    assert len(found) == 2
    assert any("1 images have no mask" in n for n in found.notes)
    report = check(tmp_path, duplicates=False)
    assert [f.path.name for f in report.of("image-without-label")] == ["c.png"]
    assert [f.path.name for f in report.of("label-without-image")] == ["x.png"]


def test_two_masks_of_one_image_are_an_error(draw, paint, tmp_path):
    draw("images/a.png")
    paint("masks/a.png")
    paint("gt/a.png")
    with raises("bad-dataset.ambiguous-files", "gt/a.png", "masks/a.png"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("layout", ["mvtec", "classes", "coincidence"])
def test_other_layouts_are_not_masks(draw, paint, tmp_path, layout):
    if layout == "mvtec":
        for name in ("train/good/0.png", "test/good/0.png", "test/crack/0.png"):
            draw(name)
        paint("ground_truth/crack/0_mask.png")
    else:
        for label in ("dent", "ok"):
            for number in range(4):
                draw(f"{label}/car{number}.png")
        if layout == "coincidence":
            draw("dent/car0_gt.png")
    assert open_dataset(tmp_path).format == ("good-images" if layout == "mvtec" else "folders")


def test_format_suite(draw, paint, tmp_path):
    for split in ("train", "val"):
        draw(f"set/{split}/images/a.png")
        paint(f"set/{split}/masks/a.png")
    check_format("masks", tmp_path / "suite", example=tmp_path / "set")
