"""Convert a graph to INT8: static quantization in QDQ format with ONNX Runtime's quantizer.

Weights have 8-bit integers with one scale per output channel, activations 8-bit integers with one scale per
tensor, from the ranges of calibration images. Weights use 7 of the 8 bits: then no sum of two products
overflows the 16-bit intermediate of processors without VNNI, and every processor computes the same integers.

As in half precision, nodes behind the last layer with weights stay float32: coordinates, scores and NMS.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ExportRefused, MissingExtra
from blemish.export.anonymous import make_anonymous
from blemish.export.int8_layers import LIGHT, WEIGHTED, find_layers, silu_inputs
from blemish.export.int8_statistics import Feeds, measure_activations, tensors_data
from blemish.export.int8_weights import rounded_layer
from blemish.models._logging_filter import silence

MAX_SIZE_SHARE = 0.75  # of the float32 graph's size; with more, too little was quantized to be of use
MIN_SILU_INPUT = -6.0  # x * sigmoid(x) is within 0.015 of 0 below; ranges down to the minimum are coarser
MAX_HEAD_SHARE = 0.1  # of all weights; larger heads are quantized like other layers


class Int8Graph:
    """A float32 graph with the ranges of its activations, from which INT8 graphs are built.

    Attributes:
        layers: every layer that can be quantized, in the order of the graph.
    """

    def __init__(
        self,
        graph: bytes,
        images: Iterable[Feeds],
        progress: Callable[[], None] | None = None,
        *,
        rounds_outputs: bool = True,
    ) -> None:
        """Measure the ranges of the activations.

        Args:
            graph: a serialized ONNX ModelProto in float32.
            images: inputs of single images, (1, c, h, w) float32 by input name.
            progress: called after each image.
            rounds_outputs: whether graphs round the outputs of layers and the arithmetic between them, or
                only the inputs of layers.

        Raises:
            ExportRefused: the graph cannot be quantized ("export-refused.no-int8").
            MissingExtra: `onnx` is not installed.
        """
        try:
            import onnx
        except ImportError as error:
            raise MissingExtra("few", "exporting in INT8") from error
        self._source_bytes = len(graph)
        self._rounds_outputs = rounds_outputs
        try:
            proto = onnx.load_from_string(graph)
            del proto.metadata_props[:]
            _name_nodes(proto.graph)
            with silence():
                self._proto = onnx.shape_inference.infer_shapes(proto)
        except Exception as error:
            raise _refused(error) from error
        self.layers = find_layers(self._proto.graph)
        if not self.layers:
            raise ExportRefused(
                "the graph cannot be converted to INT8: it has no convolution or linear layer with float32 "
                "weights",
                reason="no-int8",
            )
        try:
            with silence():
                self._activations = measure_activations(
                    self._proto, images, progress, [layer.name for layer in self.layers]
                )
        except Exception as error:
            raise _refused(error) from error

        self.use_ranges("mean")
        self._rounded: dict[str, dict[str, NDArray[np.float32]]] = {}

    def use_ranges(self, name: str) -> None:
        """Set the ranges of the activations.

        Args:
            name: `mean` of the extremes of each image, which clips outliers; or `extremes` of all images.
        """
        activations = self._activations
        ranges = dict(activations.extremes if name == "extremes" else activations.mean_ranges)
        for tensor in silu_inputs(self._proto.graph):
            if tensor in ranges:
                low, high = ranges[tensor]
                ranges[tensor] = max(low, MIN_SILU_INPUT), high
        self._ranges = ranges

    def kept_layers(self) -> tuple[str, ...]:
        """Return the layers that stay float32 in any case: the last ones if they are small, and the stem."""
        heads = [layer for layer in self.layers if layer.is_head]
        if sum(layer.weight_share for layer in heads) > MAX_HEAD_SHARE:
            heads = []
        return tuple(layer.name for layer in self.layers if layer in heads or layer.is_stem)

    def build(self, float_layers: Collection[str] = ()) -> bytes:
        """Return the INT8 graph as a serialized ModelProto without metadata.

        Args:
            float_layers: names of the layers that stay float32.

        Raises:
            ExportRefused: the quantizer failed ("export-refused.no-int8").
        """
        import onnx
        from onnxruntime.quantization import QDQQuantizer, QuantType

        quantized = [layer for layer in self.layers if layer.name not in float_layers]
        chosen = [n for layer in quantized for n in (layer.nodes if self._rounds_outputs else (layer.name,))]
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        if chosen:
            try:
                with silence():
                    self._write_rounded(proto, float_layers)
                    quantizer = QDQQuantizer(
                        proto,
                        per_channel=True,
                        reduce_range=True,
                        weight_qType=QuantType.QInt8,
                        activation_qType=QuantType.QUInt8,
                        tensors_range=tensors_data(self._ranges),
                        nodes_to_quantize=chosen,
                        nodes_to_exclude=[],
                        op_types_to_quantize=[*WEIGHTED, *LIGHT],
                        extra_options={
                            "WeightSymmetric": True,
                            "ActivationSymmetric": False,
                            # Else the limits of Relu and Clip exist only in the quantized copy, and layers in
                            # float32 would read values beyond them.
                            "QDQKeepRemovableActivations": True,
                            "OpTypesToExcludeOutputQuantization": [] if self._rounds_outputs else WEIGHTED,
                        },
                    )
                    quantizer.quantize_model()
                    quantizer.model.topological_sort()
                    proto = quantizer.model.model
                    _read_unquantized(proto.graph, set(chosen))
                    onnx.checker.check_model(proto)
            except Exception as error:
                raise _refused(error) from error
        make_anonymous(proto.graph)
        del proto.metadata_props[:]
        del proto.graph.value_info[:]  # the runtime infers them again
        proto.producer_name = proto.producer_version = proto.doc_string = ""
        return bytes(proto.SerializeToString())

    def _write_rounded(self, proto: Any, float_layers: Collection[str]) -> None:
        """Replace the weights and biases of quantized layers by rounded ones; each is computed once."""
        from onnx import numpy_helper

        values: dict[str, NDArray[np.float32]] = {}
        for layer in self.layers:
            if layer.name in float_layers:
                continue
            if layer.name not in self._rounded:
                self._rounded[layer.name] = rounded_layer(self._proto, layer, self._activations)
            values |= self._rounded[layer.name]
        for tensor in proto.graph.initializer:
            if tensor.name in values:
                tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))

    def check_size(self, graph: bytes) -> None:
        """Raise an error if an INT8 graph is hardly smaller than the float32 graph.

        Raises:
            ExportRefused: see `MAX_SIZE_SHARE` ("export-refused.not-smaller").
        """
        if len(graph) > MAX_SIZE_SHARE * self._source_bytes:
            raise ExportRefused(
                f"the INT8 graph has {len(graph) / self._source_bytes:.0%} of the float32 graph's size, more "
                f"than {MAX_SIZE_SHARE:.0%}: too many layers have to stay float32",
                reason="not-smaller",
            )


def _refused(error: Exception) -> ExportRefused:
    detail = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ExportRefused(f"the graph cannot be converted to INT8: {detail}", reason="no-int8")


def _name_nodes(graph: Any) -> None:
    """Give every node a name of its own; the quantizer selects nodes by name."""
    for i, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{i}"


def _read_unquantized(graph: Any, chosen: set[str]) -> None:
    """Let nodes that stay float32 read activations before they are quantized; drop what nothing reads."""
    producer = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.name in chosen or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for position, name in enumerate(node.input):
            dequantize = producer.get(name)
            if dequantize is None or dequantize.op_type != "DequantizeLinear":
                continue
            quantize = producer.get(dequantize.input[0])
            if quantize is not None and quantize.op_type == "QuantizeLinear":
                node.input[position] = quantize.input[0]
    outputs = {output.name for output in graph.output}
    while True:
        used = outputs | {name for node in graph.node for name in node.input}
        unused = [node for node in graph.node if not used.intersection(node.output)]
        if not unused:
            break
        for node in unused:
            graph.node.remove(node)
    kept = [t for t in graph.initializer if t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
