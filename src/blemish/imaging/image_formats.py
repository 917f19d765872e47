"""The supported image formats, and unsupported formats that are recognized for a helpful error."""

from __future__ import annotations

from typing import NamedTuple

try:
    from PIL import AvifImagePlugin
except ImportError:  # Pillow before 11.3
    HAS_AVIF = False
else:
    HAS_AVIF = AvifImagePlugin.SUPPORTED

FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", *(("AVIF",) if HAS_AVIF else ()))
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    **({"AVIF": (".avif", ".avifs")} if HAS_AVIF else {}),
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
# Suffixes of images that a search of a folder passes over; what is passed over is counted and named.
UNSUPPORTED_SUFFIXES = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **({} if HAS_AVIF else dict.fromkeys((".avif", ".avifs"), "AVIF")),
    ".jxl": "JPEG XL",
    **dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx", ".j2c"), "JPEG 2000"),
    ".gif": "GIF",
    ".dng": "DNG",
    **dict.fromkeys((".arw", ".cr2", ".cr3", ".nef", ".orf", ".raf", ".rw2"), "camera raw"),
    **dict.fromkeys((".ppm", ".pgm", ".pnm"), "PNM"),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    **dict.fromkeys((".exr", ".hdr"), "floating-point images"),
    ".psd": "Photoshop",
    ".tga": "TGA",
}


AVIF_MARKS = ((4, b"ftypavif"), (4, b"ftypavis"))


class ForeignFormat(NamedTuple):
    """A kind of file that users often supply in place of an image.

    Attributes:
        kind: a noun phrase for "this is …".
        remedy: what the user can do.
        marks: byte offset and bytes that identify the kind; one match is enough.
    """

    kind: str
    remedy: str
    marks: tuple[tuple[int, bytes], ...]


FOREIGN_FORMATS = (
    ForeignFormat(
        "AVIF, which the installed Pillow cannot read",
        "save it as JPEG, or install Pillow 11.3 or newer",
        AVIF_MARKS,
    ),
    ForeignFormat("HEIC or a video, which is no supported image", "save it as JPEG", ((4, b"ftyp"),)),
    ForeignFormat(
        "JPEG XL, which is not supported",
        "save it as JPEG",
        ((0, b"\xff\x0a"), (0, b"\x00\x00\x00\x0cJXL ")),
    ),
    ForeignFormat(
        "JPEG 2000, which is not supported",
        "save it as PNG",
        ((0, b"\x00\x00\x00\x0cjP  "), (0, b"\xff\x4f\xff\x51")),
    ),
    ForeignFormat("a GIF, which is not supported", "save it as PNG", ((0, b"GIF8"),)),
    ForeignFormat("a PDF", "export its images as PNG or JPEG", ((0, b"%PDF"),)),
    ForeignFormat("a Git LFS pointer, not the image", "run git lfs pull", ((0, b"version https://"),)),
    ForeignFormat(
        "a web page",
        "download the image itself",
        ((0, b"<!DOCTYPE"), (0, b"<!doctype"), (0, b"<html")),
    ),
)


def is_avif(prefix: bytes) -> bool:
    """Return whether a file with these first bytes is AVIF; Pillow's own test also accepts some HEIC."""
    return any(prefix[offset : offset + len(mark)] == mark for offset, mark in AVIF_MARKS)


def foreign_format(prefix: bytes) -> ForeignFormat | None:
    """Return the unsupported format that a file with the first bytes `prefix` has, or None if unknown.

    Args:
        prefix: at least the first 16 bytes of the file.
    """
    for known in FOREIGN_FORMATS:
        if any(prefix[offset : offset + len(mark)] == mark for offset, mark in known.marks):
            return known
    return None
