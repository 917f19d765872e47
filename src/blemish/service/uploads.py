"""Reading a multipart form: bounded in bytes, parts and time, counted as it arrives, in memory only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from blemish.service.problem_details import Problem
from blemish.service.settings import Settings

IMAGE_FIELDS = ("image", "file")
_PARTS = 64
_OTHER_BYTES = 64 * 1024  # of all fields that are no image
_FRAMING_BYTES = 64 * 1024  # boundaries and part headers


@dataclass
class MemoryBudget:
    """Bytes of uploads that may be in memory at once, over all requests.

    Attributes:
        capacity: bytes.
        held: bytes in memory now.
    """

    capacity: int
    held: int = 0

    def take(self, amount: int) -> None:
        """Account for `amount` bytes more; Problem `memory_full` where they do not fit."""
        if self.held + amount > self.capacity:
            raise Problem(
                "memory_full",
                "The server holds as many uploads as it can; try again in a moment.",
                limit=("upload_memory_bytes", self.capacity),
                retry_after_seconds=2,
            )
        self.held += amount

    def give_back(self, amount: int) -> None:
        """Account for `amount` bytes less."""
        self.held -= amount


@dataclass
class MultipartForm:
    """What a form held: the images, in order; and how many bytes of the budget they take."""

    images: list[bytes] = field(default_factory=list)
    held: int = 0


class _Reader:
    """The parser's callbacks: sorts bytes into images and the rest, and stops at the first limit."""

    def __init__(self, boundary: bytes, settings: Settings, budget: MemoryBudget, most: int) -> None:
        self.settings, self.budget, self.most = settings, budget, most
        self.form = MultipartForm()
        self.parts = self.other = 0
        self.finished = False
        self._chunks: list[bytes] | None = None
        self._size = 0
        self._header = (bytearray(), bytearray())
        self._name = ""
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def _begin(self) -> None:
        self.parts += 1
        if self.parts > _PARTS + self.most:
            raise Problem("bad_upload", f"The form has more than {_PARTS + self.most} parts.")
        self._chunks, self._size, self._name = None, 0, ""

    def _header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._header = (bytearray(), bytearray())
        if name.strip().lower() == b"content-disposition":
            _, options = parse_options_header(value)
            self._name = options.get(b"name", b"").decode("utf-8", "replace")

    def _headers_finished(self) -> None:
        if self._name not in IMAGE_FIELDS:
            return
        if len(self.form.images) >= self.most:
            raise Problem(
                "too_many_photographs",
                f"The form has more than {self.most} photograph{'s' * (self.most > 1)}; send them in parts.",
                limit=("max_batch", self.most),
            )
        self._chunks = []

    def _data(self, data: bytes, start: int, end: int) -> None:
        amount = end - start
        if self._chunks is None:
            self.other += amount
            if self.other > _OTHER_BYTES:
                raise Problem(
                    "bad_upload", f"The fields beside the photographs have more than {_OTHER_BYTES} bytes."
                )
            return
        self._size += amount
        if self._size > self.settings.max_upload_bytes:
            raise too_large(self.settings)
        self.budget.take(amount)
        self.form.held += amount
        self._chunks.append(data[start:end])

    def _end(self) -> None:
        if self._chunks is not None:
            self.form.images.append(b"".join(self._chunks))
            self._chunks = None

    def _finish(self) -> None:
        self.finished = True


def too_large(settings: Settings) -> Problem:
    """The problem of an image over the limit."""
    return Problem(
        "upload_too_large",
        f"The photograph is larger than the {megabytes(settings.max_upload_bytes)} this server takes; "
        "send a smaller one.",
        limit=("max_upload_bytes", settings.max_upload_bytes),
        # What is left of the upload is not worth reading.
        headers={"Connection": "close"},
    )


async def read_form(
    headers: Mapping[str, str],
    stream: AsyncIterator[bytes],
    settings: Settings,
    budget: MemoryBudget,
    *,
    most: int = 1,
) -> MultipartForm:
    """The images of a multipart form.

    The caller gives `form.held` bytes back to `budget` once it is done with them; where this raises,
    nothing is held.

    Args:
        headers: of the request, by lower-case name.
        stream: the body as it arrives.
        settings: the limits.
        budget: of all uploads together.
        most: how many images the form may hold.

    Raises:
        Problem: whatever is wrong with the form, or slow about it.
    """
    kind, options = parse_options_header(headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise Problem(
            "not_a_form",
            "Send multipart/form-data with the photograph in the field 'image' or 'file'.",
        )
    declared = headers.get("content-length", "")
    if (
        declared.isdecimal()
        and int(declared) > settings.max_upload_bytes * most + _OTHER_BYTES + _FRAMING_BYTES
    ):
        raise too_large(settings)
    reader: _Reader | None = None
    try:
        try:
            reader = _Reader(boundary, settings, budget, most)
            async with asyncio.timeout(settings.read_timeout_seconds):
                async for chunk in stream:
                    reader.parser.write(chunk)
        except FormParserError as error:
            raise Problem("bad_upload", "The multipart form is malformed; let a library build it.") from error
        except TimeoutError as error:
            raise Problem(
                "upload_too_slow",
                f"The upload took longer than {settings.read_timeout_seconds:g} seconds; try again on a "
                "faster line or send a smaller photograph.",
                limit=("read_timeout_seconds", settings.read_timeout_seconds),
                headers={"Connection": "close"},
            ) from error
        if not reader.finished:
            raise Problem("bad_upload", "The multipart form ends before its last boundary; send it again.")
        if not reader.form.images:
            raise Problem("no_photograph", "The form has no field 'image' or 'file' with a photograph.")
    except BaseException:  # a client that went away cancels the request: its bytes go too
        if reader is not None:
            budget.give_back(reader.form.held)
        raise
    return reader.form


def megabytes(amount: int) -> str:
    """A number of bytes as people say it, rounded down: `32 MB`, `51 kB`."""
    return f"{amount // 2**20} MB" if amount >= 2**20 else f"{amount // 2**10} kB"


# The first bytes of the formats that imaging reads; WebP is told by bytes 8 to 12.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def looks_like_image(data: bytes | Any) -> bool:
    """Whether the bytes begin as one of the formats that are read, whatever their name or header says."""
    return bytes(data[:8]).startswith(_BEGINNINGS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
