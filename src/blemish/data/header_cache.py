"""What earlier looks at images showed, kept by path, size and time of change.

The cache lies in the user's cache folder, never beside the images; `BLEMISH_CACHE` names another
folder, and an empty value turns it off. Losing it costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blemish.data.header_info import HeaderInfo
from blemish.imaging import Header

VERSION = 1
WORTH_IT = 500  # below so many images, looking again is faster than remembering


def cache_folder() -> Path | None:
    """Where caches lie, or None where there shall be none."""
    named = os.environ.get("BLEMISH_CACHE")
    if named is not None:
        return Path(named) if named else None
    if sys.platform == "win32":
        above = os.environ.get("LOCALAPPDATA")
        return Path(above) / "blemish" if above else None
    with suppress(RuntimeError):
        home = Path.home()
        if sys.platform == "darwin":
            return home / "Library" / "Caches" / "blemish"
        return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "blemish"
    return None


def load_json(name: str) -> Any:
    """What `save_json` kept under a name, or None."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        content = json.loads((folder / name).read_bytes())
    except (OSError, ValueError):
        return None
    return content.get("content") if isinstance(content, dict) and content.get("version") == VERSION else None


def save_json(name: str, content: Any) -> None:
    """Keep something under a name; a cache that cannot be written is no error."""
    folder = cache_folder()
    if folder is None:
        return
    beside = folder / f"{name}.{os.getpid()}.tmp"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps({"version": VERSION, "content": content}), "utf-8")
        beside.replace(folder / name)


def short_digest(*parts: object) -> str:
    """32 hex digits of what `parts` say."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(str(part).encode("utf-8", "surrogateescape"))
        digest.update(b"\0")
    return digest.hexdigest()[:32]


@dataclass
class HeaderCache:
    """Earlier looks at the images of one folder; loaded and saved by `with`.

    Attributes:
        name: of the file in the cache folder, or None where remembering is not worth it.
    """

    name: str | None
    _rows: dict[str, list[Any]] = field(default_factory=dict)
    _changed: bool = False

    @classmethod
    def of(cls, paths: Sequence[Path], limits: object = None) -> Self:
        """The cache for these images."""
        if len(paths) < WORTH_IT or cache_folder() is None:
            return cls(None)
        ends = [os.path.abspath(paths[0]), os.path.abspath(paths[-1])]  # noqa: PTH100
        try:
            above = os.path.commonpath(ends)
        except ValueError:  # two drives of Windows have nothing in common
            above = os.pathsep.join(ends)
        return cls(f"looks-{short_digest(above, limits)}.json")

    def __enter__(self) -> Self:
        if self.name is not None:
            rows = load_json(self.name)
            self._rows = rows if isinstance(rows, dict) else {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.name is not None and self._changed and error is None:
            save_json(self.name, self._rows)

    def known(self) -> dict[str, HeaderInfo]:
        """Earlier looks by path."""
        out: dict[str, HeaderInfo] = {}
        with suppress(TypeError, ValueError, KeyError):
            for path, (size, changed, header, error, reason, fault) in self._rows.items():
                if header is not None:
                    header = Header(header[0], header[1], tuple(header[2]), tuple(header[3]), *header[4:])
                out[path] = HeaderInfo(size, changed, header, error, reason, fault)
        return out

    def remember(self, paths: Sequence[Path], looks: Sequence[HeaderInfo]) -> None:
        """Keep looks for the next time."""
        if self.name is None:
            return
        for path, look in zip(paths, looks, strict=True):
            key = os.fspath(path)
            row = self._rows.get(key)
            if row is None or row[:2] != [look.size_bytes, look.changed_ns]:
                h = look.header
                header = h and [
                    h.format,
                    h.mode,
                    h.size_hw,
                    h.stored_size_hw,
                    h.orientation,
                    h.bits,
                    h.frames,
                ]
                self._rows[key] = [
                    look.size_bytes,
                    look.changed_ns,
                    header,
                    look.error,
                    look.reason,
                    look.fault,
                ]
                self._changed = True
