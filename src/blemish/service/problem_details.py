"""What is refused, and how that is said: RFC 9457 problem documents.

A problem never holds an exception's text, a path or a traceback: every sentence is written here or by
whoever raises it, about the request alone.
"""

from __future__ import annotations

import math
from typing import Any

from blemish.errors import BadImage, ImageTooLarge, ImageTruncated, ImageUndecodable
from blemish.imaging.image_formats import FORMATS, foreign_format

MEDIA_TYPE = "application/problem+json"

# code: (status, title)
CATALOGUE: dict[str, tuple[int, str]] = {
    "bad_upload": (400, "The form cannot be read"),
    "key_missing": (401, "An API key is needed"),
    "key_unknown": (401, "The API key is not known"),
    "not_found": (404, "There is nothing here"),
    "unknown_model": (404, "There is no such model"),
    "link_expired": (404, "The picture is gone"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "upload_too_slow": (408, "The upload took too long"),
    "upload_too_large": (413, "The upload is too large"),
    "too_many_photographs": (413, "There are too many photographs"),
    "not_a_form": (415, "The request is no multipart form"),
    "not_a_photograph": (415, "The content is no photograph"),
    "no_photograph": (422, "There is no photograph in the form"),
    "bad_parameter": (422, "A parameter cannot be"),
    "image_undecodable": (422, "The photograph is damaged"),
    "image_truncated": (422, "The photograph is cut short"),
    "too_many_pixels": (422, "The photograph has too many pixels"),
    "queue_full": (429, "Too much at once"),
    "internal": (500, "The server failed"),
    "not_ready": (503, "The server is starting"),
    "draining": (503, "The server is stopping"),
    "memory_full": (503, "Too many large uploads at once"),
    "deadline_exceeded": (504, "The answer took too long"),
}


class Problem(Exception):
    """A request that is refused.

    Attributes:
        code: a key of `CATALOGUE`.
        detail: a sentence for people: what is wrong and what to do.
        limit: the name of the limit that was met, and its value.
        retry_after_seconds: when to try again.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        limit: tuple[str, float] | None = None,
        retry_after_seconds: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.code = code
        self.status, self.title = CATALOGUE[code]
        self.detail = detail
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds
        self.headers = dict(headers or {})
        if retry_after_seconds is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after_seconds)))
        super().__init__(f"{code}: {detail}")

    def to_dict(self, request_id: str) -> dict[str, Any]:
        """The document."""
        return {
            "type": f"/docs#problem-{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
            "limit": None if self.limit is None else {"name": self.limit[0], "value": self.limit[1]},
        }


def of_bad_image(error: BadImage, *, start: bytes, looks_like_image: bool, max_pixels: int) -> Problem:
    """The problem of an image that cannot be used.

    Args:
        error: what the image door said; its text stays here.
        start: the first bytes, at least 16 of them where there are so many.
        looks_like_image: whether the bytes begin as one of the formats that are read.
        max_pixels: the limit, for the sentence.
    """
    if isinstance(error, ImageTooLarge):
        return Problem(
            "too_many_pixels",
            f"The photograph has more than the {max_pixels / 1e6:.3g} megapixels this server takes; send a "
            "smaller one.",
            limit=("max_pixels", max_pixels),
        )
    if isinstance(error, ImageTruncated):
        return Problem("image_truncated", "The photograph ends before its last pixel; send it again, whole.")
    if isinstance(error, ImageUndecodable) and not looks_like_image:
        known = foreign_format(start)
        return Problem(
            "not_a_photograph",
            f"This is {known.kind}; {known.remedy}."
            if known
            else f"The content is no photograph in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.",
        )
    return Problem("image_undecodable", "The photograph is damaged and cannot be opened; send another copy.")


def internal() -> Problem:
    """The problem of a fault of ours."""
    return Problem("internal", "The server failed at this request; its log says more under the request_id.")
