"""Metrics of heatmaps against masks: pixel AUROC and AU-PRO."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from blemish.geometry import connected_components, mask_to_array

BINS = 4096  # of heatmap values in [0, 1]
MAX_FALSE_POSITIVE_RATE = 0.3  # of AU-PRO, as published


class PixelCounts:
    """Histograms of heatmap values inside of defects, outside of them, and in each connected defect.

    Values are counted in `BINS` bins, so that any number of images takes the same memory.
    """

    def __init__(self) -> None:
        self.inside = np.zeros(BINS, np.int64)
        self.outside = np.zeros(BINS, np.int64)
        self.overlap = np.zeros(BINS)  # sum over regions of the share of a region in each bin
        self.regions = 0

    def add(self, heatmap: NDArray[np.floating], mask: NDArray[np.bool_]) -> None:
        """Count one image.

        Args:
            heatmap: (h, w) in [0, 1].
            mask: (h, w), true where the image shows a defect.
        """
        bins = np.clip((heatmap * BINS).astype(np.int64), 0, BINS - 1)
        self.inside += np.bincount(bins[mask], minlength=BINS)
        self.outside += np.bincount(bins[~mask], minlength=BINS)
        if not mask.any():
            return
        for region in connected_components(mask):
            self.overlap += np.bincount(bins[mask_to_array(region)], minlength=BINS) / region.area
            self.regions += 1

    def auroc(self) -> float:
        """Return the probability that a pixel of a defect scores higher than another; NaN without both.

        Example:
            >>> counts = PixelCounts()
            >>> counts.add(np.array([[0.1, 0.9]]), np.array([[False, True]]))
            >>> counts.auroc(), counts.au_pro()
            (1.0, 1.0)
        """
        inside, outside = self.inside.sum(), self.outside.sum()
        if not inside or not outside:
            return float("nan")
        below = np.cumsum(self.outside) - self.outside
        return float((self.inside * (below + self.outside / 2)).sum() / inside / outside)

    def au_pro(self, limit: float = MAX_FALSE_POSITIVE_RATE) -> float:
        """Return the mean share of each defect that is found, over false positive rates up to a limit.

        Args:
            limit: the largest false positive rate of pixels, in (0, 1].

        Returns:
            The normalized area in [0, 1]; NaN without defects or without other pixels.

        Source:
            Bergmann et al., Uninformed Students (CVPR 2020), section 4.1.
        """
        outside = self.outside.sum()
        if not self.regions or not outside:
            return float("nan")
        rates = np.append(0.0, np.cumsum(self.outside[::-1]) / outside)
        found = np.append(0.0, np.cumsum(self.overlap[::-1]) / self.regions)
        at_limit = np.interp(limit, rates, found)
        kept = rates < limit
        x, y = np.append(rates[kept], limit), np.append(found[kept], at_limit)
        return float(np.trapezoid(y, x) / limit)


def measure_pixels(pairs: Iterable[tuple[NDArray[np.floating], NDArray[np.bool_]]]) -> dict[str, float]:
    """Return `pixel_auroc` and `au_pro` of heatmaps and masks, each of one image's size."""
    counts = PixelCounts()
    for heatmap, mask in pairs:
        counts.add(heatmap, mask)
    return {"pixel_auroc": counts.auroc(), "au_pro": counts.au_pro()}
