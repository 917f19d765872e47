"""What is wrong with a data set, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from blemish.data.hashing import in_parallel
from blemish.errors import BadImage
from blemish.imaging import LIMITS, Limits, open_photograph
from blemish.vocabulary import Sample


def unreadable(samples: Iterable[Sample | Path], *, limits: Limits = LIMITS) -> list[BadImage]:
    """The photographs that cannot be opened, with path and reason; every one is decoded to find out."""

    def one(path: Path) -> BadImage | None:
        try:
            open_photograph(path, limits)
        except BadImage as error:
            return error
        return None

    found = in_parallel(one, [s.path if isinstance(s, Sample) else s for s in samples])
    return [f for f in found if f is not None]
