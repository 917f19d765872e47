"""Find the COCO files of a data set, and load them."""

from __future__ import annotations

import json
import mmap
import re
from pathlib import Path
from typing import Any

from blemish.data.json_files import load_json_file
from blemish.data.split_names import split_named
from blemish.errors import BadDataset

NAMES = ("annotations.json", "_annotations.coco.json", "labels.json", "coco.json", "result.json")
MAX_FILES_TO_RECOGNIZE = 50
FOLDERS = ("annotations", "labels", "raw")
KEYS = re.compile(rb'"(?:images|annotations|categories)"')
LISTS = tuple(re.compile(rb'"%s"\s*:\s*\[' % key) for key in (b"images", b"annotations", b"categories"))


def annotation_files(path: Path) -> dict[str | None, Path]:
    """Return the COCO files of a data set by split; the key is None for a data set without splits.

    Raises:
        BadDataset: there are several files, and they are not one per split.
    """
    if path.is_file():
        return {_split_of(path): path} if is_coco(path, named=True) else {}
    found = [f for folder in (path, *(path / f for f in FOLDERS)) for f in _coco_files_in(folder)]
    instances = [f for f in found if f.name.startswith("instances_")]
    found = instances or found
    if not found:
        below = {
            folder: file
            for folder in sorted(p for p in path.iterdir() if p.is_dir() and split_named(p.name))
            if (file := _only_file(folder)) is not None
        }
        return {split_named(folder.name): file for folder, file in below.items()}
    splits = {_split_of(f): f for f in found}
    if len(found) > 1 and (None in splits or len(splits) < len(found)):
        return {None: _only_named(found, path)}
    return splits


def _coco_files_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = [f for f in sorted(folder.glob("*.json")) if not f.name.startswith(".")]
    found = [f for f in files if is_coco(f)]
    return (
        [f for f in found if not _is_outdated(f, len(files) - len(found))]
        if len(found) < len(files)
        else found
    )


def _is_outdated(file: Path, other_files: int) -> bool:
    """Return whether a COCO file lists fewer images than there are LabelMe files next to it.

    The file is then an earlier conversion of them.
    """
    if not any(_starts_like_labelme(f) for f in sorted(file.parent.glob("*.json"))[:MAX_FILES_TO_RECOGNIZE]):
        return False
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return False
    return len(content.get("images") or ()) < other_files


def _starts_like_labelme(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(4096)
    return b'"shapes"' in head and b'"annotations"' not in head


def _only_file(split_folder: Path) -> Path | None:
    """Return the COCO file of a split folder: with one of the usual names, or the only one."""
    for folder in (split_folder, *(split_folder / f for f in FOLDERS)):
        found = _coco_files_in(folder)
        if found:
            return found[0] if len(found) == 1 else _only_named(found, folder)
    return None


def _only_named(found: list[Path], folder: Path) -> Path:
    """Return the file with one of the usual names.

    Raises:
        BadDataset: there is none, or several.
    """
    named = [f for f in found if f.name in NAMES]
    if len(named) == 1:
        return named[0]
    shown = ", ".join(f.name for f in found)
    raise BadDataset(
        f"expected one COCO file, or one per split, got {shown}",
        where=folder,
        remedy="pass the path of one of them",
        reason="ambiguous-files",
    )


def _split_of(file: Path) -> str | None:
    for word in re.split(r"[^a-z]+", file.stem.casefold()):
        if split_named(word):
            return split_named(word)
    return split_named(file.parent.name)


def is_coco(file: Path, *, named: bool = False) -> bool:
    """Return whether a file contains the lists of COCO: images, annotations and categories.

    Of files with one of the usual names, one of the keys suffices, so that reading reports the missing ones.

    Args:
        file: any file.
        named: whether the user passed its path, which counts as a usual name.
    """
    if file.suffix.casefold() != ".json":
        return False
    usual = named or file.name in NAMES or file.name.startswith("instances_")
    with file.open("rb") as stream:
        head = stream.read(4096).lstrip(b"\xef\xbb\xbf \r\n\t")
        if not head.startswith(b"{"):
            return False
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return all(pattern.search(content) for pattern in ([KEYS] if usual else LISTS))


def load_coco(file: Path) -> dict[str, Any]:
    """Return the content of a COCO file.

    Raises:
        BadDataset: it is not valid JSON, or not a COCO file of instances; the message names the line or key.
    """
    content = load_json_file(file)
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if isinstance(annotations, list) and any(
        "segments_info" in a for a in annotations if isinstance(a, dict)
    ):
        raise BadDataset(
            "expected annotations of objects, got panoptic segmentation (segments_info)",
            where=file,
            remedy="export the objects as COCO instances; panoptic files name regions in PNG files",
            reason="panoptic",
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise BadDataset(
                f"expected a list {key!r}, as in every COCO file",
                where=file,
                remedy="check whether it is another format",
                reason="missing-key",
            )
        if not all(isinstance(entry, dict) for entry in content[key]):
            raise BadDataset(
                f"an entry of {key!r} is not an object",
                where=file,
                remedy="correct or remove it",
                reason="invalid-entry",
            )
    return content  # type: ignore[no-any-return]
