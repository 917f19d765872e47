"""Find images of a batch that are nearly identical to an earlier one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from blemish.data.image_hashes import NEAR_DETAIL_BITS
from blemish.image_checks import Capture, CaptureReason

MAX_REMEMBERED = 10_000  # images that a new one is compared with: a twentieth of a millisecond


class NearDuplicates:
    """The hashes of the images of a batch so far, of at most the last 10,000."""

    def __init__(self) -> None:
        self._hashes = np.zeros((64, 4), np.uint64)
        self._names: list[str] = []

    def add(self, capture: Capture, name: str, hash_words: NDArray[np.uint64]) -> Capture:
        """Remember an image, and return its check with a further reason if it is a near-duplicate.

        Args:
            capture: the check without the other images.
            name: of the image.
            hash_words: (4,) uint64; see `CaptureMeasures`.
        """
        count = len(self._names)
        known = self._hashes[: min(count, MAX_REMEMBERED)]
        bits = np.bitwise_count(known ^ hash_words).sum(1, dtype=np.int64)
        place = count % MAX_REMEMBERED
        if place >= len(self._hashes):
            grown = np.zeros((min(2 * place, MAX_REMEMBERED), 4), np.uint64)
            grown[:place] = self._hashes
            self._hashes = grown
        self._hashes[place] = hash_words
        self._names.append(name)
        if not len(bits) or bits.min() > NEAR_DETAIL_BITS:
            return capture
        nearest = int(bits.argmin())
        if count > MAX_REMEMBERED:
            nearest += (count - 1 - nearest) // MAX_REMEMBERED * MAX_REMEMBERED
        reason = CaptureReason(
            "near-duplicate", "", float(bits.min()), float(NEAR_DETAIL_BITS), self._names[nearest]
        )
        return replace(capture, reasons=(*capture.reasons, reason))
