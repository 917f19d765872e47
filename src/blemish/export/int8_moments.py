"""Measure which inputs of a layer vary together, so that rounded weights can make up for others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

MAX_INPUTS = (
    2304  # numbers that one output of a layer reads, 256 channels of 3 x 3; larger layers are left out
)
MIN_ROWS = 2  # sampled rows for each of these numbers, or the moments would be those of the sample alone
IMAGES = 64
POSITIONS = 128  # of each layer and image


class InputMoments:
    """The second moments of the inputs of layers, from sampled positions of calibration images.

    Attributes:
        tensors: names of the tensors that `add` reads.
    """

    def __init__(self, graph: Any, layer_names: Sequence[str]) -> None:
        """Choose the layers whose inputs can be sampled: two-dimensional convolutions and linear layers."""
        sizes = {t.name: tuple(t.dims) for t in graph.initializer}
        chosen = set(layer_names)
        self._nodes = [
            node
            for node in graph.node
            if node.name in chosen
            and _is_plain(node, sizes[node.input[1]])
            and _input_count(node, sizes[node.input[1]]) <= MAX_INPUTS
        ]
        self._sizes = {node.name: sizes[node.input[1]] for node in self._nodes}
        self._sums: dict[str, NDArray[np.float32]] = {}
        self._rows: dict[str, int] = {}
        self._rng = np.random.default_rng(0)
        self.tensors = tuple(sorted({node.input[0] for node in self._nodes}))

    def add(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Add the inputs of one image.

        Args:
            values: `tensors` by name, (n, c, h, w) of convolutions and (..., m) of linear layers.
        """
        for node in self._nodes:
            size = self._sizes[node.name]
            if node.op_type == "Conv":
                rows = self._patches(node, size, values[node.input[0]])
            else:
                flat = values[node.input[0]].reshape(-1, size[1] if _is_transposed(node) else size[0])
                rows = flat[self._rng.permutation(len(flat))[:POSITIONS]]
            self._sums[node.name] = self._sums.get(node.name, np.float32(0)) + rows.T @ rows
            self._rows[node.name] = self._rows.get(node.name, 0) + len(rows)

    def moments(self) -> dict[str, NDArray[np.float32]]:
        """Return (m, m) means of products by layer; layers with few samples are left out."""
        return {
            name: total / np.float32(self._rows[name])
            for name, total in self._sums.items()
            if self._rows[name] >= MIN_ROWS * len(total)
        }

    def _patches(self, node: Any, size: tuple[int, ...], values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (k, c * kernel) inputs of random outputs, in the order of the weights."""
        top, left, bottom, right = _integers(node, "pads", [0, 0, 0, 0])
        down, across = _integers(node, "strides", [1, 1])
        padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
        windows = sliding_window_view(padded, size[2:], (2, 3))[:, :, ::down, ::across]
        count, _, height, width = windows.shape[:4]
        places = count * height * width
        at = self._rng.choice(places, min(places, POSITIONS), replace=False)
        images, at = np.divmod(at, height * width)
        return windows[images, :, at // width, at % width].reshape(len(at), -1)


def _is_plain(node: Any, size: tuple[int, ...]) -> bool:
    """Return whether the inputs of each output are a window of the input, or a row of it."""
    values = {a.name: a for a in node.attribute}
    if node.op_type != "Conv":
        return len(size) == 2 and not ("transA" in values and values["transA"].i)
    return (
        len(size) == 4
        and ("group" not in values or values["group"].i == 1)
        and ("auto_pad" not in values or values["auto_pad"].s == b"NOTSET")
        and set(_integers(node, "dilations", [1])) == {1}
    )


def _input_count(node: Any, size: tuple[int, ...]) -> int:
    if node.op_type == "Conv":
        return int(np.prod(size[1:]))
    return size[1] if _is_transposed(node) else size[0]


def _is_transposed(node: Any) -> bool:
    return node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)


def _integers(node: Any, name: str, default: list[int]) -> list[int]:
    return next((list(a.ints) for a in node.attribute if a.name == name and a.ints), default)
