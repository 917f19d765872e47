"""What a model file keeps of the images it learned from."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

from blemish.errors import BadModelFile

FINGERPRINT_BYTES = 49  # of one image: 1 + 1 + 4 words and its split


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """What is kept of the images a model learned from, so that a test set can be compared.

    Attributes:
        pixel: (n,) uint64, the first 8 bytes of the SHA-256 of the upright pixels.
        perceptual: (n,) uint64, a perceptual hash: near-identical images differ in few bits.
        detail: (n, 4) uint64, a finer one, which tells apart what only looks alike at first sight.
        split: (n,) uint8, 0 for train, 1 for val.
    """

    pixel: np.ndarray
    perceptual: np.ndarray
    detail: np.ndarray
    split: np.ndarray

    def to_text(self) -> str:
        """Base64 of the four arrays, little-endian."""
        words = (self.pixel, self.perceptual, self.detail)
        parts = [np.ascontiguousarray(w, "<u8").tobytes() for w in words]
        return base64.b64encode(b"".join([*parts, self.split.astype("u1").tobytes()])).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> Fingerprints:
        """The arrays that `to_text` wrote; BadModelFile for anything else."""
        try:
            raw = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise BadModelFile("the model file's fingerprints are damaged; export it again") from error
        if len(raw) % FINGERPRINT_BYTES:
            raise BadModelFile("the model file's fingerprints are damaged; export it again")
        n = len(raw) // FINGERPRINT_BYTES
        words = np.frombuffer(raw[: 48 * n], "<u8").astype(np.uint64)
        detail = words[2 * n :].reshape(n, 4)
        return cls(words[:n], words[n : 2 * n], detail, np.frombuffer(raw[48 * n :], "u1"))

    @classmethod
    def none(cls) -> Fingerprints:
        """Of no image at all."""
        words = np.zeros(0, np.uint64)
        return cls(words, words, np.zeros((0, 4), np.uint64), np.zeros(0, np.uint8))
