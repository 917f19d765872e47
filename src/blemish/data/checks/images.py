"""Images that cannot be used, or not as they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from blemish.data.findings import Finding, Severity
from blemish.data.header_info import HeaderInfo
from blemish.errors import ImageTooLarge, ImageTruncated

SUFFIXES_OF = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
}
FEWEST_PIXELS_A_SIDE = 10
NO_IMAGE_MODES = ("F", "LAB")


def check_images(paths: Sequence[Path], looks: Sequence[HeaderInfo]) -> Iterator[Finding]:
    """What a look at each file without decoding it shows."""
    for path, look in zip(paths, looks, strict=True):
        finding = _unusable(path, look)
        if finding is not None:
            yield finding
        else:
            yield from _unusual(path, look)


def _unusable(path: Path, look: HeaderInfo) -> Finding | None:
    def error(code: str, message: str, remedy: str) -> Finding:
        return Finding(code, Severity.ERROR, message, path, remedy=remedy, fix="leaves it out")

    reason, remedy = look.detail, look.remedy
    if look.error_code == "bad-image.empty-file":
        return error("empty-file", "the file is empty", "copy or download it again")
    if look.error_class is ImageTooLarge:
        return error("oversized-image", reason, remedy)
    if look.error_class is ImageTruncated or look.fault == "truncated":
        return error("truncated-image", "the file ends too early", "copy or download it again")
    if look.error_code:
        return error("broken-image", reason, remedy or "replace it")
    if look.fault == "checksum":
        return error("damaged-image", "a checksum in the file is wrong", "copy or download it again")
    if look.header is not None and look.header.mode in NO_IMAGE_MODES:
        return error("broken-image", f"its pixels are {look.header.mode}", "save it as RGB or as grey")
    return None


def _unusual(path: Path, look: HeaderInfo) -> Iterator[Finding]:
    header = look.header
    if header is None:
        return

    def note(
        code: str, message: str, remedy: str, severity: Severity = Severity.NOTE, fix: str = ""
    ) -> Finding:
        return Finding(code, severity, message, path, remedy=remedy, fix=fix)

    if path.suffix.casefold() not in SUFFIXES_OF.get(header.format, (path.suffix.casefold(),)):
        right = SUFFIXES_OF[header.format][0]
        yield note(
            "wrong-extension",
            f"it is a {header.format} file called {path.suffix}",
            f"rename it to {path.stem}{right}",
            Severity.WARNING,
            "renames it",
        )
    if min(header.size_hw) < FEWEST_PIXELS_A_SIDE:
        height, width = header.size_hw
        yield note(
            "tiny-image",
            f"it is {width} x {height} pixels",
            "replace or drop it",
            Severity.WARNING,
            "drops it",
        )
    if look.fault == "trailing":
        yield note(
            "trailing-bytes", "the file goes on after the picture's end", "save it again if that is not meant"
        )
    if header.orientation != 1:
        yield note(
            "exif-orientation",
            f"it lies turned in the file (EXIF orientation {header.orientation}) and is shown upright",
            "make sure that its labels were drawn on the upright picture",
        )
    if header.bits == 16:
        yield note(
            "sixteen-bit",
            "it has 16 bits",
            "set white_level in the recipe if its brightest value is not 65535",
        )
    if header.mode == "CMYK":
        yield note("cmyk", "its colours are CMYK, made for print", "save it as RGB to be sure of its colours")
    if header.mode == "P":
        yield note("palette", "it has a palette of at most 256 colours", "use the original if there is one")
    if header.frames > 1:
        yield note(
            "several-frames", f"the file holds {header.frames} pictures, the first counts", "split the file"
        )
