"""Feature maps and exact gradients without torch: the explanation graph next to a model file.

`model.onnx` may have `model.explain.onnx` in the same folder: the same network in float32 with one more
input, a weight per output, and with two kinds of outputs, its feature maps and the gradients of the weighted
sum of its outputs. The gradient of one label has the weight 1 at the label and 0 elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from blemish.errors import BadModelFile, NetworkTooSlow
from blemish.explanation.heatmap_coordinates import ReceptiveGrid
from blemish.model_file import ModelFile
from blemish.model_file import explanation_path as explanation_path
from blemish.model_file.run_limit import MAX_RUN_SECONDS, run_session

EXPLANATION_KEY = "blemish.explanation"
SELECTOR = "selector"


class GradientSource(Protocol):
    """Computes feature maps and gradients: the explanation graph, or the torch network.

    Attributes:
        layers: the network's names of the layers, one per feature map.
        output_count: number of values that the network outputs per image.
    """

    layers: tuple[str, ...]
    output_count: int

    def receptive_grid(self, layer: str) -> ReceptiveGrid | None:
        """Return the positions of the cells of a layer's feature map; None if they were not measured."""

    def features_and_gradients(
        self,
        feeds: Mapping[str, np.ndarray],
        selector: np.ndarray,
        near_xyxy: np.ndarray | None = None,
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return features and gradients, each a list of one (b, c, h, w) float32 array per layer.

        Args:
            feeds: by input name, (b, c, h, w) float32.
            selector: (b, output_count) float32, the weight of each output in the explained score.
            near_xyxy: (b, 4) boxes in pixels of the first input, for models with detections: the score is
                that of the object there. Default: that of the best candidate of the image.
        """


class GradientGraph:
    """The explanation graph of a model file, run by ONNX Runtime.

    Args:
        model_file: the model file.
        threads: CPU threads. Default: ONNX Runtime's.

    Raises:
        BadModelFile: the graph is missing, damaged, or belongs to another model.
    """

    def __init__(self, model_file: ModelFile, *, threads: int | None = None) -> None:
        import onnxruntime

        path = explanation_path(model_file.path)
        if not path.is_file():
            raise BadModelFile(
                f"{path}: this explanation graph does not exist. Export the model again, or use a method "
                "that needs none, such as --method occlusion or rise.",
                reason="no-explanation-graph",
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            facts: dict[str, Any] = json.loads(
                self._session.get_modelmeta().custom_metadata_map[EXPLANATION_KEY]
            )
        except Exception as error:
            raise BadModelFile(
                f"{path}: not an explanation graph. Export the model again.", reason="bad-explanation-graph"
            ) from error
        if model_file.graph_digest not in facts["graph_digests"]:
            raise BadModelFile(
                f"{path}: this explanation graph belongs to another model than {model_file.path}. Export the "
                "model again.",
                reason="other-explanation-graph",
            )
        self._path = path
        self.layers = tuple(facts["layers"])
        self.output_count = int(facts["output_count"])
        self._receptive_grids = {
            name: ReceptiveGrid(tuple(grid["start_yx"]), tuple(grid["stride_yx"]))
            for name, grid in facts.get("receptive_grids", facts.get("lattices", {})).items()
        }

    def receptive_grid(self, layer: str) -> ReceptiveGrid | None:
        """Return the positions of a layer's cells, as they were measured when the graph was written."""
        return self._receptive_grids.get(layer)

    def features_and_gradients(
        self,
        feeds: Mapping[str, np.ndarray],
        selector: np.ndarray,
        near_xyxy: np.ndarray | None = None,
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return features and gradients; see `GradientSource`. A graph has no objects for `near_xyxy`."""
        assert near_xyxy is None  # noqa: S101  (graphs are written for tasks without detections)
        try:
            outputs = run_session(
                self._session,
                None,
                {**feeds, SELECTOR: selector.astype(np.float32)},
                max_seconds=MAX_RUN_SECONDS,
                place=str(self._path),
            )
        except NetworkTooSlow:
            raise
        except Exception as error:  # ONNX Runtime's exceptions have no common class
            raise BadModelFile(
                f"{self._path}: ONNX Runtime cannot run the explanation graph. Export the model again.",
                reason="bad-explanation-graph",
            ) from error
        count = len(self.layers)
        return list(outputs[:count]), list(outputs[count:])


def set_explanation_facts(graph: bytes, facts: Mapping[str, Any]) -> bytes:
    """Return the explanation graph with its metadata; see `GradientGraph`.

    Args:
        graph: a serialized ModelProto; its metadata are replaced.
        facts: `graph_digests` of the model files that it explains, `layers`, `output_count`, and the measured
            `receptive_grids` by layer.
    """
    import onnx

    model = onnx.load_from_string(graph)
    onnx.helper.set_model_props(model, {EXPLANATION_KEY: json.dumps(facts)})
    return bytes(model.SerializeToString())
