"""Read the headers of many images: a fast parser for JPEG and PNG, Pillow for all other files.

The fast parser handles the usual files and returns None for everything unusual, which Pillow then reads. It
also finds damage that a header does not show: a missing end, a wrong checksum, trailing bytes.
"""

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
from blemish.data.header_info import FileFault, HeaderInfo
from blemish.errors import BadImage
from blemish.imaging import LIMITS, Header, Limits, read_header

THREADS = min(8, (os.cpu_count() or 1) + 1)
IMAGES_PER_JOB = 64  # images that a thread reads in one job
FIRST_BYTES = 8192  # contains the size of nearly every JPEG without a thumbnail
MAX_HEADER_BYTES = 1 << 20  # thumbnails and color profiles come before the size
TAIL_BYTES = 4096
CHUNK_BYTES = 1 << 16  # reading megabytes at once takes longer than computing their checksums
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
ORIENTATION_TEXTS = (b"Raw profile type", b"XML:com.adobe.xmp")  # may contain an EXIF orientation


def read_headers(paths: Iterable[Path], *, limits: Limits = LIMITS) -> list[Header | BadImage]:
    """Return the header of each image, or the error that makes it unusable, in the order of `paths`.

    Args:
        paths: the images.
        limits: the largest size, in bytes and pixels, that is accepted.
    """
    listed = list(paths)
    infos = read_all_header_info(listed, limits=limits)
    return [info.header_or_error(path) for path, info in zip(listed, infos, strict=True)]


def read_all_header_info(paths: Sequence[Path], *, limits: Limits = LIMITS) -> list[HeaderInfo]:
    """Return the header info of each image, in the order of `paths`.

    Files are read in parallel. Infos of 500 images and more are cached in the user's cache folder and read
    again only for files that have changed.

    Args:
        paths: the images.
        limits: the largest size, in bytes and pixels, that is accepted.
    """
    with HeaderCache.for_paths(paths, limits) as cache:
        cached = cache.entries()

        def read_job(job: Sequence[Path]) -> list[HeaderInfo]:
            return [read_header_info(p, cached.get(os.fspath(p)), limits) for p in job]

        if len(paths) < IMAGES_PER_JOB:
            infos = read_job(paths)
        else:
            jobs = [paths[i : i + IMAGES_PER_JOB] for i in range(0, len(paths), IMAGES_PER_JOB)]
            with ThreadPoolExecutor(THREADS) as pool:
                infos = [info for part in pool.map(read_job, jobs) for info in part]
        cache.store(paths, infos)
    return infos


def read_header_info(
    path: Path | str, cached: HeaderInfo | None = None, limits: Limits = LIMITS
) -> HeaderInfo:
    """Return the header info of one file; nothing is raised for a file that cannot be used.

    Args:
        path: the image.
        cached: an earlier result, which is returned if size and time of modification are the same.
        limits: the largest size, in bytes and pixels, that is accepted.
    """
    try:
        if cached is not None:
            status = os.stat(path)  # noqa: PTH116 - a Path per image would cost more than the call
            if (status.st_size, status.st_mtime_ns) == (cached.size_bytes, cached.modified_ns):
                return cached
        file = os.open(path, os.O_RDONLY | BINARY)
    except OSError:
        return _read_with_pillow(path, 0, 0, limits)
    try:
        status = os.fstat(file)
        size, modified = status.st_size, status.st_mtime_ns
        if not 0 < size <= limits.max_bytes:
            return _read_with_pillow(path, size, modified, limits)
        start = os.read(file, FIRST_BYTES)
        header: Header | None = None
        fault: FileFault = ""
        if start[:3] == b"\xff\xd8\xff":
            header = _read_jpeg(file, start)
            fault = "" if header is None else _jpeg_end_fault(file, size)
        elif start[:8] == b"\x89PNG\r\n\x1a\n":
            os.lseek(file, 8, os.SEEK_SET)
            with io.FileIO(file, closefd=False) as raw, io.BufferedReader(raw, CHUNK_BYTES) as stream:
                header, fault = _read_png(stream, size)
    except OSError:
        return _read_with_pillow(path, 0, 0, limits)
    finally:
        os.close(file)
    if header is None or header.stored_size_hw[0] * header.stored_size_hw[1] > limits.max_pixels:
        return _read_with_pillow(path, size, modified, limits, fault)
    return HeaderInfo(size, modified, header, fault=fault)


def _read_with_pillow(
    path: Path | str, size: int, modified: int, limits: Limits, fault: FileFault = ""
) -> HeaderInfo:
    try:
        return HeaderInfo(size, modified, read_header(path, limits), fault=fault)
    except BadImage as error:
        return HeaderInfo(
            size, modified, error_code=error.code, detail=error.detail, remedy=error.remedy, fault=fault
        )


def _read_fully(file: int, length: int) -> bytes:
    parts = []
    while length > 0:
        part = os.read(file, length)
        if not part:
            break
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _read_jpeg(file: int, start: bytes) -> Header | None:
    """Return the header of a JPEG, or None if it is unusual; `start` is its first bytes."""
    position, orientation = 2, 1
    has_exif = False
    while True:
        if position + 10 > len(start):
            if position > MAX_HEADER_BYTES:
                return None
            more = os.read(file, position + FIRST_BYTES - len(start))
            if not more:
                return None
            start += more
            continue
        if start[position] != 0xFF:
            return None
        marker = start[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in BARE_MARKERS:
            position += 2
            continue
        length = start[position + 2] << 8 | start[position + 3]
        if length < 2:
            return None
        if marker in FRAME_MARKERS:
            bits, height, width, channels = struct.unpack_from(">BHHB", start, position + 4)
            mode = JPEG_MODES.get(channels)
            if bits != 8 or mode is None or not height or not width:
                return None
            upright = (width, height) if orientation >= 5 else (height, width)
            return Header("JPEG", mode, upright, (height, width), orientation, 8, 1)
        if 0xC0 <= marker <= 0xDA and marker not in (0xC4, 0xC8, 0xCC):
            return None  # lossless and arithmetic frames, or a scan before any frame
        if marker == 0xE1:
            end = position + 2 + length
            while len(start) < end:
                more = os.read(file, end - len(start))
                if not more:
                    return None
                start += more
            segment = start[position + 4 : end]
            if segment[:6] == b"Exif\0\0":
                read = _exif_orientation(segment[6:])
                if has_exif or read is None:
                    return None
                has_exif, orientation = True, read
            elif b"tiff:Orientation" in segment:
                return None
        position += 2 + length


def _exif_orientation(tiff: bytes) -> int | None:
    """Return the EXIF orientation, 1 if there is none, or None if Pillow has to read the block."""
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


def _jpeg_end_fault(file: int, size: int) -> FileFault:
    os.lseek(file, -min(size, TAIL_BYTES), os.SEEK_END)
    tail = _read_fully(file, TAIL_BYTES)
    if tail.endswith(b"\xff\xd9"):
        return ""
    return "trailing" if b"\xff\xd9" in tail else "truncated"


def _read_png(stream: BinaryIO, size: int) -> tuple[Header | None, FileFault]:
    """Return the header of a PNG, or None if it is unusual, and the fault of its chunks."""
    position = 8
    header: Header | None = None
    unusual = False
    while True:
        chunk_start = stream.read(8)
        if len(chunk_start) < 8:
            return None if unusual else header, "truncated"
        length, kind = struct.unpack(">I4s", chunk_start)
        position += 12 + length
        if position > size:
            return None if unusual else header, "truncated"
        checksum, first = zlib.crc32(kind), b""
        while length > 0:
            piece = stream.read(min(length, CHUNK_BYTES))
            first = first or piece[:32]
            checksum = zlib.crc32(piece, checksum)
            length = length - len(piece) if piece else 0
        if stream.read(4) != checksum.to_bytes(4, "big"):
            return None if unusual else header, "checksum"
        if kind == b"IHDR" and len(first) >= 13:
            width, height, depth, color = struct.unpack_from(">IIBB", first)
            mode = PNG_MODES.get((depth, color))
            if mode is not None and width and height:
                bits = 16 if depth == 16 else 1 if mode == "1" else 8
                header = Header("PNG", mode, (height, width), (height, width), 1, bits, 1)
        elif kind == b"IEND":
            return None if unusual else header, "" if position == size else "trailing"
        elif (
            (kind == b"sBIT" and header is not None and header.bits == 16)
            or kind in SLOW_PNG_CHUNKS
            or (kind in TEXT_CHUNKS and first.startswith(ORIENTATION_TEXTS))
        ):
            unusual = True
