"""Multipart forms with images: limited in bytes, parts and time while they arrive, in memory only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from blemish.service.declared_parameters import repeated_problem, unknown_problem
from blemish.service.problem_details import Problem
from blemish.service.settings import Settings

IMAGE_FIELDS = ("image", "file")
_MAX_OTHER_BYTES = 64 * 1024  # of all fields that are not images
_MAX_FRAMING_BYTES = 64 * 1024  # boundaries and headers of the parts
_MAX_TEXT_BYTES = 4096  # of an image field that contains text and no file
_MAX_LEADING_BYTES = 16  # line breaks before the first boundary
_PLAIN_ENCODINGS = (b"", b"binary", b"8bit", b"7bit")


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
    """The images of one form, and its other fields.

    Attributes:
        images: the bytes of each, in order.
        fields: the text of each other field that the route reads.
        size_bytes: the memory reserved for them in the budget.
    """

    images: list[bytes] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    size_bytes: int = 0


class _FormReader:
    """The callbacks of the parser: they collect the images and the fields, and stop at the first limit."""

    def __init__(
        self,
        boundary: bytes,
        settings: Settings,
        budget: MemoryBudget,
        max_images: int,
        fields: Collection[str],
        query_names: Collection[str],
    ) -> None:
        self.settings, self.budget, self.max_images = settings, budget, max_images
        self.fields, self.query_names = fields, query_names
        self.form = MultipartForm()
        self.other_bytes = 0
        self.finished = False
        self._chunks: list[bytes] = []
        self._is_image = self._has_file_name = False
        self._image_bytes = self._total_bytes = 0
        self._delimiter = b"--" + boundary
        self._closing = b"\r\n" + self._delimiter + b"--"
        self._beginning, self._end = b"", b"\r\n"
        self._has_begun = False
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
        self._chunks, self._image_bytes, self._field_name = [], 0, ""
        self._is_image = self._has_file_name = False

    def _on_header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._header = (bytearray(), bytearray())
        if name.strip().lower() == b"content-disposition":
            _, options = parse_options_header(value)
            self._field_name = options.get(b"name", b"").decode("utf-8", "replace")
            self._has_file_name = bool(options.get(b"filename"))
        elif (
            name.strip().lower() == b"content-transfer-encoding"
            and value.strip().lower() not in _PLAIN_ENCODINGS
        ):
            raise Problem(
                "bad-upload.transfer-encoding",
                "A part of the form is encoded (Content-Transfer-Encoding). Send the bytes of the file.",
            )

    def _on_headers_finished(self) -> None:
        name = self._field_name
        if not name:
            raise Problem("bad-upload.no-name", "A part of the form has no name. Name it 'image' or 'file'.")
        self._is_image = name in IMAGE_FIELDS
        if not self._is_image:
            if name not in self.fields:
                raise unknown_problem(
                    name,
                    [*IMAGE_FIELDS, *self.fields],
                    place="form",
                    elsewhere=self.query_names,
                    place_of_others="query",
                )
            if name in self.form.fields:
                raise repeated_problem(name)
            return
        if len(self.form.images) >= self.max_images:
            raise Problem(
                "too-many-images",
                f"The form has more than {self.max_images} image{'s' * (self.max_images > 1)}. "
                "Send several requests.",
                limit=("max_images", self.max_images),
            )

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        amount = end - start
        if not self._is_image:
            self.other_bytes += amount
            if self.other_bytes > _MAX_OTHER_BYTES:
                raise Problem(
                    "bad-upload", f"The fields beside the images have more than {_MAX_OTHER_BYTES} bytes."
                )
            self._chunks.append(data[start:end])
            return
        self._image_bytes += amount
        if self._image_bytes > self.settings.max_upload_bytes:
            raise _too_large_problem(self.settings)
        self.budget.acquire(amount)
        self.form.size_bytes += amount
        self._chunks.append(data[start:end])

    def _on_part_end(self) -> None:
        content, self._chunks = b"".join(self._chunks), []
        if not self._is_image:
            self.form.fields[self._field_name] = content.decode("utf-8", "replace")
            return
        if not self._has_file_name:
            self._check_is_file(content)
        self.form.images.append(content)

    def _check_is_file(self, content: bytes) -> None:
        """Refuse an image field without a file name that cannot contain a file."""
        name = self._field_name
        if not content:
            raise Problem(
                "image-missing.empty-field", f"The field {name!r} is empty: no file was chosen. Choose one."
            )
        if len(content) <= _MAX_TEXT_BYTES and _is_text(content):
            raise Problem(
                "image-missing.text-field",
                f"The field {name!r} contains text and no file. Send the file itself; with curl: "
                f"--form {name}=@FILE.",
            )

    def _on_end(self) -> None:
        self.finished = True

    def write(self, data: bytes) -> None:
        """Read the next bytes of the body.

        Raises:
            Problem: a limit is exceeded, or the form is not usable.
            FormParserError: the form is malformed.
        """
        self._total_bytes += len(data)
        if self._total_bytes > _max_body_bytes(self.settings, self.max_images):
            raise _too_large_problem(self.settings)
        if not self._has_begun and not (data := self._after_leading_lines(data)):
            return
        if self.finished:
            rest = data
        else:
            # The parser ignores what follows the last boundary, which another program may read as a form.
            searched = self._end + data
            found = searched.find(self._closing)
            length = len(data) if found < 0 else found + len(self._closing) - len(self._end)
            self._end = searched[-len(self._closing) + 1 :]
            data, rest = data[:length], data[length:]
            self.parser.write(data)
        if rest.strip(b"\r\n"):
            raise Problem(
                "bad-upload.epilogue", "The form has bytes after its last boundary. Send nothing after it."
            )

    def _after_leading_lines(self, data: bytes) -> bytes:
        """Return the bytes from the first boundary on, or nothing as long as it is incomplete."""
        self._beginning += data
        data = self._beginning.lstrip(b"\r\n")
        num_leading = len(self._beginning) - len(data)
        if num_leading <= _MAX_LEADING_BYTES:
            if self._delimiter.startswith(data) and data != self._delimiter:
                return b""
            if data.startswith(self._delimiter):
                self._has_begun, self._beginning = True, b""
                return data
        raise Problem(
            "bad-upload.preamble",
            "The form does not begin with its boundary. Send nothing before it, and name the boundary of "
            "the form in Content-Type.",
        )

    def check_end(self) -> None:
        """Raise `bad-upload` unless the form is complete."""
        if not self.finished:
            raise Problem("bad-upload", "The multipart form ends before its last boundary. Send it again.")


def _is_text(content: bytes) -> bool:
    try:
        return content.decode("utf-8").replace("\r", "").replace("\n", "").replace("\t", "").isprintable()
    except UnicodeDecodeError:
        return False


def _max_body_bytes(settings: Settings, max_images: int) -> int:
    return settings.max_upload_bytes * max_images + _MAX_OTHER_BYTES + _MAX_FRAMING_BYTES


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
    fields: Collection[str] = (),
    query_names: Collection[str] = (),
) -> MultipartForm:
    """Return the images of a multipart form, and its other fields.

    The caller releases `form.size_bytes` of `budget` when it no longer needs the images. If this function
    raises, nothing stays reserved.

    Args:
        headers: headers of the request by lower-case name.
        stream: the body as it arrives.
        settings: the limits.
        budget: the memory of all uploads together.
        max_images: maximum number of images in the form.
        fields: names of the other fields that the route reads; further ones are refused.
        query_names: names of the query's parameters, for the message about a field that belongs there.

    Raises:
        Problem: the form is malformed, too large or too slow, contains no image, or has an unknown field.
    """
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise Problem(
            "unsupported-encoding",
            "The body of the request is compressed (Content-Encoding). Send it as it is: images are "
            "compressed already.",
            headers={"Accept-Encoding": "identity"},
        )
    media_type, options = parse_options_header(headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if media_type != b"multipart/form-data" or not boundary:
        raise Problem(
            "not-multipart", "Send multipart/form-data with the image in the field 'image' or 'file'."
        )
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > _max_body_bytes(settings, max_images):
        raise _too_large_problem(settings)
    reader: _FormReader | None = None
    try:
        try:
            reader = _FormReader(boundary, settings, budget, max_images, fields, query_names)
            async with asyncio.timeout(settings.read_timeout_seconds):
                async for chunk in stream:
                    reader.write(chunk)
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
        reader.check_end()
        if not reader.form.images:
            raise Problem("image-missing", "The form has no image in a field 'image' or 'file'.")
    except BaseException:  # a client that disconnects cancels the request: its bytes are released too
        if reader is not None:
            budget.release(reader.form.size_bytes)
        raise
    return reader.form


async def read_body(
    request: Request, settings: Settings, budget: MemoryBudget, max_bytes: int
) -> tuple[bytes, int]:
    """Return the body of a request that is no form, and the memory that is reserved for it in the budget.

    Args:
        request: its stream has not been read.
        settings: the limits.
        budget: the memory of all uploads together; the caller releases the number that is returned.
        max_bytes: maximum size of the body.

    Raises:
        Problem: the body is too large, too slow or compressed, or the server has no memory for it.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem(
            "unsupported-encoding",
            "The body of the request is compressed (Content-Encoding). Send it as it is.",
            headers={"Accept-Encoding": "identity"},
        )
    chunks: list[bytes] = []
    reserved = 0
    try:
        async with asyncio.timeout(settings.read_timeout_seconds):
            async for chunk in request.stream():
                if reserved + len(chunk) > max_bytes:
                    raise Problem(
                        "upload-too-large",
                        f"The request has more than {format_bytes(max_bytes)}. Send less at once.",
                        limit=("max_upload_bytes", settings.max_upload_bytes),
                        headers={"Connection": "close"},
                    )
                budget.acquire(len(chunk))
                reserved += len(chunk)
                chunks.append(chunk)
    except TimeoutError as error:
        budget.release(reserved)
        raise Problem(
            "upload-too-slow",
            f"The upload took longer than {settings.read_timeout_seconds:g} seconds. Send a smaller image.",
            limit=("read_timeout_seconds", settings.read_timeout_seconds),
            headers={"Connection": "close"},
        ) from error
    except BaseException:
        budget.release(reserved)
        raise
    return b"".join(chunks), reserved


def format_bytes(amount: int) -> str:
    """Return a number of bytes in MB or kB, rounded down.

    Example:
        >>> format_bytes(32 * 2**20), format_bytes(53_000)
        ('32 MB', '51 kB')
    """
    return f"{amount // 2**20} MB" if amount >= 2**20 else f"{amount // 2**10} kB"
