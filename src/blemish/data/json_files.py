"""Find and load JSON files of annotations, in a folder, next to its images and in its split folders."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blemish.data.split_names import split_named
from blemish.errors import BadDataset

HEAD_BYTES = 65_536
MAX_FILES_TO_RECOGNIZE = 50
FOLDERS = ("annotations", "labels", "images")


def json_files(path: Path, is_one: Callable[[bytes], bool], suffix: str = ".json") -> dict[Path, str | None]:
    """Return the files of a format with the split of each: that of its folder, or of a word of its name.

    Args:
        path: a file, or a folder; its split folders are searched too.
        is_one: whether the first bytes of a file, without white space before them, are those of the format.
        suffix: of the files, in lower case.
    """
    if path.is_file():
        return {path: None} if path.suffix.casefold() == suffix and is_one(head_of(path)) else {}
    if not path.is_dir():
        return {}
    with os.scandir(path) as entries:
        children = [path / name for name in sorted(entry.name for entry in entries if entry.is_dir())]
    folders = [path, *(c for c in children if c.name.casefold() in FOLDERS or split_named(c.name))]
    found: dict[Path, str | None] = {}
    for folder in folders:
        for file in _files_with(folder, suffix)[:MAX_FILES_TO_RECOGNIZE]:
            if is_one(head_of(file)):
                found[file] = split_named(folder.name)
    if len(found) > 1:
        found = {file: split or _split_in_name(file) for file, split in found.items()}
    return found


def _files_with(folder: Path, suffix: str) -> list[Path]:
    """Return the files of a folder with a suffix in any letter case, by name, without hidden ones."""
    with os.scandir(folder) as entries:  # folders of images have thousands of other files
        names = [
            entry.name
            for entry in entries
            if entry.name.casefold().endswith(suffix) and not entry.name.startswith(".") and entry.is_file()
        ]
    return [folder / name for name in sorted(names)]


def head_of(file: Path) -> bytes:
    """Return the first bytes of a file, without white space and a byte order mark before them."""
    with file.open("rb") as stream:
        return stream.read(HEAD_BYTES).lstrip(b"\xef\xbb\xbf \r\n\t")


def _split_in_name(file: Path) -> str | None:
    words = re.split(r"[^a-z]+", file.stem.casefold())
    return next((split for word in words if (split := split_named(word))), None)


def load_json_file(file: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        BadDataset: it is not valid JSON in UTF-8; the message names the line.
    """
    try:
        return json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise BadDataset(
            f"invalid JSON ({error.msg})",
            where=f"{file}:{error.lineno}",
            remedy="correct the file",
            reason="invalid-json",
        ) from error
    except UnicodeDecodeError as error:
        raise BadDataset(
            "the text is not UTF-8", where=file, remedy="save the file as UTF-8", reason="encoding"
        ) from error
    except (RecursionError, ValueError) as error:
        cause = "nested too deep" if isinstance(error, RecursionError) else "a number has too many digits"
        raise BadDataset(
            f"invalid JSON ({cause})", where=file, remedy="export the file again", reason="invalid-json"
        ) from error
