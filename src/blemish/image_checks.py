"""What is known of an image beside its prediction: whether it is familiar, and whether to take it again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from blemish.arrays import FloatArray, empty_array

CaptureFault = Literal[
    "blurred",
    "motion-blur",
    "overexposed",
    "underexposed",
    "glare",
    "too-small",
    "borders",
    "near-duplicate",
]
_TEXTS: dict[str, str] = {
    "blurred": "is blurred",
    "motion-blur": "is blurred by motion",
    "overexposed": "is overexposed",
    "underexposed": "is underexposed",
    "glare": "has glare",
    "too-small": "has too few pixels",
    "borders": "has borders like a screenshot",
    "near-duplicate": "is nearly identical to another image",
}


@dataclass(frozen=True)
class Familiarity:
    """How familiar an image is to a model, by its distance from the training images.

    Attributes:
        distance: squared Mahalanobis distance of the image's features from those of the training images.
        p_value: the share of held-out images, this image included, that are at least as far.
        rate: of familiar images, at most this share is called unfamiliar, on average.
        unfamiliar: whether the p-value is at most the rate.
        features: (k,) float64, of which the distance is the squared length.
    """

    distance: float
    p_value: float
    rate: float
    unfamiliar: bool
    features: FloatArray = field(default_factory=lambda: empty_array(np.float64), compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, without the features."""
        return {name: value for name, value in vars(self).items() if name != "features"}


@dataclass(frozen=True)
class CaptureReason:
    """Why an image should be taken again.

    Attributes:
        code: the fault.
        measure: name of the measure that found it; see `blemish.capture.measure`. "" for near-duplicates.
        value: of the measure; for near-duplicates the number of different bits of the hashes.
        limit: of usual images.
        other: the image that a near-duplicate is nearly identical to; else "".
    """

    code: CaptureFault
    measure: str
    value: float
    limit: float
    other: str = ""

    @property
    def text(self) -> str:
        """The fault in words, after "the image"."""
        return f"is nearly identical to {self.other}" if self.other else _TEXTS[self.code]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and `text` as plain values."""
        return {
            "code": self.code,
            "text": self.text,
            "measure": self.measure,
            "value": round(self.value, 5),
            "limit": round(self.limit, 5),
            "other": self.other or None,
        }


@dataclass(frozen=True)
class Capture:
    """Whether an image was captured as the training images were; beside its prediction, never instead of it.

    Attributes:
        reasons: to take it again; empty for a usual image.
        rate: of usual images, at most this share has each fault, on average.
    """

    reasons: tuple[CaptureReason, ...]
    rate: float

    @property
    def retake(self) -> bool:
        """Whether the image should be taken again."""
        return bool(self.reasons)

    @property
    def sentence(self) -> str:
        """What to do and why, such as "retake, because the image is blurred"; "" for a usual image."""
        if not self.reasons:
            return ""
        texts = [reason.text for reason in self.reasons]
        listed = " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
        return f"retake, because the image {listed}"

    def to_dict(self) -> dict[str, Any]:
        """Return `retake`, `sentence`, `reasons` and `rate` as plain values."""
        return {
            "retake": self.retake,
            "sentence": self.sentence,
            "reasons": [reason.to_dict() for reason in self.reasons],
            "rate": self.rate,
        }
