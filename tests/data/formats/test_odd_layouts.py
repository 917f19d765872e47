"""Layouts that the property suite of annotation trees found to be read wrongly or refused."""

import json

import pytest

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.structures import Task
from blemish.testing import raises

XML = (
    "<annotation><object><name>dent</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>8</ymax>"
    "</bndbox></object></annotation>"
)


@pytest.fixture
def write(tmp_path):
    """A function that writes a text file below the test's folder."""

    def one(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    return one


def coco(*names):
    """The text of a COCO file with one object in each image."""
    images = [{"id": i, "file_name": n, "width": 24, "height": 20} for i, n in enumerate(names)]
    objects = [{"id": i, "image_id": i, "category_id": 1, "bbox": [2, 3, 7, 5]} for i in range(len(names))]
    return json.dumps({"images": images, "annotations": objects, "categories": [{"id": 1, "name": "dent"}]})


@pytest.mark.parametrize(
    ("images", "file"),
    [
        ("{}2017", "annotations/instances_{}2017.json"),
        ("images/{}", "annotations/damage_{}.json"),
        ("{}/images", "{}/annotations/own.json"),
        ("images/{}", "COCO_{}_annos.json"),
    ],
)
def test_coco_images_of_one_name_in_several_splits(images, file, draw, write, tmp_path):
    for split in ("train", "val"):
        draw(f"{images.format(split)}/a.png")
        write(file.format(split), coco("a.png"))
    found = open_dataset(tmp_path)
    assert (found.format, found.task) == ("coco", Task.DETECTION)
    assert {s.id: s.split for s in found} == {f"{images.format(s)}/a.png": s for s in ("train", "val")}


def test_voc_lists_name_images_with_spaces(draw, write, tmp_path):
    for name, line in (("IMG 0 (1)", "IMG 0 (1)"), ("IMG 1", "IMG 1"), ("b", "b  -1")):
        draw(f"JPEGImages/{name}.png")
        write(f"Annotations/{name}.xml", XML)
        write(
            f"ImageSets/Main/{'val' if name == 'b' else 'train'}.txt",
            "IMG 0 (1)\nIMG 1\n" if name != "b" else line,
        )
    found = open_dataset(tmp_path)
    assert {s.path.stem: s.split for s in found} == {"IMG 0 (1)": "train", "IMG 1": "train", "b": "val"}


def test_yolo_label_files_next_to_the_images_of_splits(draw, write, tmp_path):
    for split in ("train", "valid"):
        draw(f"{split}/a.png")
        write(f"{split}/a.txt", "1 .5 .5 .25 .5\n")
    write("classes.txt", "dent\nrust\n")
    found = open_dataset(tmp_path)
    assert (found.format, found.labels.names) == ("yolo", ("dent", "rust"))
    assert {s.split: s.ground_truth.label_names for s in found} == {"train": ("rust",), "val": ("rust",)}


@pytest.mark.parametrize("place", ["train/_darknet.labels", "labels/train/classes.txt"])
def test_yolo_names_in_the_folder_of_a_split(place, draw, write, tmp_path):
    images, labels = ("{}", "{}") if "darknet" in place else ("images/{}", "labels/{}")
    for split in ("train", "val"):
        draw(f"{images.format(split)}/a.png")
        write(f"{labels.format(split)}/a.txt", "1 .5 .5 .25 .5\n")
    write(place, "dent\nrust\n")
    if "darknet" in place:
        write(place.replace("train", "val"), "dent\nrust\n")
    assert open_dataset(tmp_path).labels.names == ("dent", "rust")
    assert not check(tmp_path, duplicates=False).of("label-without-image")


def test_file_of_names_next_to_class_folders_is_no_yolo(draw, write, tmp_path):
    draw("dent/a.png")
    draw("rust/b.png")
    write("classes.txt", "dent\nrust\n")
    write("readme.txt", "two labels\n")
    assert open_dataset(tmp_path).format == "folders"


def test_data_set_inside_another_folder_is_named(draw, write, tmp_path):
    draw("cars/images/a.png")
    write("cars/labels/a.txt", "0 .5 .5 .25 .5\n")
    with raises("bad-dataset.nested-data-set", "cars"):
        open_dataset(tmp_path)


def test_images_in_subfolders_of_labels_in_splits(draw, tmp_path):
    for split in ("train", "val"):
        draw(f"{split}/dent/monday/a.png")
        draw(f"{split}/rust/monday/b.png")
    found = open_dataset(tmp_path)
    assert (found.format, found.labels.names, found.splits) == (
        "folders",
        ("dent", "rust"),
        {"train": 2, "val": 2},
    )


def test_headers_in_other_scripts_are_labels(draw, write, tmp_path):
    draw("a.png")
    draw("b.png")
    write("labels.csv", "filename,凹み,größer\na.png,0,1\nb.png,1,0\n")
    found = open_dataset(tmp_path)
    assert found.labels.names == ("凹み", "größer")
    assert [s.ground_truth.label_names for s in found] == [("größer",), ("凹み",)]


def test_tables_of_splits_are_read_alike(draw, write, tmp_path):
    for name in "abcd":
        draw(f"{name}.png")
    write("train.csv", "filename,classes\na.png,broken glass\nb.png,flat tyre\n")
    write("val.csv", "filename,classes\nc.png,dent\nd.png,dent\n")
    found = open_dataset(tmp_path)
    assert (found.task, found.labels.names) == (
        Task.CLASSIFICATION,
        ("broken glass", "dent", "flat tyre"),
    )


@pytest.mark.parametrize("text", ["[]", '["a", 1]', "3"])
def test_other_json_next_to_labelme_is_left_out(text, draw, write, tmp_path):
    image = draw("a.png")
    shape = {"label": "dent", "points": [[2, 3], [9, 8]], "shape_type": "rectangle"}
    write("a.json", json.dumps({"shapes": [shape], "imagePath": image.name}))
    write("notes.json", text)
    found = open_dataset(tmp_path)
    assert len(found) == 1
    assert any("notes.json" in note for note in found.notes)


def test_ambiguous_orientation_is_noted_in_a_strict_reading(draw, write, tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    draw("images/a.jpg", exif=exif)
    write("labels/a.txt", "0 .5 .5 .25 .5\n")
    assert any("EXIF" in note for note in open_dataset(tmp_path).notes)
    assert len(check(tmp_path, duplicates=False).of("orientation-ambiguous")) == 1


def test_missing_images_name_the_folders_with_files_of_the_name(draw, write, tmp_path):
    for folder in ("front", "rear"):
        draw(f"{folder}/0.png")
    table = write("labels.csv", "filename,label\nimage/0.png,dent\n")
    with raises("bad-dataset.missing-image", "--images", str(tmp_path / "front"), str(tmp_path / "rear")):
        open_dataset(tmp_path)
    found = check(tmp_path, duplicates=False).of("missing-image")
    assert "--images" in found[0].remedy
    assert open_dataset(table, images=tmp_path / "rear", minimum_labels=1)[0].path.parent.name == "rear"


def test_masks_of_good_images_are_no_finding(draw, tmp_path):
    for name in ("train/good/0", "test/good/1", "test/crack/2", "ground_truth/crack/2_mask"):
        draw(f"{name}.png")
    assert not check(tmp_path, duplicates=False).of("image-without-label")


@pytest.mark.parametrize(
    "names",
    [
        ("fold_1/dent/a", "fold_1/rust/b", "fold_2/dent/c", "fold_2/rust/d"),
        ("site A/dent/a", "site A/rust/b", "site B/dent/c", "site B/rust/d"),
        ("fold1/a", "fold2/b"),
        ("batch1/a", "batch2/b"),
        ("rgb/a", "depth/a"),
        ("224x224/a", "512 x 512/a"),
        ("full/a", "preview/b"),
        ("dent/a", "rust/b", "augmented/c"),
        ("dent/a", "rust/b", "unlabeled/c"),
    ],
)
def test_folders_of_parts_of_a_data_set_are_no_labels(names, draw, tmp_path):
    for name in names:
        draw(f"{name}.png")
    with raises("bad-dataset.folders-not-labels"):
        open_dataset(tmp_path)
    assert len(open_dataset(tmp_path, format="folders").labels.names) > 1


def test_images_in_other_subfolders_of_each_label(draw, tmp_path):
    for name in ("dent/car 1/a", "dent/car 2/b", "rust/car 3/c", "rust/car 4/d"):
        draw(f"{name}.png")
    assert open_dataset(tmp_path).labels.names == ("dent", "rust")
