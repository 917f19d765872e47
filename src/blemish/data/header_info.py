"""`HeaderInfo`: the facts about an image file that Blemish reads without decoding it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blemish.errors import BadImage, ImageTooLarge, ImageTruncated, ImageUndecodable
from blemish.imaging import Header

FileFault = Literal["", "truncated", "checksum", "trailing"]
ERROR_CLASSES: dict[str, type[BadImage]] = {
    cls.class_code: cls for cls in (BadImage, ImageTooLarge, ImageTruncated, ImageUndecodable)
}


@dataclass(frozen=True, slots=True)
class HeaderInfo:
    """The facts about an image file that are known without decoding it.

    Attributes:
        size_bytes: size of the file; 0 if it cannot be read.
        modified_ns: time of the last modification, in nanoseconds; with `size_bytes` it shows whether the
            file has changed.
        header: the image's header, or None if the file cannot be used.
        error_code: the code of the error that makes the file unusable, such as "image-too-large.max-pixels",
            or "".
        detail: what is wrong with an unusable file.
        remedy: what the user can do about it.
        fault: a fault of a file whose header can be read: "truncated" if the end is missing, "checksum" if a
            checksum is wrong, "trailing" if bytes follow the end of the image, "" if there is none.
    """

    size_bytes: int
    modified_ns: int
    header: Header | None = None
    error_code: str = ""
    detail: str = ""
    remedy: str = ""
    fault: FileFault = ""

    @property
    def is_damaged(self) -> bool:
        """Whether the file cannot be used, is cut short, or has a wrong checksum."""
        return bool(self.error_code) or self.fault in ("truncated", "checksum")

    @property
    def error_class(self) -> type[BadImage] | None:
        """The class of the error that makes the file unusable, or None."""
        return ERROR_CLASSES.get(self.error_code.partition(".")[0])

    def header_or_error(self, path: Path) -> Header | BadImage:
        """Return the header, or the error that makes the file unusable.

        Args:
            path: the file, for the error's message.
        """
        if self.header is not None:
            return self.header
        error = self.error_class or BadImage
        reason = self.error_code.partition(".")[2]
        return error(path, self.detail or "it cannot be read", reason=reason, remedy=self.remedy)
