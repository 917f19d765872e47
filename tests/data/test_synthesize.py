"""synthesize: generated data sets of every task in every format."""

import pytest

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.data.synthetic.generate import synthesize
from blemish.structures import Task
from blemish.testing import raises


@pytest.mark.parametrize("kind", ["cells", "panels"])
@pytest.mark.parametrize(
    ("task", "data_format"),
    [
        ("classification", "folders"),
        ("classification", "csv"),
        ("multilabel", "csv"),
        ("localization", "csv"),
        ("localization", "coco"),
        ("detection", "csv"),
        ("detection", "voc"),
        ("detection", "yolo"),
        ("segmentation", "coco"),
        ("segmentation", "voc"),
        ("segmentation", "yolo"),
    ],
)
def test_synthesize_every_task_in_every_format(tmp_path, kind, task, data_format):
    synthesize(kind, tmp_path / "set", task=task, format=data_format, count=8, size=48, seed=3)
    found = open_dataset(tmp_path / "set", task=task, minimum_labels=1)
    assert (found.task, found.format, len(found)) == (Task(task), data_format, 8)
    errors = [f.sentence() for f in check(tmp_path / "set", task=task).errors]
    assert errors == []


def test_synthesize_vehicles_in_six_folders(tmp_path):
    synthesize("vehicles", tmp_path / "set", count=12, size=48)
    assert sorted(p.name for p in (tmp_path / "set").iterdir() if p.is_dir()) == [
        f"{side}_{state}" for side in "FR" for state in ("Breakage", "Crushed", "Normal")
    ]
    assert len(open_dataset(tmp_path / "set")) == 12


@pytest.mark.parametrize(
    ("options", "code", "fact"),
    [
        ({"kind": "cars"}, "unknown-name.kind-of-data", "cells, modules, panels"),
        ({"kind": "vehicles", "task": "detection"}, "bad-input.task", "detection"),
        ({"kind": "cells", "size": 4}, "bad-input.size", "32 to 4096"),
        ({"kind": "panels", "bits": 16}, "bad-input.bits", "16"),
        ({"kind": "panels", "task": "regression"}, "unknown-name.task", "regression"),
    ],
)
def test_synthesize_invalid_options(tmp_path, options, code, fact):
    with raises(code, fact):
        synthesize(output=tmp_path / "set", **options)
