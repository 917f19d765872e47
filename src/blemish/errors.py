"""Everything Blemish raises on purpose.

    BlemishError
    ├── BadInput                  the user's input is wrong: the command line exits with 2
    │   ├── BadImage              an image cannot be used; carries its path
    │   │   ├── ImageTooLarge     over the byte or pixel limit, known from the header
    │   │   ├── ImageUndecodable  no image, or one in a format that is not supported
    │   │   └── ImageTruncated    begins as an image and ends too early
    │   ├── BadDataset            labels and images that cannot be read as a data set
    │   ├── BadRecipe             a recipe key, value or combination that is not possible
    │   ├── BadModelFile          no model file, a damaged one, or one of a later format
    │   ├── BadWeights            weights that do not fit the network, or are no weights
    │   ├── WrongTask             a thing of one task handed to a verb of another
    │   └── UnknownName           a label, architecture, format or option that does not exist
    ├── MissingExtra              a part of Blemish that is not installed; says what to install
    ├── NoNetwork                 a download that could not be made; says what to do without
    ├── StorageFull               the disk is full or read-only; what was there before is intact
    ├── ExportRefused             the exported file does not decide as the network does
    └── TrainingFailed            training cannot go on; the last good checkpoint is intact

An error's text is one sentence that says what is wrong, where, and what to do. Every one of them
makes the command line exit with 2; 1 is for work that was done in part.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class BlemishError(Exception):
    """Whatever Blemish raises on purpose."""


class BadInput(BlemishError, ValueError):
    """The user's input is wrong."""


class BadImage(BadInput):
    """An image cannot be used.

    Attributes:
        path: the file, or None for an image from memory.
        reason: what is wrong with it, without the path.
    """

    def __init__(self, path: Path | str | None, reason: str) -> None:
        self.path = None if path is None else Path(path)
        self.reason = reason
        super().__init__(f"{path if path is not None else 'image'}: {reason}")


class ImageTooLarge(BadImage):
    """Over the byte or pixel limit; known before decoding."""


class ImageUndecodable(BadImage):
    """No image, or one in a format that is not supported."""


class ImageTruncated(BadImage):
    """Begins as an image and ends too early."""


class BadDataset(BadInput):
    """Labels and images that cannot be read as a data set."""


class BadRecipe(BadInput):
    """A recipe key, value or combination that is not possible."""


class BadModelFile(BadInput):
    """No model file, a damaged one, or one of a later format."""


class BadWeights(BadInput):
    """Weights that do not fit the network, or are no weights."""


class WrongTask(BadInput):
    """A thing of one task handed to a verb of another."""


class UnknownName(BadInput):
    """A label, architecture, format or option that does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, where: str = "") -> None:
        self.name = name
        at = f" in {where}" if where else ""
        super().__init__(f"unknown {kind} {name!r}{at}{suggestion(name, known)}")


class MissingExtra(BlemishError, ImportError):
    """A part of Blemish that is not installed."""

    def __init__(self, extra: str, purpose: str) -> None:
        self.extra = extra
        super().__init__(
            f"{purpose} needs the extra '{extra}': install it with pip install 'blemish[{extra}]'"
        )


class NoNetwork(BlemishError):
    """A download that could not be made."""


class StorageFull(BlemishError, OSError):
    """The disk is full or read-only; what was there before is intact."""


class ExportRefused(BlemishError):
    """The exported file does not decide as the network does."""


class TrainingFailed(BlemishError):
    """Training cannot go on; the last good checkpoint is intact."""


def suggestion(name: str, known: Iterable[str], most: int = 12) -> str:
    """The end of an error's sentence about a name that does not exist: the nearest one, or all of a few.

    Example:
        >>> suggestion("dents", ["dent", "scratch"])
        "; did you mean 'dent'?"
        >>> suggestion("xyz", ["dent", "scratch"])
        '; known are dent, scratch'
    """
    names = [str(n) for n in known]
    folded = {n.casefold(): n for n in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    if near:
        return f"; did you mean {folded[near[0]]!r}?"
    if not names:
        return ""
    shown = ", ".join(names[:most])
    return f"; known are {shown}" + (f" and {len(names) - most} more" if len(names) > most else "")
