"""What Pillow leaves to global settings, settled here without touching them."""

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
    """A read found nothing left."""


class StrictFile(io.BufferedIOBase):
    """A file that does not end quietly.

    Someone else in this process may have set ImageFile.LOAD_TRUNCATED_IMAGES, and then Pillow fills what is
    missing of an image with grey. It asks for more bytes first, and here it does not get away with it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.armed = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes; EndOfFile where none are left and the file is armed."""
        data = self._file.read(-1 if size is None else size)
        if self.armed and not data and size:
            raise EndOfFile
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As every file does it."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the next read begins."""
        return self._file.tell()

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True


class _StrictDecoder:
    """Pillow's decoder of one tile, whose errors are raised and not left to the same global setting."""

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
    """From here on `image`, opened from a StrictFile, raises what is wrong with its pixels."""
    image.fp.armed = True  # type: ignore[union-attr]
    image.tile = [
        t if t.codec_name == "libtiff" else t._replace(codec_name=STRICT_CODEC, args=(t.codec_name, t.args))
        for t in image.tile
    ]


class _OnlyHere(threading.local):
    """Stands in a warning filter as its message pattern, and matches in threads that asked for quiet."""

    quiet = False

    def match(self, _: str) -> bool:
        """Whether this thread is inside `quiet_here`."""
        return self.quiet


_HERE = _OnlyHere()
_FILTER: Any = ("ignore", _HERE, Warning, None, 0)


@contextmanager
def quiet_here() -> Iterator[None]:
    """No warnings of Pillow's from this thread, and no other thread notices.

    warnings.catch_warnings would change the filters of every thread, and restore them out of order.
    """
    if getattr(sys.flags, "context_aware_warnings", False):  # Python 3.14 and later, where asked for
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        return
    if not warnings.filters or warnings.filters[0] is not _FILTER:
        warnings.filters.insert(0, _FILTER)  # type: ignore[attr-defined]
    before, _HERE.quiet = _HERE.quiet, True
    try:
        yield
    finally:
        _HERE.quiet = before
