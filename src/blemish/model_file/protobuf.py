"""The part of protobuf that a model file needs: a message is a list of fields with a number and a length.

Metadata are top-level fields at any position in an ONNX file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from blemish.errors import BadModelFile

METADATA_FIELD = 14  # ModelProto.metadata_props
GRAPH_FIELD = 7  # ModelProto.graph
MAX_FIELDS = 50_000  # at the top level; real models have a few dozen


@dataclass(frozen=True)
class WireField:
    """One field of a protobuf message.

    Attributes:
        number: of the field.
        start: offset of its first byte.
        body: offset of its payload.
        end: offset behind its last byte.
    """

    number: int
    start: int
    body: int
    end: int


def read_top_level(data: memoryview, path: Path) -> list[WireField]:
    """Return the top-level fields of an ONNX ModelProto.

    Args:
        data: the file's content.
        path: the file, for error messages.

    Raises:
        BadModelFile: not an ONNX file ("bad-model-file.not-onnx") or truncated ("bad-model-file.truncated").
    """
    fields = list(islice(iter_fields(data, path), MAX_FIELDS + 1))
    if len(fields) > MAX_FIELDS or not any(field.number == GRAPH_FIELD for field in fields):
        raise _not_onnx(path)
    return fields


def iter_fields(
    data: memoryview | bytes, path: Path, start: int = 0, end: int | None = None
) -> Iterator[WireField]:
    """Yield the fields of a message in order.

    Args:
        data: contains the message. A part of a view would keep the file mapped while an error is handled.
        path: its file, for error messages.
        start: offset of its first byte.
        end: offset behind its last byte; default: the end of `data`.

    Raises:
        BadModelFile: not a message, or truncated.
    """
    position, size = start, len(data) if end is None else end
    while position < size:
        start = position
        tag, position = _read_varint(data, position, path)
        number, kind = tag >> 3, tag & 7
        if kind == 2:
            length, position = _read_varint(data, position, path)
            body, position = position, position + length
        elif kind == 0:
            body = position
            _, position = _read_varint(data, position, path)
        else:
            body, position = position, position + {1: 8, 5: 4}.get(kind, size + 1)
        if number == 0 or position > size:
            raise _truncated(path) if number and start else _not_onnx(path)  # earlier fields were valid
        yield WireField(number, start, body, position)


def read_entry(data: bytes, path: Path) -> tuple[str, str]:
    """Return key and value of a StringStringEntryProto."""
    texts = {1: "", 2: ""}
    for field in iter_fields(data, path):
        texts[field.number] = data[field.body : field.end].decode("utf-8", "replace")
    return texts[1], texts[2]


def encode_entry(key: str, value: str) -> bytes:
    """Return one entry of a model's metadata as a top-level field."""
    inner = b"".join(
        bytes([number << 3 | 2]) + _encode_varint(len(text)) + text
        for number, text in ((1, key.encode()), (2, value.encode()))
    )
    return bytes([METADATA_FIELD << 3 | 2]) + _encode_varint(len(inner)) + inner


def _read_varint(data: memoryview | bytes, position: int, path: Path) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
    raise _not_onnx(path)


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def _not_onnx(path: Path) -> BadModelFile:
    return BadModelFile(f"{path}: expected an ONNX model file, got something else", reason="not-onnx")


def _truncated(path: Path) -> BadModelFile:
    return BadModelFile(f"{path}: the file is truncated; copy or export it again", reason="truncated")
