"""The overlap of quadrilaterals, to compare found cells with drawn ones."""

import numpy as np

from blemish.arrays import FloatArray
from blemish.geometry import polygon_area
from blemish.inspections.module_grid import ModuleGrid


def quad_iou(a: FloatArray, b: FloatArray) -> float:
    """Return the intersection over union of two convex (k, 2) polygons of one orientation.

    Source: Sutherland and Hodgman 1974, clipping.
    """
    kept = [tuple(point) for point in a]
    for (x1, y1), (x2, y2) in zip(b, np.roll(b, -1, 0), strict=True):
        side = [(x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) for x, y in kept]
        clipped = []
        for k, (point, distance) in enumerate(zip(kept, side, strict=True)):
            before, other = kept[k - 1], side[k - 1]
            if (distance >= 0) != (other >= 0):
                share = other / (other - distance)
                clipped.append(tuple(np.add(before, share * np.subtract(point, before))))
            if distance >= 0:
                clipped.append(point)
        kept = clipped
        if not kept:
            return 0.0
    shared = polygon_area(np.array(kept))
    return shared / (polygon_area(np.asarray(a)) + polygon_area(np.asarray(b)) - shared)


def lowest_iou(found: ModuleGrid, ground_truth: FloatArray) -> float:
    """Return the lowest IoU of the cells of a grid with (rows, columns, 4, 2) true quads."""
    pairs = zip(found.cell_quads().reshape(-1, 4, 2), ground_truth.reshape(-1, 4, 2), strict=True)
    return min(quad_iou(a, b) for a, b in pairs)
