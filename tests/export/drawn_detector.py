"""A small detector with SiLU as a model file, and drawn images of its two labels; without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper
from PIL import Image
from tests.inference import tiny_models

from blemish.model_file import DecoderSpec, InputSpec, ModelFile, OutputSpec, write_model_file
from blemish.structures import Task

SIDE, CELL = 32, 8
CELLS = SIDE // CELL
LABELS = ("light", "dark")


def detector_graph(seed: int = 0) -> bytes:
    """Return a graph whose candidates are the cells; two filters measure brightness, others are random."""
    rng = np.random.default_rng(seed)
    constants: dict[str, Any] = {
        "w1": rng.normal(0, 0.1, (16, 3, 3, 3)),
        "w2": rng.normal(0, 0.05, (16, 16, 3, 3)),
        "w3": rng.normal(0, 0.05, (32, 16, 3, 3)),
        "w4": rng.normal(0, 0.02, (8, 32, 1, 1)),
        "w5": np.zeros((2, 8, 1, 1)),
    }
    constants["w1"][:2] = np.array([1 / 27, -1 / 27])[:, None, None, None]
    for name in ("w2", "w3"):
        constants[name][:2] = 0
        constants[name][[0, 1], [0, 1], 1, 1] = 1
    constants["w4"][:2] = 0
    constants["w4"][[0, 1], [0, 1]] = 1
    constants["w5"][[0, 1], [0, 1]] = 45
    constants["b5"] = np.array([-6.5, -6.5])
    center = (np.arange(CELLS) + 0.5) * CELL
    y, x = (grid.ravel() for grid in np.meshgrid(center, center, indexing="ij"))
    constants["boxes"] = np.stack([x, y, np.full_like(x, CELL), np.full_like(x, CELL)])[None]
    constants = {name: np.asarray(array, np.float32) for name, array in constants.items()}
    constants["cells"] = np.array([0, 2, CELLS * CELLS])
    constants["rest"] = np.array([4, CELLS * CELLS])
    nodes = []
    last = "image"
    for i in "123":
        how = {"pads": [1, 1, 1, 1], "strides": [2, 2]}
        nodes += [
            helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], **how),
            helper.make_node("Sigmoid", [f"c{i}"], [f"s{i}"]),
            helper.make_node("Mul", [f"c{i}", f"s{i}"], [f"a{i}"]),
        ]
        last = f"a{i}"
    nodes += [
        helper.make_node("Conv", ["a3", "w4"], ["c4"]),
        helper.make_node("Conv", ["c4", "w5", "b5"], ["c5"]),
        helper.make_node("Reshape", ["c5", "cells"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Shape", ["image"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "rest"], ["shape"], axis=0),
        helper.make_node("Expand", ["boxes", "shape"], ["all_boxes"]),
        helper.make_node("Concat", ["all_boxes", "scores"], ["candidates"], axis=1),
    ]
    shape = (None, 4 + len(LABELS), CELLS * CELLS)
    return tiny_models.serialised(
        nodes, {"image": (None, 3, SIDE, SIDE)}, {"candidates": shape}, constants, opset=20
    )


def write_detector(path: Path) -> ModelFile:
    """Write the network as a model file of a detection of light and dark squares."""
    settings = {"box_format": "cxcywh", "channels_first": True, "multi_label": False, "min_score": 0.3}
    contract = tiny_models.contract(
        Task.DETECTION,
        LABELS,
        inputs=(InputSpec(size_hw=(SIDE, SIDE)),),
        outputs=(OutputSpec(name="candidates", role="combined", activation="probabilities"),),
        decoder=DecoderSpec(name="dense", settings=settings),
    )
    return write_model_file(path, detector_graph(), contract)


def drawn_objects(folder: Path, count: int = 12) -> Path:
    """Write gray images with one light and one dark square, and their boxes in the layout of YOLO."""
    rng = np.random.default_rng(1)
    for kind in ("images", "labels"):
        (folder / kind / "val").mkdir(parents=True)
    for i in range(count):
        pixels = rng.normal(120, 8, (SIDE, SIDE, 3))
        lines = []
        for label, cell in enumerate(rng.permutation(CELLS * CELLS)[:2]):
            row, column = divmod(int(cell), CELLS)
            area = slice(row * CELL, (row + 1) * CELL), slice(column * CELL, (column + 1) * CELL)
            pixels[area] += (110, -110)[label]
            box = ((column + 0.5) / CELLS, (row + 0.5) / CELLS, 1 / CELLS, 1 / CELLS)
            lines.append(" ".join([str(label), *map(str, box)]))
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(folder / "images" / "val" / f"{i}.png")
        (folder / "labels" / "val" / f"{i}.txt").write_text("\n".join(lines) + "\n")
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(LABELS))
    (folder / "data.yaml").write_text(f"path: .\ntrain: images/val\nval: images/val\nnames:\n{names}")
    return folder
