"""As much of protobuf as a model file needs: a message is a list of fields, each with a number and a length.

Metadata are top-level fields that may stand anywhere in an ONNX file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from blemish.errors import BadModelFile

METADATA_FIELD = 14  # ModelProto.metadata_props
GRAPH_FIELD = 7  # ModelProto.graph
MOST_PARTS = 50_000  # top-level fields: real models have a few dozen, and megabytes of tiny ones are no model


@dataclass(frozen=True)
class WireField:
    """One top-level field of a protobuf message: where it starts, where its payload does, where it ends."""

    number: int
    start: int
    body: int
    end: int


def top_level(data: memoryview, path: Path) -> list[WireField]:
    """The top-level fields of an ONNX ModelProto; BadModelFile for anything that is none."""
    parts = list(islice(fields(data, path), MOST_PARTS + 1))
    if len(parts) > MOST_PARTS or not any(part.number == GRAPH_FIELD for part in parts):
        raise BadModelFile(f"{path}: no ONNX model file")
    return parts


def fields(data: memoryview | bytes, path: Path) -> Iterator[WireField]:
    """The fields of any message, in order; BadModelFile, which names `path`, where there is none."""
    position, size = 0, len(data)
    while position < size:
        start = position
        tag, position = _varint(data, position, path)
        number, kind = tag >> 3, tag & 7
        if kind == 2:
            length, position = _varint(data, position, path)
            body, position = position, position + length
        elif kind == 0:
            body = position
            _, position = _varint(data, position, path)
        else:
            body, position = position, position + {1: 8, 5: 4}.get(kind, size + 1)
        if number == 0 or position > size:
            cut = number and start  # what came before was sound
            what = "the file is cut short; copy or export it again" if cut else "no ONNX model file"
            raise BadModelFile(f"{path}: {what}")
        yield WireField(number, start, body, position)


def _varint(data: memoryview | bytes, position: int, path: Path) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
    raise BadModelFile(f"{path}: no ONNX model file, or one that is cut short")


def entry(data: bytes, path: Path) -> tuple[str, str]:
    """Key and value of one StringStringEntryProto."""
    found = {1: "", 2: ""}
    for part in fields(data, path):
        found[part.number] = data[part.body : part.end].decode("utf-8", "replace")
    return found[1], found[2]


def encode_entry(key: str, value: str) -> bytes:
    """One entry of a model's metadata, as a field of its own."""
    inner = b"".join(
        bytes([number << 3 | 2]) + _encode_varint(len(text)) + text
        for number, text in ((1, key.encode()), (2, value.encode()))
    )
    return bytes([METADATA_FIELD << 3 | 2]) + _encode_varint(len(inner)) + inner


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])
