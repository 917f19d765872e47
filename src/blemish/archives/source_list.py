"""The list of sources: every image and tar file that the sources name, in order, in a file."""

from __future__ import annotations

import hashlib
import itertools
import json
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from blemish.archives.remote import list_remote
from blemish.errors import BadInput
from blemish.imaging import IMAGE_SUFFIXES, UNSUPPORTED_SUFFIXES
from blemish.inference.inputs import is_url
from blemish.inference.sources import STDIN, VIDEO_SUFFIXES, files_below, find_paths
from blemish.model_file import write_parts_atomically

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")


class UnitKind(StrEnum):
    """What a line of the list names."""

    IMAGE = "image"
    TAR = "tar"  # a tar file, whose images are read in one pass


@dataclass(frozen=True, slots=True)
class Unit:
    """One file of the sources; a shard contains the rows of whole units.

    Attributes:
        kind: an image, or a tar file of images.
        address: a path, or a URL such as `s3://bucket/1.jpg`.
        size: in bytes; None if unknown.
        state: changes with the content: the time of the last change in nanoseconds, or the tag of the store.
    """

    kind: UnitKind
    address: str
    size: int | None
    state: str

    def to_line(self) -> str:
        """Return the line of the list, without line feed."""
        return json.dumps([str(self.kind), self.address, self.size, self.state])

    @classmethod
    def from_line(cls, line: str) -> Unit:
        """Return the unit of a line of the list."""
        kind, address, size, state = json.loads(line)
        return cls(UnitKind(kind), address, size, state)


@dataclass(frozen=True)
class Listing:
    """A list of sources.

    Attributes:
        path: the file, one line per unit.
        count: number of units.
        tars: how many of them are tar files.
        digest: SHA-256 of the file.
    """

    path: Path
    count: int
    tars: int
    digest: str

    def units(self) -> Iterator[Unit]:
        """Yield the units, in order, without keeping them."""
        with self.path.open(encoding="ascii") as file:
            yield from map(Unit.from_line, file)


def write_listing(path: Path, sources: Sequence[str], stdin: Iterable[str] | None = None) -> Listing:
    """List the sources into a file.

    Args:
        path: the file.
        sources: images, tar files, folders, glob patterns, `-` for a list of paths on standard input, and
            URLs of files and folders that fsspec reads.
        stdin: one path per line, for `-`.

    Raises:
        BadInput: see `list_units`.
        NoNetwork: the store of a URL cannot be reached.
        StorageFull: the file cannot be written.
    """
    digest = hashlib.sha256()
    count = tars = 0

    def lines() -> Iterator[bytes]:
        nonlocal count, tars
        for unit in list_units(sources, stdin):
            line = unit.to_line().encode("ascii") + b"\n"
            digest.update(line)
            count += 1
            tars += unit.kind is UnitKind.TAR
            yield line

    write_parts_atomically(path, lines())
    return Listing(path, count, tars, digest.hexdigest())


def list_units(sources: Sequence[str], stdin: Iterable[str] | None = None) -> Iterator[Unit]:
    """Yield the units that sources name: in the order of the sources, folders in natural order.

    Images in unsupported formats, such as HEIC, are listed too: they become rows with an error.

    Args:
        sources: see `write_listing`.
        stdin: see `write_listing`.

    Raises:
        BadInput: a source does not exist, cannot be read, is a video, or contains no image.
        MissingExtra: a URL, and fsspec or the package for its store is not installed.
        NoNetwork: the store of a URL cannot be reached.
    """
    for source in sources:
        units = _units_of(source, stdin)
        first = next(units, None)
        if first is None:
            raise BadInput(
                f"{source}: no images and no tar files found. Known suffixes: "
                f"{' '.join(sorted(IMAGE_SUFFIXES))} {' '.join(TAR_SUFFIXES)}.",
                reason="no-images",
            )
        yield from itertools.chain([first], units)


def _units_of(source: str, stdin: Iterable[str] | None) -> Iterator[Unit]:
    if source != STDIN and is_url(source) and not Path(source).exists():
        return (
            Unit(kind, file.address, file.size, file.state)
            for file in list_remote(source)
            if (kind := _kind_of(file.address, is_named=file.is_named)) is not None
        )
    folder = Path(source).expanduser()
    if source != STDIN and folder.is_dir():
        return _local_units(files_below(folder), is_named=False)
    return _local_units(find_paths([source], stdin), is_named=True)


def _local_units(paths: Iterable[Path], *, is_named: bool) -> Iterator[Unit]:
    for path in paths:
        kind = _kind_of(str(path), is_named=is_named)
        if kind is None:
            continue
        try:
            found = path.stat()
        except (OSError, ValueError):  # the row of the image will contain the error
            yield Unit(kind, str(path), None, "")
        else:
            yield Unit(kind, str(path), found.st_size, str(found.st_mtime_ns))


def _kind_of(address: str, *, is_named: bool) -> UnitKind | None:
    """Return the kind of a file by its suffix; None if a folder contains it and it is no image."""
    name = address.casefold()
    if name.endswith(TAR_SUFFIXES):
        return UnitKind.TAR
    suffix = posixpath.splitext(name)[1]
    if is_named and suffix in VIDEO_SUFFIXES:
        raise BadInput(
            f"{address}: expected images and tar files for --output-shards, got a video. Predict it with "
            "--output-json.",
            reason="video",
        )
    if is_named or suffix in IMAGE_SUFFIXES or suffix in UNSUPPORTED_SUFFIXES:
        return UnitKind.IMAGE
    return None
