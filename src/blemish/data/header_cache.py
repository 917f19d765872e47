"""A cache of `HeaderInfo` by path, file size and time of modification."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blemish.data.header_info import HeaderInfo
from blemish.data.user_cache import cache_folder, load_json, save_json, short_digest
from blemish.imaging import Header

MIN_IMAGES = 500  # reading the headers of fewer images is faster than reading a cache

VERSION = 2  # increase it when headers are read differently


@dataclass
class HeaderCache:
    """The cached header infos of the images of one folder; a `with` block loads and saves them.

    Attributes:
        name: name of the file in the cache folder, or None to cache nothing.
    """

    name: str | None
    _rows: dict[str, list[Any]] = field(default_factory=dict)
    _changed: bool = False

    @classmethod
    def for_paths(cls, paths: Sequence[Path], limits: object = None) -> Self:
        """Return the cache for these images.

        Args:
            paths: the images, sorted or at least grouped by folder.
            limits: the limits of size that they are checked against; each value has its own cache.
        """
        if len(paths) < MIN_IMAGES or cache_folder() is None:
            return cls(None)
        ends = [os.path.abspath(paths[0]), os.path.abspath(paths[-1])]  # noqa: PTH100
        try:
            parent = os.path.commonpath(ends)
        except ValueError:  # two drives of Windows have no common path
            parent = os.pathsep.join(ends)
        return cls(f"headers-{short_digest(VERSION, parent, limits)}.json")

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

    def entries(self) -> dict[str, HeaderInfo]:
        """Return the cached header infos by path; a damaged cache gives those before the damage."""
        entries: dict[str, HeaderInfo] = {}
        with suppress(TypeError, ValueError, KeyError):
            for path, (size, modified, row, *texts) in self._rows.items():
                header = (
                    None if row is None else Header(row[0], row[1], tuple(row[2]), tuple(row[3]), *row[4:])
                )
                entries[path] = HeaderInfo(size, modified, header, *texts)
        return entries

    def store(self, paths: Sequence[Path], infos: Sequence[HeaderInfo]) -> None:
        """Add or replace the header infos of `paths`."""
        if self.name is None:
            return
        for path, info in zip(paths, infos, strict=True):
            key = os.fspath(path)
            row = self._rows.get(key)
            if row is None or row[:2] != [info.size_bytes, info.modified_ns]:
                self._rows[key] = _row(info)
                self._changed = True


def _row(info: HeaderInfo) -> list[Any]:
    h = info.header
    header = h and [
        h.format,
        h.mode,
        h.size_hw,
        h.stored_size_hw,
        h.orientation,
        h.bits,
        h.frames,
        h.white_level,
    ]
    return [
        info.size_bytes,
        info.modified_ns,
        header,
        info.error_code,
        info.detail,
        info.remedy,
        info.fault,
    ]
