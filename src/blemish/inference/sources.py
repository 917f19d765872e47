"""What the user pointed at, as images: files, folders, patterns, a list on standard input."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from blemish.errors import BadInput
from blemish.imaging import IMAGE_SUFFIXES

STDIN = "-"
DRAWN_STEM = ".blemish"  # `predict --output` writes photo.blemish.jpg; no folder is searched for those
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})


def find_sources(sources: Sequence[str | Path], stdin: Iterable[str] | None = None) -> Iterator[Path]:
    """The images that sources name, in the order given, folders and patterns in natural order.

    Args:
        sources: files (of any suffix); folders, searched to the bottom for suffixes of images;
            patterns such as `photos/*.jpg` and `**/*.png` (for shells that do not expand them); `-` for
            `stdin`.
        stdin: one path a line, read as the images are asked for.

    Returns:
        Paths, lazily; those from `stdin` are not looked at here.

    Raises:
        BadInput: a source does not exist, or there is no image in all of them. Raised by the call
            itself, before the first path.
    """
    if not sources:
        raise BadInput("no images given; name a file, a folder, a pattern, or - for a list on stdin")
    parts = [_part(str(source), stdin) for source in sources]
    found = itertools.chain.from_iterable(parts)
    first = next(found, None)
    if first is None:
        names = ", ".join(str(s) for s in sources)
        raise BadInput(f"{names}: no image found; known suffixes are {' '.join(sorted(IMAGE_SUFFIXES))}")
    return itertools.chain([first], found)


def natural_key(name: str) -> tuple[str | int, ...]:
    """A key that sorts numbers inside names by value: 2.jpg before 10.jpg.

    Example:
        >>> sorted(["cell10.png", "Cell2.png", "cell1.png"], key=natural_key)
        ['cell1.png', 'Cell2.png', 'cell10.png']
    """
    pieces = re.split(r"([0-9]+)", name.casefold())
    return tuple(int(p) if i % 2 else p for i, p in enumerate(pieces))  # text and number in turn


def _part(source: str, stdin: Iterable[str] | None) -> Iterator[Path]:
    if source == STDIN:
        if stdin is None:
            raise BadInput("- stands for a list on standard input, and there is none here")
        return (Path(line) for line in (raw.rstrip("\r\n") for raw in stdin) if line.strip())
    path = Path(source).expanduser()
    if path.is_dir():
        return _below(path)
    if path.exists():
        return iter([path])
    if glob.has_magic(source):
        matches = sorted(glob.glob(str(path), recursive=True), key=natural_key)  # noqa: PTH207  (Path has no ** of its own root)
        files = [Path(match) for match in matches if not Path(match).is_dir() and not _is_drawn(match)]
        if not files:
            raise BadInput(f"{source}: the pattern matches no file")
        return iter(files)
    raise BadInput(f"{source}: no such file or folder")


def _below(folder: Path) -> Iterator[Path]:
    """The images below a folder, folder by folder; hidden ones are left out, links are not followed."""

    def refuse(error: OSError) -> None:
        raise BadInput(f"{error.filename}: cannot be read ({error.strerror})") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted((f for f in folders if not f.startswith(".")), key=natural_key)
        for name in sorted(files, key=natural_key):
            hidden = name.startswith(".") or _is_drawn(name)
            if not hidden and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(place, name)


def _is_drawn(name: str) -> bool:
    return Path(name).stem.lower().endswith(DRAWN_STEM)


def is_video(path: Path) -> bool:
    """Whether a file's name is that of a film; folders are not searched for films."""
    return path.suffix.lower() in VIDEO_SUFFIXES
