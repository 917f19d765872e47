"""`Fingerprints`: hashes of the training images, stored in the model file."""

from __future__ import annotations

import base64
from functools import cached_property

import numpy as np

from blemish.errors import BadModelFile

FINGERPRINT_BYTES = 49  # per image: six 8-byte words and one byte for the split


class Fingerprints:
    """Hashes of the images that a model was trained on, to find them in a test set.

    Those of a model file are checked when it is read, and become arrays when one of these is read.

    Attributes:
        pixel: (n,) uint64, the first 8 bytes of the SHA-256 of the upright image's pixels.
        perceptual: (n,) uint64, a perceptual hash: near-identical images differ in few bits.
        detail: (n, 4) uint64, a finer perceptual hash that separates images which only look alike.
        split: (n,) uint8, 0 for train and 1 for val.
    """

    _raw: bytes

    def __init__(
        self, pixel: np.ndarray, perceptual: np.ndarray, detail: np.ndarray, split: np.ndarray
    ) -> None:
        """Take the arrays."""
        self._arrays = (pixel, perceptual, detail, split)

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        n = len(self._raw) // FINGERPRINT_BYTES
        words = np.frombuffer(self._raw[: 48 * n], "<u8").astype(np.uint64)
        detail = words[2 * n :].reshape(n, 4)
        return words[:n], words[n : 2 * n], detail, np.frombuffer(self._raw[48 * n :], "u1")

    @property
    def pixel(self) -> np.ndarray:
        """(n,) uint64."""
        return self._arrays[0]

    @property
    def perceptual(self) -> np.ndarray:
        """(n,) uint64."""
        return self._arrays[1]

    @property
    def detail(self) -> np.ndarray:
        """(n, 4) uint64."""
        return self._arrays[2]

    @property
    def split(self) -> np.ndarray:
        """(n,) uint8."""
        return self._arrays[3]

    def split_counts(self) -> dict[str, int]:
        """Return the number of images by split."""
        sides = self._split_bytes()
        return {"train": sides.count(0), "val": sides.count(1)}

    def _split_bytes(self) -> bytes:
        if "_raw" in vars(self):  # without NumPy
            return self._raw[48 * (len(self._raw) // FINGERPRINT_BYTES) :]
        return self.split.astype("u1").tobytes()

    def to_text(self) -> str:
        """Return the four arrays in little-endian order, one after the other, as base64."""
        words = (self.pixel, self.perceptual, self.detail)
        parts = [np.ascontiguousarray(w, "<u8").tobytes() for w in words]
        return base64.b64encode(b"".join([*parts, self._split_bytes()])).decode("ascii")

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
        made = cls.__new__(cls)
        made._raw = raw
        return made

    @classmethod
    def none(cls) -> Fingerprints:
        """Return the fingerprints of no image."""
        return cls.from_text("")


def _damaged() -> BadModelFile:
    return BadModelFile(
        "the fingerprints in the model file are damaged; export the model again",
        reason="damaged-fingerprints",
    )
