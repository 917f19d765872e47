"""Exports of a finished run in fp32 and fp16."""

import shutil
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from blemish.config.recipe import Recipe
from blemish.explanation.gradient_graph import GradientGraph, explanation_path
from blemish.export import onnx_export
from blemish.export.explanation_graph import write_explanation
from blemish.export.fp16 import to_half
from blemish.export.reexport import reexport
from blemish.imaging import open_image
from blemish.inference import load
from blemish.model_file import Contract, LabelSpec, read_graph, read_model_file, write_model_file
from blemish.models import create
from blemish.preprocessing import prepare
from blemish.testing import raises

LABELS = ("broken", "whole")
MODEL = {"name": "resnet18", "input_size": 32, "weights": "none"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder: recipe, split, weights, model file and explanation graph, and its images."""
    root = tmp_path_factory.mktemp("run")
    generator = np.random.default_rng(0)
    split = ["id,split"]
    for label in LABELS:
        (root / "data" / label).mkdir(parents=True)
        for i in range(8):
            small = generator.integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(small).resize((40, 40)).save(root / "data" / label / f"{i}.png")
            split.append(f"{label}/{i}.png,{'train' if i < 4 else 'val'}")
    torch.manual_seed(0)
    network: Any = create("resnet18", task="classification", label_count=2, input_size=32).eval()
    photos = sorted((root / "data").rglob("*.png"))
    batch = np.stack([prepare(open_image(p), network.inputs[0])[0] for p in photos])
    with torch.no_grad():
        network.head[-1].weight.mul_(50)
        network.head[-1].bias.sub_(network(torch.from_numpy(batch))[0].mean(0))
    recipe = Recipe.model_validate(
        {"name": "x", "model": MODEL, "data": {"path": str(root / "data")}, "task": "classification"}
    )
    (root / "recipe.yaml").write_text(recipe.to_yaml())
    (root / "split.csv").write_text("\n".join(split) + "\n")
    save_file(network.state_dict(), root / "weights.safetensors")
    contract = Contract(
        architecture="resnet18",
        task=network.task,
        labels=[LabelSpec(name=n, display_name=n.title()) for n in LABELS],
        inputs=network.inputs,
        outputs=network.outputs,
        decoder=network.decoder,
    )
    file = write_model_file(root / "model.onnx", onnx_export.export_network(network), contract)
    write_explanation(network, file)
    return root


def test_fp16_is_half_the_size_certified_and_explained(run):
    made = reexport(run, precision="fp16")
    assert made.path == run / "model-fp16.onnx"
    full = read_model_file(run / "model.onnx")
    assert made.path.stat().st_size <= 0.505 * full.path.stat().st_size
    proof = made.contract.certificate
    assert proof.passed and proof.precision == "fp16" and proof.images == 8
    assert 1e-6 < proof.max_difference < 0.05, "half precision is not exact, and not far off"
    assert proof.graph_digest == made.graph_digest != full.graph_digest
    assert proof.metric == "macro_f1" and proof.metric_before is not None
    graph = onnx.load(made.path).graph
    assert {x.type.tensor_type.elem_type for x in (*graph.input, *graph.output)} == {onnx.TensorProto.FLOAT}
    photo = run / "data" / "broken" / "5.png"
    before, after = (load(path).predict(photo).label_scores for path in (full.path, made.path))
    assert np.abs(before - after).max() < 0.05
    assert GradientGraph(made).layers == GradientGraph(full).layers
    assert explanation_path(made.path).name == "model-fp16.explain.onnx"


def test_to_half_refuses_a_float16_graph(run):
    half = to_half(read_graph(run / "model.onnx"))
    with raises("export-refused.not-smaller", "float16"):
        to_half(half)


def test_reexport_fp32_gives_the_same_graph(run, tmp_path):
    made = reexport(run, precision="fp32", output=tmp_path / "again.onnx")
    assert made.graph_digest == read_model_file(run / "model.onnx").graph_digest
    assert made.contract.certificate.passed
    assert GradientGraph(made).output_count == 2


def test_reexport_of_a_file_without_its_run_needs_data(run, tmp_path):
    lonely = tmp_path / "model.onnx"
    shutil.copy(run / "model.onnx", lonely)
    with raises("bad-input.no-images", "model.onnx", "--data"):
        reexport(lonely, precision="fp16")
    made = reexport(lonely, precision="fp16", data=run / "data")
    assert made.contract.certificate.images == 16
    with raises("bad-input.no-weights", "model.onnx", "fp16"):
        reexport(lonely, precision="fp32")


def test_reexport_refuses_a_metric_drop_unless_forced(run, tmp_path, monkeypatch):
    """The weights are corrupted during the export: the metric drops, and the certificate states it."""
    data = run / "data"

    def ruined(graph):
        model = onnx.load_from_string(to_half(graph))
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if "head" in tensor.name and values.ndim == 2 and values.shape[0] == 2:
                tensor.CopyFrom(onnx.numpy_helper.from_array(values[::-1].copy(), tensor.name))
        return model.SerializeToString()

    full = load(run / "model.onnx")
    for label, index in zip(LABELS, (0, 1), strict=True):  # truths that the model gets right
        (tmp_path / "d" / label).mkdir(parents=True)
        for photo in sorted(data.rglob("*.png")):
            if full.predict(photo).label_index[0] == index:
                shutil.copy(photo, tmp_path / "d" / label / f"{photo.parent.name}-{photo.name}")
    monkeypatch.setattr("blemish.export.fp16.to_half", ruined)
    target = tmp_path / "bad.onnx"
    with raises("export-refused.not-certified", target, "macro_f1", "1.0000", "--force"):
        reexport(run / "model.onnx", precision="fp16", data=tmp_path / "d", output=target)
    assert not target.exists()
    made = reexport(run, precision="fp16", data=tmp_path / "d", output=target, force=True)
    assert not made.contract.certificate.passed and "macro_f1" in made.contract.certificate.reasons[0]
    allowed = reexport(run, precision="fp16", data=tmp_path / "d", output=target, max_drop=1.0)
    assert allowed.contract.certificate.passed and allowed.contract.certificate.decisions_changed > 0


def copied(run, folder):
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("data", "*fp16*"))
    return folder


@pytest.mark.parametrize("left", [0, 1000, -1000])
def test_reexport_names_damaged_weights(left, run, tmp_path):
    damaged = copied(run, tmp_path / "run")
    whole = (run / "weights.safetensors").read_bytes()
    (damaged / "weights.safetensors").write_bytes(whole[:left])
    with raises("bad-weights.unreadable", "weights.safetensors"):
        reexport(damaged)


@pytest.mark.parametrize("content", [b"nonsense\n1\n", b"\xff\xfe\x00", b"id\na\n"])
def test_reexport_names_a_damaged_split_file(content, run, tmp_path):
    damaged = copied(run, tmp_path / "run")
    (damaged / "split.csv").write_bytes(content)
    with raises("bad-input.split-file", "split.csv"):
        reexport(damaged, precision="fp16")


def test_reexport_finds_the_images_of_a_moved_run(run, tmp_path, monkeypatch):
    """`--data data` relative to an earlier working directory, which contains the run."""
    moved = copied(run, tmp_path / "runs" / "first")
    shutil.copytree(run / "data", tmp_path / "data")
    recipe = (moved / "recipe.yaml").read_text()
    (moved / "recipe.yaml").write_text(recipe.replace(str(run / "data"), "data"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert reexport(moved, precision="fp16").contract.certificate.images == 8


def test_reexport_does_not_overwrite_its_source(run):
    before = (run / "model.onnx").read_bytes()
    with raises("bad-input.output-is-source", "model.onnx", "--output"):
        reexport(run, precision="fp16", output=run / "data" / ".." / "model.onnx")
    assert (run / "model.onnx").read_bytes() == before


def test_reexport_names_an_unknown_precision_and_an_unfinished_run(run, tmp_path):
    with raises("unknown-name.precision", "f16", "'fp16'"):
        reexport(run, precision="f16")
    with raises("bad-input.unfinished-run", tmp_path, "--resume"):
        reexport(tmp_path, precision="fp16")
