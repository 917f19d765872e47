"""Feature maps and exact gradients without torch: the graph that lies beside a model file.

`model.onnx` has `model.explain.onnx` beside it: the same network in float32, which takes a weight for each
output as well and gives its feature maps and the gradients of the weighted sum of its outputs. One
label's gradient is that of the weights that are 1 at the label and 0 elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from blemish.errors import BadModelFile
from blemish.explanation.heatmap_coordinates import ReceptiveGrid
from blemish.model_file import ModelFile

EXPLANATION_KEY = "blemish.explanation"
SELECTOR = "selector"


class GradientSource(Protocol):
    """Whatever gives feature maps and gradients: the file beside the model, or the torch network.

    Attributes:
        layers: the network's own names of the layers, one a feature map.
        output_count: how many numbers the network says of an image.
    """

    layers: tuple[str, ...]
    output_count: int

    def lattice(self, layer: str) -> ReceptiveGrid | None:
        """Where the cells of a layer's map look; None where nobody measured it."""

    def look(
        self,
        feeds: Mapping[str, np.ndarray],
        selector: np.ndarray,
        near_xyxy: np.ndarray | None = None,
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Features and gradients, each a (b, c, h, w) float32 array a layer.

        Args:
            feeds: by input name, (b, c, h, w) float32.
            selector: (b, output_count) float32, the weight of each output in the explained score.
            near_xyxy: (b, 4) corners in pixels of the first input: of which object's score, for detectors
                and segmenters, whose scores are otherwise those of the image's best candidate.
        """


def explanation_path(model: Path) -> Path:
    """Where the explanation graph of a model file lies: `model.onnx` -> `model.explain.onnx`."""
    return model.with_suffix(".explain.onnx")


class GradientGraph:
    """The explanation graph beside a model file, run by ONNX Runtime.

    Raises:
        BadModelFile: it is missing, damaged, or belongs to another model.
    """

    def __init__(self, model_file: ModelFile, *, threads: int | None = None) -> None:
        import onnxruntime

        path = explanation_path(model_file.path)
        if not path.is_file():
            raise BadModelFile(
                f"{path}: there is no explanation graph beside the model; export the model again, or use "
                "--method occlusion or rise, which need none"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            facts: dict[str, Any] = json.loads(
                self._session.get_modelmeta().custom_metadata_map[EXPLANATION_KEY]
            )
        except Exception as error:
            raise BadModelFile(f"{path}: this is no explanation graph; export the model again") from error
        if model_file.graph_digest not in facts["graph_digests"]:
            raise BadModelFile(f"{path}: this explains another model than {model_file.path}; export it again")
        self._path = path
        self.layers = tuple(facts["layers"])
        self.output_count = int(facts["output_count"])
        self._lattices = {
            name: ReceptiveGrid(tuple(found["start_yx"]), tuple(found["stride_yx"]))
            for name, found in facts.get("lattices", {}).items()
        }

    def lattice(self, layer: str) -> ReceptiveGrid | None:
        """Where the cells of a layer's map look, as it was measured when the graph was written."""
        return self._lattices.get(layer)

    def look(
        self,
        feeds: Mapping[str, np.ndarray],
        selector: np.ndarray,
        near_xyxy: np.ndarray | None = None,
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Features and gradients, each a (b, c, h, w) float32 array a layer; no graph knows objects."""
        assert near_xyxy is None  # noqa: S101  (graphs are written for tasks with one answer)
        try:
            outputs = self._session.run(None, {**feeds, SELECTOR: selector.astype(np.float32)})
        except Exception as error:  # ONNX Runtime's exceptions share no class of their own
            raise BadModelFile(f"{self._path}: the explanation graph cannot be run; export again") from error
        count = len(self.layers)
        return list(outputs[:count]), list(outputs[count:])
