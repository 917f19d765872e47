"""Draw ground truth and predictions on their images."""

from blemish.drawing.draw_annotation import draw, reduce_image, reduction_factor
from blemish.drawing.label_strip import side_by_side
from blemish.drawing.object_overlay import place_labels
from blemish.drawing.palette import PALETTE, label_color

__all__ = [
    "PALETTE",
    "draw",
    "label_color",
    "place_labels",
    "reduce_image",
    "reduction_factor",
    "side_by_side",
]
