"""A model file that finds damage and one that finds parts, from the command line to the severity."""

import json
import sys

import numpy as np
import pytest
from tests.inspections.conftest import image_bytes

pytest.importorskip("sqlalchemy")

from blemish import cli
from blemish.model_file import OutputSpec, write_model_file
from blemish.structures import Task

RULES = """
scale: s
levels: [low, high]
rules:
  - {name: dent of a door, label: dent, part: door, level: high}
  - {name: other dent, label: dent, level: low}
"""


def write_boxes_model(tiny, path, labels, boxes):
    """Write a model that finds the same boxes, one per label, in every image; pixels of 8 x 8."""
    scores = np.eye(len(labels), dtype=np.float32)[: len(boxes)] * np.float32(0.9)
    graph = tiny.fixed_graph(boxes=np.array(boxes, np.float32), scores=scores)
    outputs = (
        OutputSpec(name="boxes", role="boxes"),
        OutputSpec(name="scores", role="scores", activation="probabilities"),
    )
    decoder = {"name": "dense"}
    contract = tiny.contract(Task.DETECTION, labels, outputs=outputs, decoder=decoder, min_score=0.1)
    return write_model_file(path, graph, contract)


def run_cli(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["blemish", *map(str, words)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    out, err = capsys.readouterr()
    return exit_.value.code, out, err


def test_findings_are_on_the_parts_that_a_second_model_file_finds(tmp_path, tiny, monkeypatch, capsys):
    damage_boxes = [[0, 0, 2, 2], [5, 5, 8, 8]]
    damage = write_boxes_model(tiny, tmp_path / "damage.onnx", ("dent", "scratch"), damage_boxes)
    part_boxes = [[0, 0, 4, 8], [3.9, 0, 8, 8]]
    parts = write_boxes_model(tiny, tmp_path / "parts.onnx", ("door", "hood"), part_boxes)
    tiny.write_scores_model(tmp_path / "scores.onnx")
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "a.png").write_bytes(image_bytes(1))
    store = ("--store", tmp_path / "store")
    created = run_cli(
        monkeypatch, capsys, "inspections", "create", "X", *store, "--severity", tmp_path / "rules.yaml"
    )
    inspection = created[1].strip()
    words = ("inspections", "add", inspection, *store, "--model", damage.path, "--parts")
    assert run_cli(monkeypatch, capsys, *words, tmp_path / "scores.onnx")[0] == 2
    code, out, err = run_cli(monkeypatch, capsys, *words, parts.path, tmp_path / "a.png", "--json")
    assert code == 0, err
    assert json.loads(out)["run"]["parameters"]["parts_model_digest"] == parts.digest
    _, out, _ = run_cli(monkeypatch, capsys, "inspections", "show", inspection, *store, "--json")
    found = {f["label"]: f for f in json.loads(out)["findings"]}
    assert (found["dent"]["part"], found["scratch"]["part"]) == ("door", "hood")
    assert (found["dent"]["severity_level"], found["dent"]["severity_rule"]) == ("high", "dent of a door")
    assert found["dent"]["box_xyxy"] == [0, 0, 16, 12]
