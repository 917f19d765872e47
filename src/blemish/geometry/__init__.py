"""Pure functions for boxes, polygons, masks and run lengths, in pixels of the upright image.

Boxes are x1 y1 x2 y2. The pixel in column 0 and row 0 covers the square from (0, 0) to (1, 1). The tests
compare every function with torchvision.ops or pycocotools; neither is needed at run time.
"""

from blemish.geometry.boxes import (
    box_area,
    clip_boxes,
    generalized_iou,
    pairwise_iou,
    xywh_to_xyxy,
    xyxy_to_xywh,
)
from blemish.geometry.components import connected_components
from blemish.geometry.homographies import (
    homography_from_points,
    invert_homography,
    map_box,
    map_points,
    sample_levels,
)
from blemish.geometry.masks import (
    crop_window,
    mask_box,
    mask_from_array,
    mask_iou,
    mask_to_array,
    paste_window,
    rle_from_text,
    rle_to_text,
)
from blemish.geometry.polygons import mask_from_polygons, mask_to_polygons, mask_to_rings, polygon_area

__all__ = [
    "box_area",
    "clip_boxes",
    "connected_components",
    "crop_window",
    "generalized_iou",
    "homography_from_points",
    "invert_homography",
    "map_box",
    "map_points",
    "mask_box",
    "mask_from_array",
    "mask_from_polygons",
    "mask_iou",
    "mask_to_array",
    "mask_to_polygons",
    "mask_to_rings",
    "pairwise_iou",
    "paste_window",
    "polygon_area",
    "rle_from_text",
    "rle_to_text",
    "sample_levels",
    "xywh_to_xyxy",
    "xyxy_to_xywh",
]
