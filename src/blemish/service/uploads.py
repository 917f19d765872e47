"""Multipart forms with images: limited in bytes, parts and time while they arrive, in memory only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from blemish.service.problem_details import Problem
from blemish.service.settings import Settings

IMAGE_FIELDS = ("image", "file")
_MAX_OTHER_PARTS = 64
_MAX_OTHER_BYTES = 64 * 1024  # of all fields that are not images
_MAX_FRAMING_BYTES = 64 * 1024  # boundaries and headers of the parts


@dataclass
class MemoryBudget:
    """A limit on the memory of all uploads that are processed at once.

    Attributes:
        max_bytes: the limit.
        used_bytes: memory in use.
    """

    max_bytes: int
    used_bytes: int = 0

    def acquire(self, amount: int) -> None:
        """Reserve `amount` bytes.

        Raises:
            Problem: `memory-full`.
        """
        if self.used_bytes + amount > self.max_bytes:
            raise Problem(
                "memory-full",
                "The server has as many large uploads as it can hold. Try again in a moment.",
                limit=("upload_memory_bytes", self.max_bytes),
                retry_after_seconds=2,
            )
        self.used_bytes += amount

    def release(self, amount: int) -> None:
        """Release `amount` bytes."""
        self.used_bytes -= amount


@dataclass
class MultipartForm:
    """The images of one form.

    Attributes:
        images: the bytes of each, in order.
        size_bytes: the memory reserved for them in the budget.
    """

    images: list[bytes] = field(default_factory=list)
    size_bytes: int = 0


class _FormReader:
    """The callbacks of the parser: they collect the images, count the rest, and stop at the first limit."""

    def __init__(self, boundary: bytes, settings: Settings, budget: MemoryBudget, max_images: int) -> None:
        self.settings, self.budget, self.max_images = settings, budget, max_images
        self.form = MultipartForm()
        self.num_parts = self.other_bytes = 0
        self.finished = False
        self._chunks: list[bytes] | None = None
        self._image_bytes = 0
        self._header = (bytearray(), bytearray())
        self._field_name = ""
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def _on_part_begin(self) -> None:
        self.num_parts += 1
        limit = _MAX_OTHER_PARTS + self.max_images
        if self.num_parts > limit:
            raise Problem("bad-upload", f"The form has more than {limit} parts.")
        self._chunks, self._image_bytes, self._field_name = None, 0, ""

    def _on_header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._header = (bytearray(), bytearray())
        if name.strip().lower() == b"content-disposition":
            _, options = parse_options_header(value)
            self._field_name = options.get(b"name", b"").decode("utf-8", "replace")

    def _on_headers_finished(self) -> None:
        if self._field_name not in IMAGE_FIELDS:
            return
        if len(self.form.images) >= self.max_images:
            raise Problem(
                "too-many-images",
                f"The form has more than {self.max_images} image{'s' * (self.max_images > 1)}. "
                "Send several requests.",
                limit=("max_images", self.max_images),
            )
        self._chunks = []

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        amount = end - start
        if self._chunks is None:
            self.other_bytes += amount
            if self.other_bytes > _MAX_OTHER_BYTES:
                raise Problem(
                    "bad-upload", f"The fields beside the images have more than {_MAX_OTHER_BYTES} bytes."
                )
            return
        self._image_bytes += amount
        if self._image_bytes > self.settings.max_upload_bytes:
            raise _too_large_problem(self.settings)
        self.budget.acquire(amount)
        self.form.size_bytes += amount
        self._chunks.append(data[start:end])

    def _on_part_end(self) -> None:
        if self._chunks is not None:
            self.form.images.append(b"".join(self._chunks))
            self._chunks = None

    def _on_end(self) -> None:
        self.finished = True


def _too_large_problem(settings: Settings) -> Problem:
    return Problem(
        "upload-too-large",
        f"The image file is larger than the {format_bytes(settings.max_upload_bytes)} that this server "
        "accepts. Send a smaller one.",
        limit=("max_upload_bytes", settings.max_upload_bytes),
        # The rest of the upload is not worth reading.
        headers={"Connection": "close"},
    )


async def read_form(
    headers: Mapping[str, str],
    stream: AsyncIterator[bytes],
    settings: Settings,
    budget: MemoryBudget,
    *,
    max_images: int = 1,
) -> MultipartForm:
    """Return the images of a multipart form.

    The caller releases `form.size_bytes` of `budget` when it no longer needs the images. If this function
    raises, nothing stays reserved.

    Args:
        headers: headers of the request by lower-case name.
        stream: the body as it arrives.
        settings: the limits.
        budget: the memory of all uploads together.
        max_images: maximum number of images in the form.

    Raises:
        Problem: the form is malformed, too large or too slow, or contains no image.
    """
    media_type, options = parse_options_header(headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if media_type != b"multipart/form-data" or not boundary:
        raise Problem(
            "not-multipart", "Send multipart/form-data with the image in the field 'image' or 'file'."
        )
    declared = headers.get("content-length", "")
    max_body = settings.max_upload_bytes * max_images + _MAX_OTHER_BYTES + _MAX_FRAMING_BYTES
    if declared.isdecimal() and int(declared) > max_body:
        raise _too_large_problem(settings)
    reader: _FormReader | None = None
    try:
        try:
            reader = _FormReader(boundary, settings, budget, max_images)
            async with asyncio.timeout(settings.read_timeout_seconds):
                async for chunk in stream:
                    reader.parser.write(chunk)
        except FormParserError as error:
            raise Problem(
                "bad-upload", "The multipart form is malformed. Build it with an HTTP library."
            ) from error
        except TimeoutError as error:
            raise Problem(
                "upload-too-slow",
                f"The upload took longer than {settings.read_timeout_seconds:g} seconds. Send a smaller "
                "image, or use a faster connection.",
                limit=("read_timeout_seconds", settings.read_timeout_seconds),
                headers={"Connection": "close"},
            ) from error
        if not reader.finished:
            raise Problem("bad-upload", "The multipart form ends before its last boundary. Send it again.")
        if not reader.form.images:
            raise Problem("image-missing", "The form has no image in a field 'image' or 'file'.")
    except BaseException:  # a client that disconnects cancels the request: its bytes are released too
        if reader is not None:
            budget.release(reader.form.size_bytes)
        raise
    return reader.form


def format_bytes(amount: int) -> str:
    """Return a number of bytes in MB or kB, rounded down.

    Example:
        >>> format_bytes(32 * 2**20), format_bytes(53_000)
        ('32 MB', '51 kB')
    """
    return f"{amount // 2**20} MB" if amount >= 2**20 else f"{amount // 2**10} kB"
