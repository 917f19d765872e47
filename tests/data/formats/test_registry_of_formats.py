"""blemish.data.formats: the registry, its order, and a third-party format."""

import numpy as np
import pytest

from blemish.data import open_dataset
from blemish.data.formats import FORMATS, formats_by_rank, get_format, register
from blemish.data.write_dataset import write_dataset
from blemish.structures import Dataset, GroundTruth, Labels, Sample, Task
from blemish.testing import raises

BUILT_IN = [
    *(
        "coco",
        "voc",
        "cvat",
        "yolo",
        "supervisely",
        "ndjson",
        "via",
        "labelstudio",
        "geojson",
        "labelme",
        "csv",
        "good-images",
        "masks",
    ),
    "folders",
]


class Boards:
    """A format of a third party: boards.txt with one "image label" pair per line."""

    def recognizes(self, path):
        return (path / "boards.txt").is_file()

    def read(self, path, context):
        lines = [line.split() for line in (path / "boards.txt").read_text().splitlines()]
        labels = Labels(tuple(sorted({label for _, label in lines})))
        samples = tuple(
            Sample(
                id=name,
                path=path / name,
                ground_truth=GroundTruth(
                    task=Task.CLASSIFICATION, labels=labels, label_index=np.array([labels.index(label)])
                ),
            )
            for name, label in lines
        )
        return Dataset(task=Task.CLASSIFICATION, labels=labels, samples=samples, root=path)

    def write(self, dataset, root, context):
        lines = []
        for sample in dataset:
            context.put(sample, root / sample.path.name)
            lines.append(f"{sample.path.name} {sample.ground_truth.label_names[0]}\n")
        (root / "boards.txt").write_text("".join(lines))


@pytest.fixture
def boards():
    assert [f.name for f in formats_by_rank()] == BUILT_IN  # the registry is loaded before the registration
    register("boards", rank=15, description="a folder with boards.txt")(Boards)
    yield
    FORMATS.unregister("boards")


def test_formats_by_rank_sees_a_later_registration(boards):
    assert [f.name for f in formats_by_rank()] == ["boards", *BUILT_IN]
    assert get_format("boards").is_writable and get_format("cvat").is_writable


def test_third_party_format_is_recognized_written_and_read(boards, draw, tmp_path):
    draw("set/good/a.png")
    draw("set/bad/b.png")
    write_dataset(open_dataset(tmp_path / "set"), tmp_path / "out", "boards")
    found = open_dataset(tmp_path / "out")
    assert found.format == "boards"
    assert {s.id: s.ground_truth.label_names for s in found} == {"a.png": ("good",), "b.png": ("bad",)}


def test_description_of_a_third_party_format_is_in_the_error(boards, tmp_path):
    (tmp_path / "notes.md").write_text("no data set")
    with raises("bad-dataset.unknown-format", tmp_path, "a folder with boards.txt"):
        open_dataset(tmp_path)


def test_register_rejects_a_name_of_another_module():
    with raises("duplicate-name", "'coco'", "blemish.data.formats.coco_format", Boards.__module__):
        register("coco", rank=1, description="another COCO")(Boards)


def test_get_format_suggests_the_nearest_name():
    with raises("unknown-name.format", "'cocoa'", "'coco'"):
        get_format("cocoa")


def test_every_built_in_format_recognizes_no_missing_or_empty_folder(tmp_path):
    for entry in formats_by_rank():
        assert not entry.implementation.recognizes(tmp_path), entry.name


def test_detect_format_names_a_format_that_fails(boards, tmp_path, monkeypatch):
    def fail(self, path):
        raise KeyError("boards")

    monkeypatch.setattr(Boards, "recognizes", fail)
    (tmp_path / "a.txt").write_text("")
    with raises("bad-dataset.failed-format", "'boards'", Boards.__module__, "KeyError"):
        open_dataset(tmp_path)


def test_reports_unlabeled_images_is_stated_by_the_format(boards, tmp_path):
    assert [f.name for f in formats_by_rank() if f.reports_unlabeled_images] == [
        *("voc", "good-images", "masks", "folders")
    ]
