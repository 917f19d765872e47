"""Read the directories of a TIFF file: which one is the full image, and what its tags state about samples."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

import numpy as np
from numpy.typing import NDArray

# Tags of TIFF 6.0, TIFF/EP and DNG.
NEW_SUBFILE_TYPE, SUBFILE_TYPE = 254, 255
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES_PER_PIXEL, ROWS_PER_STRIP, STRIP_SIZES = 273, 277, 278, 279
MAX_SAMPLE, PLANAR, TILE_OFFSETS, TILE_SIZES = 281, 284, 324, 325
SUB_IFDS, S_MAX_SAMPLE, WHITE_LEVEL = 330, 341, 50717
SHAPE_TAGS = frozenset(
    {NEW_SUBFILE_TYPE, SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIP_OFFSETS}
    | {SAMPLES_PER_PIXEL, ROWS_PER_STRIP, STRIP_SIZES, MAX_SAMPLE, PLANAR, TILE_OFFSETS, TILE_SIZES}
    | {SUB_IFDS, S_MAX_SAMPLE, WHITE_LEVEL}
)
SENSOR_DATA = {32803: "the raw data of a color sensor", 34892: "the raw data of a camera"}
MAX_DIRECTORIES = 64  # that are searched for the full image
MAX_VALUES = 1_000_000  # of one tag
_LETTERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True)
class TiffDirectory:
    """One directory of a TIFF file.

    Attributes:
        offset: its position in the file, in bytes.
        tags: the integers of the tags in `SHAPE_TAGS`.
        order: `<` for little-endian, `>` for big-endian.
        following: position of the next directory, 0 after the last.
    """

    offset: int
    tags: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    order: str = "<"
    following: int = 0

    def first(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag, or `default`."""
        return (self.tags.get(tag) or (default,))[0]

    @property
    def is_reduced(self) -> bool:
        """Whether the tags state that this is a reduced version of another image."""
        return bool(self.first(NEW_SUBFILE_TYPE) & 1) or self.first(SUBFILE_TYPE) == 2

    @property
    def is_image(self) -> bool:
        """Whether this is an image, not the transparency mask of one."""
        return not self.first(NEW_SUBFILE_TYPE) & 4 and WIDTH in self.tags and HEIGHT in self.tags


def read_directory(file: IO[bytes], offset: int | None = None) -> TiffDirectory:
    """Return the directory at `offset`; default: the first of the file.

    Raises:
        struct.error, ValueError, OverflowError, OSError: the file is damaged.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", head, 2)[0] == 43
    number, count_bytes, entry_bytes = ("Q", 8, 20) if big else ("I", 4, 12)
    if offset is None:
        offset = int(struct.unpack_from(order + number, head, 8 if big else 4)[0])
    file.seek(offset)
    count = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))[0]
    if count > 4096:
        raise ValueError(f"a directory of {count} entries")
    entries = file.read(count * entry_bytes)
    following = struct.unpack(order + number, file.read(count_bytes))[0]
    tags = {}
    for at in range(0, len(entries), entry_bytes):
        tag = struct.unpack_from(order + "H", entries, at)[0]
        if tag in SHAPE_TAGS:
            tags[tag] = tag_values(file, entries[at : at + entry_bytes], order, number)
    return TiffDirectory(offset, tags, order, following)


def tag_values(file: IO[bytes], entry: bytes, order: str, number: str) -> tuple[int, ...]:
    """Return the integers of one directory entry; () for other types.

    Args:
        file: the open file, seekable.
        entry: 12 bytes, or 20 of a BigTIFF file.
        order: `<` or `>`.
        number: `I`, or `Q` for a BigTIFF file.
    """
    kind, count = struct.unpack_from(order + "H" + number, entry, 2)
    letter = _LETTERS.get(kind)
    if letter is None or count > MAX_VALUES:
        return ()
    form = f"{order}{count}{letter}"
    at = 12 if number == "Q" else 8
    if struct.calcsize(form) <= len(entry) - at:
        return struct.unpack_from(form, entry, at)
    file.seek(struct.unpack_from(order + number, entry, at)[0])
    return struct.unpack(form, file.read(struct.calcsize(form)))


def full_image_directory(file: IO[bytes]) -> TiffDirectory | None:
    """Return the directory of the full image: the first one that is not marked as reduced.

    Cameras, scanners and DNG converters put a thumbnail first and the full image behind it, in the chain of
    directories or in SubIFDs. A file with a single image is read as it is.

    Returns:
        The directory, or None if every one of several is marked as reduced.

    Raises:
        struct.error, ValueError, OverflowError, OSError: the first directory is damaged.
    """
    first = read_directory(file)
    if not first.is_reduced:
        return first
    pending = [*first.tags.get(SUB_IFDS, ()), first.following]
    seen = {first.offset, 0}
    others = 0
    while pending and len(seen) < MAX_DIRECTORIES:
        offset = pending.pop(0)
        if offset in seen:
            continue
        seen.add(offset)
        directory = read_directory(file, offset)
        if directory.is_image:
            others += 1
            if not directory.is_reduced:
                return directory
        pending += [*directory.tags.get(SUB_IFDS, ()), directory.following]
    return None if others else first


def starting_at(file: IO[bytes], directory: TiffDirectory) -> io.BytesIO:
    """Return a copy of the file whose first directory is `directory`, for readers that read the first."""
    file.seek(0)
    data = bytearray(file.read())
    big = struct.unpack_from(directory.order + "H", data, 2)[0] == 43
    struct.pack_into(directory.order + ("Q" if big else "I"), data, 8 if big else 4, directory.offset)
    return io.BytesIO(bytes(data))


def stated_white_level(directory: TiffDirectory) -> int | None:
    """Return the sample value of white that the tags of a 16-bit gray image state, or None.

    `WhiteLevel` is the value itself. `MaxSampleValue` and `SMaxSampleValue` are the largest sample, which
    many programs compute for each image; the white level is then that of the number of bits which it needs.
    Samples of fewer than 16 bits state theirs by that number.

    Example:
        >>> stated_white_level(TiffDirectory(8, {BITS: (16,), MAX_SAMPLE: (3888,)}))
        4095
    """
    bits = max(directory.tags.get(BITS) or (1,))
    if not 8 < bits <= 16:
        return None
    level = directory.first(WHITE_LEVEL)
    if not 0 < level < 65535:
        largest = directory.first(MAX_SAMPLE) or directory.first(S_MAX_SAMPLE)
        level = (1 << largest.bit_length()) - 1 if 0 < largest <= 65535 else (1 << bits) - 1
    return level if level < 65535 else None


def is_planar_16(directory: TiffDirectory) -> bool:
    """Return whether the samples are uncompressed, of 16 bits, with the channels in separate planes.

    Pillow 13.0 and OpenCV 5.0 read such files as if the channels alternated.
    """
    return (
        directory.first(PLANAR, 1) == 2
        and directory.first(COMPRESSION, 1) == 1
        and directory.first(SAMPLES_PER_PIXEL, 1) > 1
        and max(directory.tags.get(BITS) or (1,)) > 8
    )


def read_planar_16(file: IO[bytes], directory: TiffDirectory) -> NDArray[np.uint8]:
    """Return (h, w, 3) uint8: the upper 8 bits of the samples of an image for which `is_planar_16` is true.

    Raises:
        ValueError: it is not RGB in strips, or the strips are too short.
    """
    width, height = directory.first(WIDTH), directory.first(HEIGHT)
    offsets, sizes = directory.tags.get(STRIP_OFFSETS, ()), directory.tags.get(STRIP_SIZES, ())
    bits = directory.tags.get(BITS, ())
    if directory.first(PHOTOMETRIC) != 2 or len(bits) != 3 or set(bits) != {16} or len(offsets) % 3:
        raise ValueError("separate planes of 16 bits that are not RGB in strips")
    pieces = []
    for offset, size in zip(offsets, sizes, strict=True):
        file.seek(offset)
        pieces.append(file.read(size))
    per_plane = len(offsets) // 3
    planes = []
    for start in range(0, len(pieces), per_plane):
        data = b"".join(pieces[start : start + per_plane])[: 2 * width * height]
        samples = np.frombuffer(data, directory.order + "u2")
        planes.append((samples.reshape(height, width) >> 8).astype(np.uint8))
    return np.stack(planes, 2)
