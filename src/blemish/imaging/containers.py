"""Read the container structure of image files that Pillow does not expose: ends, chunks and directories."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from blemish.imaging.tiff_layout import tag_values


def ends_early(file: IO[bytes], size: int, image_format: str) -> bool:
    """Return whether the file is shorter than its own structure requires.

    Args:
        file: the open file, seekable.
        size: its size in bytes.
        image_format: one of the supported formats; other formats give False.
    """
    try:
        if image_format == "JPEG":
            file.seek(max(size - 4096, 0))
            return b"\xff\xd9" not in file.read()
        if image_format == "PNG":
            return all(kind != b"IEND" for kind, _, _ in _png_chunks(file))
        if image_format == "WEBP":
            file.seek(4)
            return bool(size < struct.unpack("<I", file.read(4))[0] + 8)
        if image_format == "BMP":
            file.seek(2)
            return bool(size < struct.unpack("<I", file.read(4))[0])
        if image_format == "TIFF":
            return tiff_directories(file).reach > size
    except (struct.error, ValueError, OverflowError, OSError):
        return True
    return False


def _png_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, length, offset of the data) of every complete chunk."""
    file.seek(0, io.SEEK_END)
    size, position = file.tell(), 8
    while position + 12 <= size:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        if position + 12 + length > size:
            return
        yield kind, length, position + 8
        position += 12 + length


def png_significant_bits(file: IO[bytes]) -> int:
    """Return the number of significant bits that the sBIT chunk of a gray PNG file states, or 0."""
    for kind, length, offset in _png_chunks(file):
        if kind == b"sBIT" and length in (1, 2):
            file.seek(offset)
            return file.read(1)[0]
        if kind == b"IDAT":
            break
    return 0


def png_exif(file: IO[bytes]) -> bytes:
    """Return the EXIF block of a PNG file, also if it follows the pixels; b"" if there is none."""
    for kind, length, offset in _png_chunks(file):
        if kind == b"eXIf" and length < 1_000_000:
            file.seek(offset)
            return b"Exif\x00\x00" + file.read(length)
    return b""


@dataclass(frozen=True)
class TiffDirectories:
    """A summary of the directories of a TIFF file.

    Attributes:
        frames: number of directories.
        reach: byte offset where the pixels of the first directory end.
    """

    frames: int
    reach: int


def tiff_directories(file: IO[bytes], max_frames: int = 10_000) -> TiffDirectories:
    """Return a summary of the directories of a TIFF or BigTIFF file.

    Pillow would parse every directory to count them.

    Args:
        file: the open file, seekable.
        max_frames: the largest number of directories that are counted.

    Raises:
        struct.error, ValueError, OverflowError, OSError: the file is damaged.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", head, 2)[0] == 43
    number, count_bytes, entry_bytes = ("Q", 8, 20) if big else ("I", 4, 12)
    offset = struct.unpack_from(order + number, head, 8 if big else 4)[0]
    seen: set[int] = set()
    reach = 1 << 62
    while offset and offset not in seen and len(seen) < max_frames:
        file.seek(offset)
        n = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))[0]
        entries = file.read(min(n, 4096) * entry_bytes)
        following = struct.unpack(order + number, file.read(count_bytes))[0]
        if not seen:
            values = {
                tag: tag_values(file, entries[at : at + entry_bytes], order, number)
                for at in range(0, len(entries), entry_bytes)
                if (tag := struct.unpack_from(order + "H", entries, at)[0]) in (273, 279, 324, 325)
            }
            reach = max(
                (
                    a + b
                    for s, n in ((273, 279), (324, 325))
                    for a, b in zip(values.get(s, ()), values.get(n, ()), strict=False)
                ),
                default=reach,
            )
        seen.add(offset)
        offset = following
    return TiffDirectories(len(seen), reach)
