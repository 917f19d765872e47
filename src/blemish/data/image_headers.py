"""The headers of many images at once: a fast look at JPEG and PNG, the one door for all others."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from blemish.data.header_cache import HeaderCache
from blemish.data.header_info import HeaderInfo
from blemish.errors import BadImage
from blemish.imaging import LIMITS, Header, Limits, read_header

THREADS = min(8, (os.cpu_count() or 1) + 1)
CHUNK = 64  # images a thread takes at once
FIRST_BYTES = 8192  # nearly every JPEG without a thumbnail tells its size here
MOST_BYTES = 1 << 20  # thumbnails and colour profiles stand before the size
TAIL_BYTES = 4096
PIECE_BYTES = 1 << 16  # reading megabytes into fresh memory at once takes longer than their checksums
BINARY = getattr(os, "O_BINARY", 0)

FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2})
BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
PNG_MODES = {
    (1, 0): "1", (2, 0): "L", (4, 0): "L", (8, 0): "L", (16, 0): "I;16", (8, 2): "RGB",
    (1, 3): "P", (2, 3): "P", (4, 3): "P", (8, 3): "P", (8, 4): "LA", (8, 6): "RGBA",
}  # fmt: skip
SLOW_PNG_CHUNKS = frozenset({b"eXIf", b"acTL"})
TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
TURNING_TEXTS = (b"Raw profile type", b"XML:com.adobe.xmp")  # they may hold an orientation


def read_headers(paths: Iterable[Path], *, limits: Limits = LIMITS) -> list[Header | BadImage]:
    """What each image says of itself, or why it cannot be used; in the order of `paths`."""
    listed = list(paths)
    looks = read_all_header_info(listed, limits=limits)
    return [
        k.header or k.bad(p) or BadImage(p, "it cannot be read") for p, k in zip(listed, looks, strict=True)
    ]


def read_all_header_info(paths: Sequence[Path], *, limits: Limits = LIMITS) -> list[HeaderInfo]:
    """A look at each file, in parallel, in the order of `paths`; a cache spares those that did not change."""
    with HeaderCache.of(paths, limits) as cache:
        known = cache.known()

        def some(chunk: Sequence[Path]) -> list[HeaderInfo]:
            return [read_header_info(p, known.get(os.fspath(p)), limits) for p in chunk]

        if len(paths) < CHUNK:
            looks = some(paths)
        else:
            chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
            with ThreadPoolExecutor(THREADS) as pool:
                looks = [look for part in pool.map(some, chunks) for look in part]
        cache.remember(paths, looks)
    return looks


def read_header_info(
    path: Path | str, known: HeaderInfo | None = None, limits: Limits = LIMITS
) -> HeaderInfo:
    """A look at one file.

    Args:
        path: the image.
        known: an earlier look, which is given back where the file has not changed since.
        limits: of bytes and pixels.
    """
    try:
        if known is not None:
            status = os.stat(path)  # noqa: PTH116 - a Path an image would cost more than the call
            if (status.st_size, status.st_mtime_ns) == (known.size_bytes, known.changed_ns):
                return known
        file = os.open(path, os.O_RDONLY | BINARY)
    except OSError:
        return _slowly(path, 0, 0, limits)
    try:
        status = os.fstat(file)
        size, changed = status.st_size, status.st_mtime_ns
        if not 0 < size <= limits.max_bytes:
            return _slowly(path, size, changed, limits)
        head = os.read(file, FIRST_BYTES)
        if head[:3] == b"\xff\xd8\xff":
            found = _jpeg(file, head)
            fault = "" if found is None else _jpeg_end(file, size)
        elif head[:8] == b"\x89PNG\r\n\x1a\n":
            os.lseek(file, 8, os.SEEK_SET)
            with io.FileIO(file, closefd=False) as raw, io.BufferedReader(raw, PIECE_BYTES) as stream:
                found, fault = _png(stream, size)
        else:
            found, fault = None, ""
    except OSError:
        return _slowly(path, 0, 0, limits)
    finally:
        os.close(file)
    if found is None or found.stored_size_hw[0] * found.stored_size_hw[1] > limits.max_pixels:
        return _slowly(path, size, changed, limits, fault)
    return HeaderInfo(size, changed, found, fault=fault)


def _slowly(path: Path | str, size: int, changed: int, limits: Limits, fault: str = "") -> HeaderInfo:
    try:
        return HeaderInfo(size, changed, read_header(path, limits), fault=fault)
    except BadImage as error:
        return HeaderInfo(size, changed, error=type(error).__name__, reason=error.detail, fault=fault)


def _rest(file: int, length: int) -> bytes:
    parts = []
    while length > 0:
        part = os.read(file, length)
        if not part:
            break
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _jpeg(file: int, head: bytes) -> Header | None:
    """The header of a JPEG, or None where it is none of the usual ones."""
    position, orientation = 2, 1
    has_exif = False
    while True:
        if position + 10 > len(head):
            if position > MOST_BYTES:
                return None
            more = os.read(file, position + FIRST_BYTES - len(head))
            if not more:
                return None
            head += more
            continue
        if head[position] != 0xFF:
            return None
        marker = head[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in BARE_MARKERS:
            position += 2
            continue
        length = head[position + 2] << 8 | head[position + 3]
        if length < 2:
            return None
        if marker in FRAME_MARKERS:
            bits, height, width, channels = struct.unpack_from(">BHHB", head, position + 4)
            mode = JPEG_MODES.get(channels)
            if bits != 8 or mode is None or not height or not width:
                return None
            upright = (width, height) if orientation >= 5 else (height, width)
            return Header("JPEG", mode, upright, (height, width), orientation, 8, 1)
        if 0xC0 <= marker <= 0xDA and marker not in (0xC4, 0xC8, 0xCC):
            return None  # lossless and arithmetic frames, or a scan before any frame
        if marker == 0xE1:
            end = position + 2 + length
            while len(head) < end:
                more = os.read(file, end - len(head))
                if not more:
                    return None
                head += more
            segment = head[position + 4 : end]
            if segment[:6] == b"Exif\0\0":
                read = _exif_orientation(segment[6:])
                if has_exif or read is None:
                    return None
                has_exif, orientation = True, read
            elif b"tiff:Orientation" in segment:
                return None
        position += 2 + length


def _exif_orientation(tiff: bytes) -> int | None:
    """EXIF orientation, 1 where there is none; None where the block needs a closer look."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (offset,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, offset)
        for entry in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(order + "HHI", tiff, entry)
            if tag == 0x0112:
                (value,) = struct.unpack_from(order + "H", tiff, entry + 8)
                return value if kind == 3 and number == 1 and 1 <= value <= 8 else None
    except struct.error:
        return None
    return 1


def _jpeg_end(file: int, size: int) -> str:
    os.lseek(file, -min(size, TAIL_BYTES), os.SEEK_END)
    tail = _rest(file, TAIL_BYTES)
    if tail.endswith(b"\xff\xd9"):
        return ""
    return "trailing" if b"\xff\xd9" in tail else "truncated"


def _png(stream: BinaryIO, size: int) -> tuple[Header | None, str]:
    """The header of a PNG, or None where it is none of the usual ones; and what is wrong with its chunks."""
    position = 8
    header: Header | None = None
    unusual = False
    while True:
        start = stream.read(8)
        if len(start) < 8:
            return None if unusual else header, "truncated"
        length, kind = struct.unpack(">I4s", start)
        position += 12 + length
        if position > size:
            return None if unusual else header, "truncated"
        checksum, first = zlib.crc32(kind), b""
        while length > 0:
            piece = stream.read(min(length, PIECE_BYTES))
            first = first or piece[:32]
            checksum = zlib.crc32(piece, checksum)
            length = length - len(piece) if piece else 0
        if stream.read(4) != checksum.to_bytes(4, "big"):
            return None if unusual else header, "checksum"
        if kind == b"IHDR" and len(first) >= 13:
            width, height, depth, colour = struct.unpack_from(">IIBB", first)
            mode = PNG_MODES.get((depth, colour))
            if mode is not None and width and height:
                bits = 16 if depth == 16 else 1 if mode == "1" else 8
                header = Header("PNG", mode, (height, width), (height, width), 1, bits, 1)
        elif kind == b"IEND":
            return None if unusual else header, "" if position == size else "trailing"
        elif kind in SLOW_PNG_CHUNKS or (kind in TEXT_CHUNKS and first.startswith(TURNING_TEXTS)):
            unusual = True
