"""From an image to a network's input, and from network coordinates back to the image.

Training, validation, prediction, explanation and the service all use this package, with one antialiased
resize (Pillow's), so that a network receives the same pixels in training and in inference.
"""

from blemish.preprocessing.image_resize import FILTERS, decode_factor, place, reduction_for, resize
from blemish.preprocessing.normalization import normalize, prepare
from blemish.preprocessing.placement import Placement

__all__ = [
    "FILTERS",
    "Placement",
    "decode_factor",
    "normalize",
    "place",
    "prepare",
    "reduction_for",
    "resize",
]
