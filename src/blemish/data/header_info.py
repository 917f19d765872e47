"""`HeaderInfo`: the facts about an image file that Blemish reads without decoding it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blemish.errors import BadImage, ImageTooLarge, ImageTruncated, ImageUndecodable
from blemish.imaging import Header

ERRORS: dict[str, type[BadImage]] = {
    e.__name__: e for e in (BadImage, ImageTooLarge, ImageTruncated, ImageUndecodable)
}


@dataclass(frozen=True, slots=True)
class HeaderInfo:
    """What a look at a file without decoding it shows.

    Attributes:
        size_bytes: of the file; with `changed_ns` it tells whether the file is still the same.
        changed_ns: when it was last changed.
        header: what it says of itself, or None where it cannot be used.
        error: the name of the error, where it cannot.
        reason: its reason.
        fault: what is wrong although the header can be read: `truncated`, `checksum`, `trailing`, or "".
    """

    size_bytes: int
    changed_ns: int
    header: Header | None = None
    error: str = ""
    reason: str = ""
    fault: str = ""

    def bad(self, path: Path) -> BadImage | None:
        """The error, where there is one."""
        return ERRORS[self.error](path, self.reason) if self.error else None
