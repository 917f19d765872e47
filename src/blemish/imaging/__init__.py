"""The safe way to open image files.

Limits on bytes and pixels are checked from the header before anything is decoded. The EXIF orientation is
applied. Grayscale images of 16 bits keep their 16 bits; all other images become RGB. Every fault of a file
raises a `BadImage` that names the file. Pillow's global settings are neither used nor changed.
"""

from blemish.imaging.image_formats import IMAGE_SUFFIXES, SUFFIXES, UNSUPPORTED_SUFFIXES
from blemish.imaging.load_image import Source, open_image, read_header
from blemish.imaging.loaded_image import (
    LIMITS,
    Header,
    Limits,
    LoadedImage,
    ReducedImage,
    Reduction,
    apply_orientation,
)
from blemish.imaging.passed_over import PassedOver, is_unsupported

__all__ = [
    "IMAGE_SUFFIXES",
    "LIMITS",
    "SUFFIXES",
    "UNSUPPORTED_SUFFIXES",
    "Header",
    "Limits",
    "LoadedImage",
    "PassedOver",
    "ReducedImage",
    "Reduction",
    "Source",
    "apply_orientation",
    "is_unsupported",
    "open_image",
    "read_header",
]
