"""The outlines of masks that were read from outlines."""

from blemish.arrays import FloatArray, Mask
from blemish.data.polygon_masks import PolygonMask


def outlines_of(mask: Mask) -> tuple[FloatArray, ...]:
    """Return the outlines, each (k, 2), of a mask that still has them."""
    assert isinstance(mask, PolygonMask)
    return tuple(mask.polygons)
