"""`info`, `explain`, `export` and `push`, as users type them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from blemish.commands.explain_command import explain
from blemish.commands.export_command import export
from blemish.commands.info_command import info
from blemish.commands.push_command import push
from blemish.errors import BadModelFile, UnknownName
from blemish.explanation.gradient_graph import EXPLANATION_KEY, explanation_path
from blemish.model_file import (
    Contract,
    DecoderSpec,
    InputSpec,
    LabelSpec,
    Licenses,
    OutputSpec,
    ParityCertificate,
    read_graph,
    read_model_file,
    write_model_file,
)

SIDE = 16
WEIGHT = np.array([[1.0, -0.5], [-1.0, 0.5], [0.3, 0.2]], np.float32)  # channels x labels


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs, constants):
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture
def file(tmp_path):
    """Mean of the pixels by channel, then a linear layer; its explanation graph in closed form."""
    image = value("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    pool = helper.make_node("ReduceMean", ["image"], ["pooled"], axes=[2, 3], keepdims=0)
    head = helper.make_node("MatMul", ["pooled", "weight"], ["logits"])
    logits = value("logits", TensorProto.FLOAT, ["batch", 2])
    proto = model([pool, head], [image], [logits], {"weight": WEIGHT})
    contract = Contract(
        name="tiny",
        architecture="linear",
        task="classification",
        labels=[LabelSpec(name="dent", display_name="Dent"), LabelSpec(name="clean", display_name="[Clean]")],
        inputs=[InputSpec(size_hw=(SIDE, SIDE), mean=(0, 0, 0), std=(1, 1, 1))],
        outputs=[OutputSpec(name="logits", role="scores", activation="logits")],
        decoder=DecoderSpec(name="scores"),
        feature_layer="image",
        data={"counts": {"train": 7, "val": 3}},
        metrics={"val with intervals": {"macro_f1": {"value": 0.75, "low": 0.7, "high": 0.8}, "tuned": True}},
        licenses=Licenses(weights="mine", data="CC BY 4.0"),
    )
    path = tmp_path / "model.onnx"
    made = write_model_file(path, proto.SerializeToString(), contract)
    proof = ParityCertificate(
        passed=True,
        images=3,
        decisions_changed=0,
        max_difference=1e-7,
        graph_digest=made.graph_digest,
    )
    write_model_file(path, proto.SerializeToString(), contract.model_copy(update={"certificate": proof}))
    # gradient of (logits * selector).sum() = selector @ weight.T / places, everywhere the same
    same = helper.make_node("Identity", ["image"], ["features.0"])
    turned = helper.make_node("MatMul", ["selector", "weight_t"], ["slopes"])
    shaped = helper.make_node("Unsqueeze", ["slopes", "axes"], ["wide"])
    spread = helper.make_node("Expand", ["wide", "size"], ["gradients.0"])
    maps = [value(f"{n}.0", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE]) for n in ("features", "gradients")]
    constants = {
        "weight_t": WEIGHT.T / SIDE**2,
        "axes": np.array([2, 3]),
        "size": np.array([1, 1, SIDE, SIDE]),
    }
    selector = value("selector", TensorProto.FLOAT, ["batch", 2])
    beside = model([same, turned, shaped, spread], [image, selector], maps, constants)
    facts = {"graph_digests": [made.graph_digest], "layers": ["image"], "output_count": 2}
    helper.set_model_props(beside, {EXPLANATION_KEY: json.dumps(facts)})
    explanation_path(path).write_bytes(beside.SerializeToString())
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("one", "two"):
        pixels = np.full((40, 60, 3), 40, np.uint8)
        pixels[5:15, 40:55, 0] = 250  # red speaks for a dent
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def run(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_info_prints_the_contract_on_one_screen(file):
    result = run(info, file)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) <= 24
    text = " ".join(" ".join(lines).split())
    for part in (
        "tiny: linear, classification",
        "dent (Dent), clean ([Clean])",
        "macro_f1 0.750 [0.700, 0.800]",
        "thresholds chosen on these images",
        "7 train, 3 val",
        "weights: mine; data: CC BY 4.0",
        "passed: 0 decisions changed on 3 images",
        "graph beside the file",
    ):
        assert part in text, part


def test_info_json_contains_the_whole_contract(file):
    facts = json.loads(run(info, file, "--json").stdout)
    made = read_model_file(file)
    assert facts["model_digest"] == made.digest and facts["certified"] and facts["explanation_graph"]
    assert Contract.model_validate(facts["contract"]) == made.contract


def test_info_names_a_file_that_was_changed_after_its_certificate(file):
    proto = onnx.load_from_string(read_graph(file))
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHT * 2, "weight"))
    write_model_file(file, proto.SerializeToString(), read_model_file(file).contract)
    assert "INVALID" in " ".join(run(info, file).stdout.split())
    assert not json.loads(run(info, file, "--json").stdout)["certified"]


def test_explain_writes_overlay_map_array_and_numbers(file, images, tmp_path):
    out = tmp_path / "maps"
    result = run(explain, images, "--model", file, "--output", out, "--json")
    assert result.exit_code == 0
    assert "grad-cam" in result.stderr and "33" in result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["label"] for row in rows] == ["dent", "dent"]
    for row in rows:
        assert row["method"] == "grad-cam" and row["layer"] == "image"
        assert row["model_digest"] == read_model_file(file).digest
        x, y = row["peak_xy"]
        assert 38 <= x <= 57 and 3 <= y <= 17
        assert 0 <= row["deletion"] < row["insertion"] <= 1
        with Image.open(out / row["files"]["overlay"]) as image:
            assert image.size == (60, 40)
        with Image.open(out / row["files"]["heatmap"]) as image:
            levels = np.asarray(image)
        assert levels.dtype == np.uint16 and levels.shape == (40, 60) and levels.max() == 65535
        values = np.load(out / row["files"]["array"])
        assert values.dtype == np.float32 and values.shape == (40, 60)
        np.testing.assert_allclose(levels / 65535, values / values.max(), atol=1e-5)
    document = json.loads((out / "explanations.json").read_text())
    version = document["schema_version"]
    assert [{"schema_version": version, **row} for row in document["heatmaps"]] == rows


@pytest.mark.parametrize("method", ["hires-cam", "layer-cam", "eigen-cam", "score-cam", "occlusion", "rise"])
def test_every_method_works_on_the_file_alone(method, file, images, tmp_path):
    arguments = ("--method", method, "--max-evals", 60, "--no-faithfulness", "--label", "dent", "--json")
    result = run(explain, images / "one.png", "--model", file, "--output", tmp_path / "m", *arguments)
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)
    assert row["deletion"] is None and row["forward_passes"] <= 62
    x, y = row["peak_xy"]
    assert 36 <= x <= 58 and 1 <= y <= 19


def test_a_second_method_keeps_the_numbers_of_the_first(file, images, tmp_path):
    out = tmp_path / "maps"
    for method in ("grad-cam", "eigen-cam", "grad-cam"):
        words = ("--model", file, "--output", out, "--method", method, "--no-faithfulness")
        assert run(explain, images / "one.png", *words).exit_code == 0
    rows = json.loads((out / "explanations.json").read_text())["heatmaps"]
    assert [row["method"] for row in rows] == ["eigen-cam", "grad-cam"], "and the same map has one row"
    (out / "explanations.json").write_text("{nonsense")
    assert run(explain, images / "one.png", *words).exit_code == 0
    assert len(json.loads((out / "explanations.json").read_text())["heatmaps"]) == 1


def test_explain_goes_on_after_a_broken_image(file, images, tmp_path):
    (images / "broken.png").write_bytes(b"no image")
    arguments = ("--output", tmp_path / "m", "--no-faithfulness")
    result = run(explain, images, "--model", file, *arguments)
    assert result.exit_code == 1
    assert "broken.png" in result.stdout
    assert len(json.loads((tmp_path / "m" / "explanations.json").read_text())["heatmaps"]) == 2


def test_explain_refuses_before_any_work(file, images, tmp_path):
    def refused(*arguments):
        return run(explain, images, "--model", file, "--output", tmp_path / "m", *arguments).exception

    assert isinstance(refused("--method", "gradcam"), UnknownName)
    assert isinstance(refused("--label", "dents"), UnknownName)
    assert isinstance(refused("--layer", "layer9"), UnknownName)
    assert isinstance(refused("--colormap", "rainbow"), UnknownName)
    (tmp_path / "taken").write_text("")
    assert run(explain, images, "--model", file, "--output", tmp_path / "taken").exit_code == 2
    explanation_path(file).unlink()
    assert isinstance(refused("--method", "grad-cam"), BadModelFile)
    assert refused("--max-evals", 30) is None, "without the graph, occlusion is what remains"
    assert (
        json.loads((tmp_path / "m" / "explanations.json").read_text())["heatmaps"][0]["method"] == "occlusion"
    )


def test_push_card_prints_the_model_card_without_sending(file):
    result = run(push, file, "--repo-id", "ada/dents", "--card")
    assert result.exit_code == 0 and "hf://ada/dents/model.onnx" in result.stdout


def test_export_refuses_a_file_without_images_to_compare_on(file):
    result = run(export, file, "--precision", "fp16")
    assert result.exception.code == "bad-input.no-images" and "--data" in str(result.exception)


def test_export_writes_a_file_of_the_hub_into_the_current_folder(file, monkeypatch):
    received: dict[Any, Any] = {}

    def record_reexport(source, **arguments):
        received.update(arguments, source=source)
        return read_model_file(file)

    monkeypatch.setattr("blemish.hub.local_file", lambda source, explanation: file)
    monkeypatch.setattr("blemish.export.reexport.reexport", record_reexport)
    assert run(export, "hf://ada/cells", "--precision", "fp16").exit_code == 0
    assert received["source"] == file
    assert received["output"] == Path("model-fp16.onnx"), "not into the cache"
    run(export, file, "--precision", "fp16")
    assert received["output"] is None
