"""Describe the files of a folder in one sentence, for the error about a layout that no format reads."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from blemish.data.image_index import files_below, is_image_name

ANNOTATION_SUFFIXES = frozenset(
    {".json", ".ndjson", ".jsonl", ".xml", ".csv", ".tsv", ".txt", ".yaml", ".yml", ".mat", ".npy", ".npz"}
    | {".parquet", ".tfrecord", ".record", ".pkl", ".lst", ".xlsx", ".db", ".sqlite", ".geojson"}
)
TEXT_SUFFIXES = frozenset({".json", ".ndjson", ".jsonl", ".xml", ".csv", ".tsv", ".txt", ".lst", ".geojson"})
PLAIN_FILES = re.compile(
    r"(read.?me|licen[cs]e|changelog|requirements|notice|copying|citation)", re.IGNORECASE
)
MAX_FILES_READ = 50
MAX_BYTES_READ = 200_000
MAX_FOLDERS_SHOWN = 6
MAX_NAME_LENGTH = 255
IMAGE_SUFFIX = re.compile(rb"\.(?:jpe?g|png|bmp|tiff?|webp|avif)\b", re.IGNORECASE)
BEFORE_NAME = re.compile(rb"[\"'<>/\\|,;:\t\r\n]")


@dataclass(frozen=True)
class Survey:
    """The files below a folder.

    Attributes:
        images: number of images in each folder, by its path below the root; "" is the root.
        others: number of files of each suffix that can contain annotations, in each folder.
        annotation_files: files that name an image of the folder, or have the stem of one.
    """

    images: dict[str, int] = field(default_factory=dict)
    others: dict[tuple[str, str], int] = field(default_factory=dict)
    annotation_files: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return what the folder contains, such as "6 images in images and 6 .json files in ann"."""
        parts = [f"{_counted(n, 'image')}{_inside(folder)}" for folder, n in self.images.items()]
        parts += [f"{_counted(n, f'{s} file')}{_inside(f)}" for (f, s), n in self.others.items()]
        if not parts:
            return "no images and no annotation files"
        more = len(parts) - MAX_FOLDERS_SHOWN
        shown = parts[:MAX_FOLDERS_SHOWN] + ([f"files in {more} more folders"] if more > 0 else [])
        return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def survey(root: Path) -> Survey:
    """Return the images and the possible annotation files below a folder."""
    images: Counter[str] = Counter()
    others: Counter[tuple[str, str]] = Counter()
    names: set[str] = set()
    candidates: list[str] = []
    for prefix, entry in sorted(files_below(root), key=lambda found: (found[0], found[1].name)):
        folder, suffix = prefix.rstrip("/"), os.path.splitext(entry.name)[1].casefold()  # noqa: PTH122
        if is_image_name(entry.name):
            images[folder] += 1
            names.add(entry.name)
        elif suffix in ANNOTATION_SUFFIXES and not PLAIN_FILES.match(entry.name):
            others[folder, suffix] += 1
            candidates.append(prefix + entry.name)
    return Survey(dict(images), dict(others), tuple(_naming_images(root, candidates, names)))


def _naming_images(root: Path, candidates: list[str], image_names: set[str]) -> Iterator[str]:
    """Yield the files that have the stem of an image or name one in their first bytes."""
    stems = {os.path.splitext(n)[0] for n in image_names}  # noqa: PTH122
    folded = {os.fsencode(n).lower() for n in image_names}
    read = 0
    for name in candidates:
        stem, suffix = os.path.splitext(name.rpartition("/")[2])  # noqa: PTH122
        if stem in stems or stem in image_names:
            yield name
        elif suffix.casefold() in TEXT_SUFFIXES and read < MAX_FILES_READ:
            read += 1
            if _mentions(root / name, folded):
                yield name


def _mentions(file: Path, folded_names: set[bytes]) -> bool:
    try:
        with file.open("rb") as stream:
            head = stream.read(MAX_BYTES_READ)
    except OSError:
        return False
    for match in IMAGE_SUFFIX.finditer(head):
        name = BEFORE_NAME.split(head[max(0, match.start() - MAX_NAME_LENGTH) : match.end()])[-1].strip()
        if name.lower() in folded_names or name.rpartition(b" ")[2].lower() in folded_names:
            return True
    return False


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number > 1 else "")


def _inside(folder: str) -> str:
    return f" in {folder}" if folder else ""
