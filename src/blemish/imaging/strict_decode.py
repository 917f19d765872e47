"""Strict decoding and suppressed warnings for one image, without changes to global settings of Pillow."""

from __future__ import annotations

import io
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from PIL import Image, ImageFile


class EndOfFile(Exception):
    """A read at the end of the file."""


class StrictFile(io.BufferedIOBase):
    """A file that raises `EndOfFile` when a decoder reads past its end.

    If another part of the process has set ImageFile.LOAD_TRUNCATED_IMAGES, Pillow fills the missing part of
    an image with gray. It tries to read more bytes first, and this class turns that read into an error.

    Attributes:
        armed: whether reads at the end raise `EndOfFile`; False while the header is read.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.armed = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes; raise `EndOfFile` if the file is armed and none are left."""
        data = self._file.read(-1 if size is None else size)
        if self.armed and not data and size:
            raise EndOfFile
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to an offset and return the new position."""
        return self._file.seek(offset, whence)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True


class _StrictDecoder:
    """Pillow's decoder of one tile, with errors that are raised under every global setting."""

    def __init__(self, mode: str, codec: str, *args: Any) -> None:
        self._inner: Any = Image._getdecoder(mode, codec, args[0], args[1:])

    def decode(self, data: bytes) -> tuple[int, int]:
        consumed, error = self._inner.decode(data)
        if error < 0:
            raise OSError(f"decoder error {error}")
        return consumed, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


STRICT_CODEC = "blemish-strict"
Image.register_decoder(STRICT_CODEC, _StrictDecoder)  # type: ignore[arg-type]


def make_strict(image: ImageFile.ImageFile) -> None:
    """Make `image`, opened from a `StrictFile`, raise every error of its pixels."""
    image.fp.armed = True  # type: ignore[union-attr]
    image.tile = [
        t if t.codec_name == "libtiff" else t._replace(codec_name=STRICT_CODEC, args=(t.codec_name, t.args))
        for t in image.tile
    ]


class _ThreadPattern(threading.local):
    """The message pattern of a warning filter that matches only in threads inside `suppress_warnings`."""

    active = False

    def match(self, _: str) -> bool:
        """Return whether this thread is inside `suppress_warnings`."""
        return self.active


_PATTERN = _ThreadPattern()
_FILTER: Any = ("ignore", _PATTERN, Warning, None, 0)


@contextmanager
def suppress_warnings() -> Iterator[None]:
    """Suppress all warnings of this thread in the block, without an effect on other threads.

    warnings.catch_warnings would change the filters of every thread and restore them in the wrong order.
    """
    if getattr(sys.flags, "context_aware_warnings", False):  # Python 3.14 and later, if enabled
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        return
    if not warnings.filters or warnings.filters[0] is not _FILTER:
        warnings.filters.insert(0, _FILTER)  # type: ignore[attr-defined]
    previous, _PATTERN.active = _PATTERN.active, True
    try:
        yield
    finally:
        _PATTERN.active = previous
