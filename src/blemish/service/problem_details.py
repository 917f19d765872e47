"""Refused requests as RFC 9457 problem documents.

A problem never contains the text of an exception, a path or a traceback: the code that raises it writes every
sentence, and only about the request itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from blemish.errors import BadImage, BlemishError, ImageTooLarge, ImageTruncated
from blemish.service.serializers import SCHEMA_VERSION

MEDIA_TYPE = "application/problem+json"

UNSUPPORTED_FORMAT = "image-undecodable.unsupported-format"
_UNSUPPORTED = (
    UNSUPPORTED_FORMAT,
    "image-undecodable.pixel-type",
    "image-undecodable.thumbnail-only",
    "image-undecodable.raw-sensor-data",
)
# code: (status, title). Errors of the library keep their code. A code with a reason after a dot that is not
# listed has the status and the title of the code before the dot.
CATALOG: dict[str, tuple[int, str]] = {
    "label-studio": (400, "The tasks cannot be predicted"),
    "bad-tensor": (400, "The tensors cannot be read"),
    "ambiguous-length": (400, "The length of the request is ambiguous"),
    "bad-upload": (400, "The form cannot be read"),
    "api-key-missing": (401, "An API key is required"),
    "api-key-unknown": (401, "The API key is not valid"),
    "reload-forbidden": (403, "Models cannot be reloaded from here"),
    "not-found": (404, "There is nothing at this address"),
    "unknown-model": (404, "There is no such model"),
    "link-expired": (404, "The link has expired"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "upload-too-slow": (408, "The upload took too long"),
    "reload-failed": (409, "The model was not replaced"),
    "upload-too-large": (413, "The upload is too large"),
    "too-many-images": (413, "There are too many images"),
    "unsupported-encoding": (415, "The encoding of the request is not supported"),
    "not-multipart": (415, "The request is not a multipart form"),
    UNSUPPORTED_FORMAT: (415, "The file is not a supported image"),
    "image-missing": (422, "The form contains no image"),
    "bad-parameter": (422, "A parameter is not valid"),
    "bad-image": (422, "The image cannot be used"),
    "image-undecodable": (422, "The image is damaged"),
    "image-truncated": (422, "The image file is incomplete"),
    "image-too-large": (422, "The image has too many pixels"),
    "queue-full": (429, "The server is busy"),
    "internal-error": (500, "The server failed"),
    "not-live": (503, "The server does not answer any more"),
    "not-ready": (503, "The server is starting"),
    "not-ready.store": (503, "The server cannot store images"),
    "draining": (503, "The server is stopping"),
    "memory-full": (503, "The server has too many large uploads"),
    "deadline-exceeded": (504, "The answer took too long"),
}


class Problem(BlemishError):
    """A refused request.

    Attributes:
        code: a key of `CATALOG`, or one followed by "." and a reason; a plug-in may use its own code with
            `status` and `title`.
        status: the HTTP status.
        title: a short summary that is the same for every problem of this code.
        detail: one sentence for users: what is wrong and what to do.
        limit: the name of the limit that was exceeded, and its value.
        retry_after_seconds: when to try again.
        headers: further headers of the response.
    """

    class_code = "problem"

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int = 400,
        title: str = "The request was refused",
        limit: tuple[str, float] | None = None,
        retry_after_seconds: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.status, self.title = CATALOG.get(_catalog_key(code), (status, title))
        self.detail = detail
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds
        self.headers = dict(headers or {})
        if retry_after_seconds is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after_seconds)))

    def to_dict(self, request_id: str) -> dict[str, Any]:
        """Return the problem document."""
        key = _catalog_key(self.code)
        return {
            "schema_version": SCHEMA_VERSION,
            "type": f"/docs#problem-{key}" if key in CATALOG else "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
            "limit": None if self.limit is None else {"name": self.limit[0], "value": self.limit[1]},
        }


def _catalog_key(code: str) -> str:
    return code if code in CATALOG else code.partition(".")[0]


# Returns the body of a response and its media type.
FormatProblem = Callable[[Problem], tuple[dict[str, Any], str]]


def image_problem(error: BadImage, *, max_pixels: int) -> Problem:
    """Return the problem of an uploaded image that cannot be used; its code is that of `error`.

    Args:
        error: the error of `open_image`; the message of Pillow stays on the server.
        max_pixels: the limit, for the message.
    """
    if error.code == "image-too-large.memory":
        return Problem(error.code, "The server has not enough memory for the image. Send a smaller one.")
    if isinstance(error, ImageTooLarge):
        return Problem(
            error.code,
            f"The image has more than the {max_pixels / 1e6:.3g} megapixels that this server accepts. "
            "Send a smaller one.",
            limit=("max_pixels", max_pixels),
        )
    if isinstance(error, ImageTruncated):
        return Problem(error.code, "The image file ends before its last pixel. Send the complete file.")
    if error.code == "bad-image.empty-file":
        return Problem(error.code, "The image file is empty: it has 0 bytes. Send the complete file.")
    if error.code in _UNSUPPORTED:  # their sentences contain nothing of Pillow
        return Problem(error.code, f"{_sentence(error.detail)} {_sentence(error.remedy)}")
    return Problem(error.code, "The image is damaged and cannot be decoded. Send another copy.")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def internal_problem() -> Problem:
    """Return the problem of a server fault."""
    return Problem(
        "internal-error", "The server failed at this request. Its log has the cause under the request_id."
    )
