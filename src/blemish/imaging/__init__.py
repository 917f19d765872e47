"""The one safe way to open an image.

Byte and pixel limits are read from the header before anything is decoded; EXIF orientation is undone;
grey images of 16 bits keep their 16 bits; everything else becomes RGB. Whatever is wrong with a file,
what comes out is a `BadImage` with its path. Pillow's global settings are neither relied on nor changed.
"""

from blemish.imaging.load_image import (
    IMAGE_SUFFIXES,
    LIMITS,
    Header,
    Limits,
    LoadedImage,
    Source,
    open_image,
    read_header,
    upright,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "LIMITS",
    "Header",
    "Limits",
    "LoadedImage",
    "Source",
    "open_image",
    "read_header",
    "upright",
]
