"""Add the features of unfamiliar images to the graph of a classifier: an output of the same forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from blemish.errors import BlemishError
from blemish.familiarity import fit_projection, make_spec
from blemish.few_shot.features import add_projection
from blemish.few_shot.trunk_graph import GraphParts
from blemish.imaging import open_image
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.inference.predictor import Predictor
from blemish.model_file import Contract
from blemish.structures import Sample

MAX_TRAIN_IMAGES = 400  # forward passes for mean and covariance
MAX_HELD_OUT_IMAGES = 400
MIN_TRAIN_IMAGES = 16
FEATURES = "penultimate"


def add_familiarity(
    graph: bytes, contract: Contract, train: Sequence[Sample], held_out: Sequence[Sample]
) -> tuple[bytes, Contract]:
    """Return the graph with the projected features as a further output, and the contract that names it.

    The features are the input of the last matrix product before the scores. Both are unchanged if the
    network has none, as detectors do, or if there are too few images.

    Args:
        graph: a serialized ONNX ModelProto.
        contract: for the graph.
        train: the training images.
        held_out: the validation images.
    """
    model = onnx.load_from_string(graph)
    name = penultimate_features(model.graph, contract.outputs[0].name)
    if not contract.task.is_image_level or name is None or len(train) < MIN_TRAIN_IMAGES or not held_out:
        return graph, contract
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.node.append(helper.make_node("Identity", [name], [FEATURES]))
    probe.graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, None))
    backend = OnnxRuntimeBackend(probe.SerializeToString(), device="cpu")
    predictor = Predictor(backend, contract)
    learned, _, _ = _features(predictor, _evenly(train, MAX_TRAIN_IMAGES))
    known, scores, groups = _features(predictor, _evenly(held_out, MAX_HELD_OUT_IMAGES))
    if len(learned) < MIN_TRAIN_IMAGES or not len(known) or known.ndim != 2:
        return graph, contract
    projection = fit_projection(learned)
    parts = GraphParts()
    output = add_projection(parts, name, projection)
    model.graph.node.extend(parts.nodes)
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in parts.constants.items())
    shape = ["batch", projection.dimensions]
    model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, shape))
    onnx.checker.check_model(model)
    spec = make_spec(projection, known, scores, groups)
    return bytes(model.SerializeToString()), contract.model_copy(update={"familiarity": spec})


def penultimate_features(graph: onnx.GraphProto, output: str) -> str | None:
    """Return the name of the input of the last matrix product with constant weights before an output.

    Args:
        graph: with its weights as initializers.
        output: the scores.

    Returns:
        None if another operation that mixes features comes after every matrix product.
    """
    weights = {initializer.name for initializer in graph.initializer}
    producers = {value: node for node in graph.node for value in node.output}
    name = output
    while node := producers.get(name):
        if node.op_type in ("Gemm", "MatMul") and len(node.input) > 1 and node.input[1] in weights:
            return str(node.input[0])
        values = [value for value in node.input if value and value not in weights]
        if len(values) != 1:
            return None
        name = values[0]
    return None


def _features(
    predictor: Predictor, samples: Sequence[Sample]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Return features, label scores and groups of the images that can be read."""
    from blemish.decoding import decode

    rows, scores, groups = [], [], []
    for sample in samples:
        try:
            prepared = predictor.prepare(open_image(sample.path))
        except BlemishError:  # the data checks list it
            continue
        outputs = predictor.run([prepared])
        rows.append(outputs[FEATURES][0].astype(np.float64))
        scores.append(decode(predictor.contract, outputs, [prepared.placement])[0].label_scores)
        groups.append(f"image:{sample.id}" if sample.group is None else f"group:{sample.group}")
    return np.array(rows), np.array(scores), groups


def _evenly(samples: Sequence[Sample], count: int) -> list[Sample]:
    positions = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    return [samples[i] for i in np.unique(positions)]
