"""The familiarity output of exported classifiers."""

import numpy as np
import onnx
import pytest

from blemish.data.synthetic import write_panels
from blemish.export.familiarity import add_familiarity, penultimate_features
from blemish.few_shot.trunk_graph import GraphParts
from blemish.inference import Predictor
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec
from blemish.structures import Task


def small_graph():
    rng = np.random.default_rng(0)
    parts = GraphParts()
    kernel = parts.constant("kernel", rng.normal(size=(12, 3, 5, 5)).astype(np.float32))
    maps = parts.add("Relu", [parts.add("Conv", ["image", kernel], "conv")], "relu")
    pooled = parts.add("Flatten", [parts.add("GlobalAveragePool", [maps], "pool")], "flat", axis=1)
    weight = parts.constant("weight", rng.normal(size=(12, 2)).astype(np.float32))
    product = parts.add("MatMul", [pooled, weight], "product")
    parts.add("Add", [product, parts.constant("bias", np.zeros(2, np.float32))], "scores")
    return parts.to_bytes({"image": ("batch", 3, 32, 32)}, {"scores": ("batch", 2)})


@pytest.fixture
def contract():
    return Contract(
        architecture="small",
        task=Task.CLASSIFICATION,
        labels=(LabelSpec(name="a", display_name="A"), LabelSpec(name="b", display_name="B")),
        inputs=(InputSpec(size_hw=(32, 32)),),
        outputs=(OutputSpec(name="scores", role="scores", activation="logits"),),
        decoder=DecoderSpec(name="scores"),
    )


def test_penultimate_features_is_the_input_of_the_last_product():
    graph = onnx.load_from_string(small_graph()).graph
    assert penultimate_features(graph, "scores") == "flat"
    assert penultimate_features(graph, "pool") is None and penultimate_features(graph, "none") is None


def test_add_familiarity_keeps_the_scores_and_finds_unfamiliar_images(contract, tmp_path):
    data = write_panels(tmp_path, 60, 0, layout="images", task=Task.CLASSIFICATION, size_hw=(64, 64))
    samples = data.samples
    graph, extended = add_familiarity(small_graph(), contract, samples[:40], samples[40:])
    spec = extended.familiarity
    groups = {sample.group for sample in samples[40:]}
    assert spec is not None and spec.train_images == 40 and len(spec.distances) == len(groups)
    predictor = Predictor(OnnxRuntimeBackend(graph, device="cpu"), extended)
    before = Predictor(OnnxRuntimeBackend(small_graph(), device="cpu"), contract)
    path = samples[0].path
    assert np.array_equal(predictor.predict(path).label_scores, before.predict(path).label_scores)
    assert before.predict(path).familiarity is None
    judged = [p.familiarity for p in predictor.predict([s.path for s in samples[40:]])]
    distances = np.array([j.distance for j in judged])
    assert all(np.abs(distances - d).min() < 2e-3 for d in spec.distances)  # of one image of each group
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert predictor.predict(noise).familiarity.unfamiliar


def test_add_familiarity_of_too_few_images_changes_nothing(contract, tmp_path):
    graph = small_graph()
    assert add_familiarity(graph, contract, (), ()) == (graph, contract)
