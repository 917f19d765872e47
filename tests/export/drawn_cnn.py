"""A small convolutional network as a model file, and drawn images of its two labels; without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper
from PIL import Image
from tests.inference import tiny_models

from blemish.model_file import ModelFile, write_model_file

SIDE = 16
LABELS = ("fine", "dented")


def cnn_graph(seed: int = 0, *, opset: int = 20) -> bytes:
    """Return a graph of three convolutions, one with a residual sum, and a linear head behind a pooling.

    The first filters and the head measure how bright the image is; the others are random.
    """
    rng = np.random.default_rng(seed)
    constants: dict[str, Any] = {
        "w1": rng.normal(0, 0.2, (16, 3, 3, 3)),
        "b1": rng.normal(0, 0.1, 16),
        "w2": rng.normal(0, 0.1, (16, 16, 3, 3)),
        "b2": rng.normal(0, 0.1, 16),
        "w3": rng.normal(0, 0.1, (32, 16, 1, 1)),
        "b3": rng.normal(0, 0.1, 32),
        "w4": rng.normal(0, 0.05, (32, 8)),
        "b4": np.zeros(8),
        "w5": rng.normal(0, 0.05, (8, 2)),
        "b5": np.zeros(2),
    }
    constants["w1"][0] = 0.05
    constants["w3"][0, 0] = 1
    constants["w4"][0, 0] = 1
    constants["w5"][0] = (-4, 4)
    constants["b5"] = np.array([1.5, -1.5])
    constants = {name: np.asarray(array, np.float32) for name, array in constants.items()}
    pad = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], **pad),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], **pad),
        helper.make_node("Add", ["c2", "r1"], ["a2"]),
        helper.make_node("Relu", ["a2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"]),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("GlobalAveragePool", ["r3"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w4", "b4"], ["g4"]),
        helper.make_node("Gemm", ["g4", "w5", "b5"], ["logits"]),
    ]
    return tiny_models.serialised(
        nodes, {"image": (None, 3, SIDE, SIDE)}, {"logits": (None, 2)}, constants, opset=opset
    )


def drawn_images(folder: Path, count: int = 12) -> Path:
    """Write images in one folder per label; images of the second label are bright."""
    rng = np.random.default_rng(1)
    for label, level in zip(LABELS, (60, 200), strict=True):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            noise = rng.normal(level, 25, (4, 4, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).resize((24, 24)).save(folder / label / f"{i}.png")
    return folder


def write_cnn(path: Path, **fields: Any) -> ModelFile:
    """Write the network as a model file of a classification of fine and dented."""
    return write_model_file(path, cnn_graph(), tiny_models.contract(size_hw=(SIDE, SIDE), **fields))
