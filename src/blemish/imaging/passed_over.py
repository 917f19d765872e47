"""`PassedOver`: the images in unsupported formats that a search of a folder skips, counted and named."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from blemish.imaging.image_formats import UNSUPPORTED_SUFFIXES

MAX_NAMES = 5  # that a sentence names


def is_unsupported(name: str) -> bool:
    """Return whether the suffix of a file's name is that of an unsupported image format."""
    return os.path.splitext(name)[1].lower() in UNSUPPORTED_SUFFIXES  # noqa: PTH122 - faster than Path


@dataclass
class PassedOver:
    """The images in unsupported formats that a search found.

    Attributes:
        paths: by the name of the format, such as "HEIC".
    """

    paths: dict[str, list[Path]] = field(default_factory=dict)

    def add(self, path: Path) -> None:
        """Record a file if its suffix is that of an unsupported image format."""
        kind = UNSUPPORTED_SUFFIXES.get(path.suffix.lower())
        if kind is not None:
            self.paths.setdefault(kind, []).append(path)

    @property
    def count(self) -> int:
        """The number of files."""
        return sum(map(len, self.paths.values()))

    def sentence(self) -> str:
        """Return a sentence that counts and names the files, or "" if there are none.

        Example:
            >>> found = PassedOver()
            >>> found.add(Path("IMG_1.HEIC"))
            >>> found.sentence()
            '1 image in an unsupported format was passed over: 1 HEIC (IMG_1.HEIC). Save it as JPEG or PNG.'
        """
        if not self.count:
            return ""
        kinds = []
        for kind, paths in self.paths.items():
            names = ", ".join(p.name for p in paths[:MAX_NAMES]) + (", ..." if len(paths) > MAX_NAMES else "")
            kinds.append(f"{len(paths)} {kind} ({names})")
        images, were, it = ("image", "was", "it") if self.count == 1 else ("images", "were", "them")
        a = "an unsupported format" if self.count == 1 else "unsupported formats"
        return (
            f"{self.count} {images} in {a} {were} passed over: {'; '.join(kinds)}. Save {it} as JPEG or PNG."
        )
