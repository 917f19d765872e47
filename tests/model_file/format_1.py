"""Model files of format 1, byte for byte as Blemish wrote them before format 2, made by code."""

import json
import struct

GRAPH_NAME = "recorded"
SIZE_HW = (8, 8)


def _varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _bytes_field(number, payload):
    payload = payload.encode() if isinstance(payload, str) else payload
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _int_field(number, value):
    return _varint(number << 3) + _varint(value)


def _tensor(name, values, shape, *, integers=False):
    """TensorProto of float32 or int64."""
    data = struct.pack(f"<{len(values)}{'q' if integers else 'f'}", *values)
    dims = b"".join(_int_field(1, n) for n in shape)
    return dims + _int_field(2, 7 if integers else 1) + _bytes_field(8, name) + _bytes_field(9, data)


def _node(operator, inputs, output, **integers):
    attributes = b"".join(
        _bytes_field(5, _bytes_field(1, name) + _int_field(3, value) + _int_field(20, 2))
        for name, value in integers.items()
    )
    names = b"".join(_bytes_field(1, name) for name in inputs) + _bytes_field(2, output)
    return names + _bytes_field(4, operator) + attributes


def _value_info(name, shape):
    """ValueInfoProto of float32; None is the batch."""
    dims = b"".join(
        _bytes_field(1, _bytes_field(2, "batch") if n is None else _int_field(1, n)) for n in shape
    )
    tensor_type = _int_field(1, 1) + _bytes_field(2, dims)
    return _bytes_field(1, name) + _bytes_field(2, _bytes_field(1, tensor_type))


def graph_of(outputs):
    """Return an ONNX ModelProto that answers every image (b, 3, 8, 8) with the same arrays.

    Args:
        outputs: by name, the flat values and the shape without the batch.
    """
    nodes = [_node("Shape", ["image"], "batch_size", start=0, end=1)]
    constants, infos = [], []
    for name, (values, shape) in outputs.items():
        constants.append(_tensor(f"{name}_row", values, (1, *shape)))
        constants.append(_tensor(f"{name}_shape", shape, (len(shape),), integers=True))
        nodes.append(_node("Concat", ["batch_size", f"{name}_shape"], f"{name}_full", axis=0))
        nodes.append(_node("Expand", [f"{name}_row", f"{name}_full"], name))
        infos.append(_value_info(name, (None, *shape)))
    graph = b"".join(
        [
            *(_bytes_field(1, node) for node in nodes),
            _bytes_field(2, GRAPH_NAME),
            *(_bytes_field(5, tensor) for tensor in constants),
            _bytes_field(11, _value_info("image", (None, 3, *SIZE_HW))),
            *(_bytes_field(12, info) for info in infos),
        ]
    )
    return _int_field(1, 9) + _bytes_field(7, graph) + _bytes_field(8, _int_field(2, 17))


def with_metadata(graph, **entries):
    """Return the graph with metadata entries; format 1 wrote the contract last."""
    return graph + b"".join(
        _bytes_field(14, _bytes_field(1, key.replace("__", ".")) + _bytes_field(2, value))
        for key, value in entries.items()
    )


DETECTION_GRAPH = graph_of(
    {
        "boxes": ((1, 1, 4, 4, 1, 1, 4, 4.5, 3, 2, 7.5, 6, 0, 0, 8, 8), (4, 4)),
        "scores": ((0.9, 0.1, 0.8, 0.05, 0.2, 0.6, 0.04, 0.03), (4, 2)),
    }
)
CLASSIFICATION_GRAPH = graph_of({"logits": ((0.25, 1.5), (2,))})


def write(path, graph, contract, fingerprints=""):
    entries = {"blemish__fingerprints": fingerprints} if fingerprints else {}
    text = json.dumps(contract, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(with_metadata(graph, **entries, blemish=text))
    return path
