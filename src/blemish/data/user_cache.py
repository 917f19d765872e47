"""Small JSON files in the user's cache folder.

The folder is the operating system's usual one and is never beside the images. The environment variable
`BLEMISH_CACHE` names another folder; an empty value turns caching off. A lost cache costs time and nothing
else.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

VERSION = 2  # increase it when a cached layout changes


def cache_folder() -> Path | None:
    """Return the folder of all caches, or None if caching is turned off."""
    configured = os.environ.get("BLEMISH_CACHE")
    if configured is not None:
        return Path(configured) if configured else None
    if sys.platform == "win32":
        parent = os.environ.get("LOCALAPPDATA")
        return Path(parent) / "blemish" if parent else None
    with suppress(RuntimeError):
        home = Path.home()
        if sys.platform == "darwin":
            return home / "Library" / "Caches" / "blemish"
        return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "blemish"
    return None


def load_json(name: str) -> Any:
    """Return the content that `save_json` stored as `name`, or None if there is none."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        stored = json.loads((folder / name).read_bytes())
    except (OSError, ValueError):
        return None
    return stored.get("content") if isinstance(stored, dict) and stored.get("version") == VERSION else None


def save_json(name: str, content: Any) -> None:
    """Store content as `name`; a cache that cannot be written is not an error."""
    folder = cache_folder()
    if folder is None:
        return
    temporary = folder / f"{name}.{os.getpid()}.tmp"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"version": VERSION, "content": content}), "utf-8")
        temporary.replace(folder / name)


def save_bytes(name: str, content: bytes) -> Path | None:
    """Write a file into the cache folder and return its path; None if that is not possible."""
    folder = cache_folder()
    if folder is None:
        return None
    path = folder / name
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        return None
    return path


def short_digest(*parts: object) -> str:
    """Return 32 hexadecimal digits of the SHA-256 of the text of all parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(str(part).encode("utf-8", "surrogateescape"))
        digest.update(b"\0")
    return digest.hexdigest()[:32]
