"""`Fingerprints`: hashes of the training images, stored in the model file."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

from blemish.errors import BadModelFile

FINGERPRINT_BYTES = 49  # per image: six 8-byte words and one byte for the split


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Hashes of the images that a model was trained on, to find them in a test set.

    Attributes:
        pixel: (n,) uint64, the first 8 bytes of the SHA-256 of the upright image's pixels.
        perceptual: (n,) uint64, a perceptual hash: near-identical images differ in few bits.
        detail: (n, 4) uint64, a finer perceptual hash that separates images which only look alike.
        split: (n,) uint8, 0 for train and 1 for val.
    """

    pixel: np.ndarray
    perceptual: np.ndarray
    detail: np.ndarray
    split: np.ndarray

    def to_text(self) -> str:
        """Return the four arrays in little-endian order, one after the other, as base64."""
        words = (self.pixel, self.perceptual, self.detail)
        parts = [np.ascontiguousarray(w, "<u8").tobytes() for w in words]
        return base64.b64encode(b"".join([*parts, self.split.astype("u1").tobytes()])).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> Fingerprints:
        """Return the arrays that `to_text` encoded.

        Raises:
            BadModelFile: the text is damaged ("bad-model-file.damaged-fingerprints").
        """
        try:
            raw = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise _damaged() from error
        if len(raw) % FINGERPRINT_BYTES:
            raise _damaged()
        n = len(raw) // FINGERPRINT_BYTES
        words = np.frombuffer(raw[: 48 * n], "<u8").astype(np.uint64)
        detail = words[2 * n :].reshape(n, 4)
        return cls(words[:n], words[n : 2 * n], detail, np.frombuffer(raw[48 * n :], "u1"))

    @classmethod
    def none(cls) -> Fingerprints:
        """Return the fingerprints of no image."""
        words = np.zeros(0, np.uint64)
        return cls(words, words, np.zeros((0, 4), np.uint64), np.zeros(0, np.uint8))


def _damaged() -> BadModelFile:
    return BadModelFile(
        "the fingerprints in the model file are damaged; export the model again",
        reason="damaged-fingerprints",
    )
