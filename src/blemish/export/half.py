"""A graph in half precision: half the bytes, and faster where the processor computes with 16 bits."""

from __future__ import annotations

from blemish.errors import ExportRefused, MissingExtra
from blemish.export.onnx import make_anonymous, quiet

LARGEST_SHARE = 0.505  # of the float32 graph's size; anything more means that weights were left behind


def to_half(graph: bytes) -> bytes:
    """The same graph with float16 weights and arithmetic; inputs and outputs stay float32.

    What float16 cannot do safely (suppression, ranges, sums along an axis) stays float32, with casts around
    it. Processors without float16 arithmetic run the file in float32, on the rounded weights.

    Args:
        graph: a serialised ONNX ModelProto in float32.

    Returns:
        A serialised ModelProto without metadata.

    Raises:
        ExportRefused: the graph cannot be converted, or hardly gets smaller.
        MissingExtra: `onnx` is not installed.
    """
    try:
        import onnx
        import onnx_ir
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise MissingExtra("train", "exporting in half precision") from error
    model = onnx.load_from_string(graph)
    del model.metadata_props[:]
    try:
        with quiet():
            converted = onnx_ir.from_proto(convert_float_to_float16(model, keep_io_types=True))
            converted.graph.sort()  # the converter appends its casts, and nodes must follow their inputs
            half = onnx_ir.to_proto(converted)
            onnx.checker.check_model(half)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportRefused(f"the graph cannot be converted to float16: {reason}") from error
    make_anonymous(half.graph)
    data = bytes(half.SerializeToString())
    if len(data) > LARGEST_SHARE * len(graph):
        raise ExportRefused(
            f"the float16 graph takes {len(data) / len(graph):.0%} of the float32 one, more than "
            f"{LARGEST_SHARE:.1%}: it is float16 already, or hardly holds weights"
        )
    return data
