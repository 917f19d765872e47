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
        self._names: list[str] = []  # in the order of the hashes
        self._count = 0

    def add(self, capture: Capture, name: str, hash_words: NDArray[np.uint64]) -> Capture:
        """Remember an image, and return its check with a further reason if it is a near-duplicate.

        Args:
            capture: the check without the other images.
            name: of the image.
            hash_words: (4,) uint64; see `CaptureMeasures`.
        """
        known = self._hashes[: len(self._names)]
        bits = np.bitwise_count(known ^ hash_words).sum(1, dtype=np.int64)
        place = self._count % MAX_REMEMBERED
        self._count += 1
        if place >= len(self._hashes):
            grown = np.zeros((min(2 * place, MAX_REMEMBERED), 4), np.uint64)
            grown[:place] = self._hashes
            self._hashes = grown
        self._hashes[place] = hash_words
        nearest = int(bits.argmin()) if len(bits) else 0
        other = self._names[nearest] if len(bits) else ""
        self._names[place : place + 1] = [name]
        if not len(bits) or bits[nearest] > NEAR_DETAIL_BITS:
            return capture
        reason = CaptureReason("near-duplicate", "", float(bits[nearest]), float(NEAR_DETAIL_BITS), other)
        return replace(capture, reasons=(*capture.reasons, reason))
