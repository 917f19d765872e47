"""What users name on the command line, as inputs: files, folders, glob patterns, videos, standard input."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from blemish.errors import BadInput
from blemish.imaging import IMAGE_SUFFIXES, LIMITS, Limits, PassedOver
from blemish.inference.inputs import ImageInput, is_url

STDIN = "-"
DRAWN_STEM = ".blemish"  # `predict --output` writes photo.blemish.jpg, which no search of a folder returns
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})


def find_inputs(
    sources: Sequence[str | Path],
    stdin: Iterable[str] | None = None,
    *,
    limits: Limits = LIMITS,
    frame_step: int = 1,
    passed_over: PassedOver | None = None,
) -> Iterator[ImageInput]:
    """Yield the inputs that sources name: an input per image, and per frame of a video.

    Args:
        sources: see `find_paths`.
        stdin: see `find_paths`.
        limits: largest size of a video frame.
        frame_step: of videos, yield every n-th frame.
        passed_over: see `find_paths`.

    Returns:
        Inputs, lazily, in the order of `find_paths`.

    Raises:
        BadInput: see `find_paths`. Raised by the call itself, before the first input.
        MissingExtra: a video, and PyAV is not installed. Raised when the video is reached.
    """
    return _expand_videos(find_paths(sources, stdin, passed_over), limits, frame_step)


def find_paths(
    sources: Sequence[str | Path],
    stdin: Iterable[str] | None = None,
    passed_over: PassedOver | None = None,
) -> Iterator[Path]:
    """Yield the files that sources name, in the order of the sources; folders and patterns in natural order.

    Args:
        sources: files of any suffix; folders, searched recursively for suffixes of images; glob patterns
            such as `photos/*.jpg` and `**/*.png` (for shells that do not expand them); `-` for `stdin`.
        stdin: one path per line, read as the paths are consumed.
        passed_over: receives the images in unsupported formats, such as HEIC, that folders contain.

    Returns:
        Paths, lazily; those from `stdin` are not checked here.

    Raises:
        BadInput: a source does not exist, is a URL, or the sources contain no image. Raised by the call
            itself, before the first path.
    """
    if not sources:
        raise BadInput(
            "sources: expected a file, a folder, a pattern, or - for standard input, got none",
            reason="no-images",
        )
    passed_over = PassedOver() if passed_over is None else passed_over
    parts = [_paths_of(str(source), stdin, passed_over) for source in sources]
    paths = itertools.chain.from_iterable(parts)
    first = next(paths, None)
    if first is None:
        names = ", ".join(str(s) for s in sources)
        raise BadInput(
            f"{names}: no images found. "
            + (passed_over.sentence() or f"Known suffixes: {' '.join(sorted(IMAGE_SUFFIXES))}."),
            reason="no-images",
        )
    return itertools.chain([first], paths)


def natural_key(name: str) -> tuple[str | int, ...]:
    """Return a key that sorts numbers inside names by value: 2.jpg before 10.jpg.

    Example:
        >>> sorted(["cell10.png", "Cell2.png", "cell1.png"], key=natural_key)
        ['cell1.png', 'Cell2.png', 'cell10.png']
    """
    pieces = re.split(r"([0-9]+)", name.casefold())
    return tuple(int(p) if i % 2 else p for i, p in enumerate(pieces))  # text and number alternate


def is_video(path: Path) -> bool:
    """Return whether a file has the suffix of a video; a search of a folder returns no videos."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def _expand_videos(paths: Iterable[Path], limits: Limits, frame_step: int) -> Iterator[ImageInput]:
    for path in paths:
        if is_video(path):
            from blemish.inference.video import read_frames

            yield from read_frames(path, limits, step=frame_step)
        else:
            yield ImageInput.of(path)


def _paths_of(source: str, stdin: Iterable[str] | None, passed_over: PassedOver) -> Iterator[Path]:
    """Return the paths that one source names."""
    if source == STDIN:
        if stdin is None:
            raise BadInput("source -: there is no standard input to read a list from", reason="no-stdin")
        return (Path(line) for line in (raw.rstrip("\r\n") for raw in stdin) if line.strip())
    path = Path(source).expanduser()
    if path.is_dir():
        return _images_below(path, passed_over)
    if path.exists():
        return iter([path])
    if is_url(source):
        raise BadInput(f"{source}: this is a URL. Download the images and pass their paths.", reason="url")
    if glob.has_magic(source):
        matches = sorted(glob.glob(str(path), recursive=True), key=natural_key)  # noqa: PTH207  (Path.glob needs a root)
        files = [Path(match) for match in matches if not Path(match).is_dir() and not _is_drawn(match)]
        if not files:
            raise BadInput(f"{source}: no file matches the pattern", reason="no-images")
        return iter(files)
    raise BadInput(f"{source}: no such file or folder", reason="not-found")


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in natural order, folder by folder; links to folders are not followed.

    Hidden files and the images that `predict --output` has drawn are left out.

    Raises:
        BadInput: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise BadInput(f"{error.filename}: cannot be read ({error.strerror})", reason="unreadable") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted((f for f in folders if not f.startswith(".")), key=natural_key)
        for name in sorted(files, key=natural_key):
            if not name.startswith(".") and not _is_drawn(name):
                yield Path(place, name)


def _images_below(folder: Path, passed_over: PassedOver) -> Iterator[Path]:
    """Yield the images below a folder, in the order of `files_below`."""
    for path in files_below(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            yield path
        else:
            passed_over.add(path)


def _is_drawn(name: str) -> bool:
    """Return whether a file's name is one that `predict --output` gives."""
    return Path(name).stem.lower().endswith(DRAWN_STEM)
