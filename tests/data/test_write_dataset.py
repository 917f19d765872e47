"""write_dataset and open_dataset: errors that do not depend on the format."""

from dataclasses import replace

import pytest

from blemish.data import open_dataset
from blemish.data.formats import get_format
from blemish.data.synthetic.generate import synthesize
from blemish.data.write_dataset import write_dataset
from blemish.testing import raises


def test_open_dataset_names_path_on_unexpected_error(labeled, monkeypatch):
    def fail(self, path, context):
        raise OverflowError("int too large to convert to float")

    monkeypatch.setattr(type(get_format("csv").implementation), "read", fail)
    with raises("bad-dataset.unexpected-value", "csv", "too large", "labels.csv"):
        open_dataset(labeled, format="csv")


def test_write_dataset_refuses_name_that_is_not_utf8(draw, tmp_path):
    draw("set/dent/a.png")
    draw("set/rust/b.png")
    dataset = open_dataset(tmp_path / "set")
    odd = replace(dataset, samples=(replace(dataset[0], group="\udcff"), dataset[1]))
    with raises("bad-input.encoding", "udcff"):
        write_dataset(odd, tmp_path / "out", "csv")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("data_format", ["csv", "coco", "folders", "yolo", "voc"])
def test_write_dataset_refuses_unknown_split(tmp_path, data_format):
    task = "classification" if data_format == "folders" else "detection"
    drawn = synthesize("panels", tmp_path / "set", task=task, count=4, size=48)
    dataset = open_dataset(drawn.root, minimum_labels=1)
    odd = replace(dataset, samples=tuple(replace(s, split="extra") for s in dataset))
    with raises("unknown-name.split", "'extra'"):
        write_dataset(odd, tmp_path / "out", data_format)
