"""The headers of many photographs at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blemish.errors import BadImage
from blemish.imaging import LIMITS, Header, Limits, read_header

THREADS = min(8, (os.cpu_count() or 1) + 1)


def read_headers(paths: Iterable[Path], *, limits: Limits = LIMITS) -> list[Header | BadImage]:
    """What each photograph says of itself, or why it cannot be used; in the order of `paths`."""

    def one(path: Path) -> Header | BadImage:
        try:
            return read_header(path, limits)
        except BadImage as error:
            return error

    listed: Sequence[Path] = list(paths)
    if len(listed) < 16:
        return [one(p) for p in listed]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, listed, chunksize=64))
