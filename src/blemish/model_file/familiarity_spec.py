"""The part of a contract that states how familiar an image is to the model."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from blemish.model_file.contract_model import ContractModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_REFERENCE = 512  # images whose features are stored
MAX_DIMENSIONS = 512
Distance = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class FamiliaritySpec(ContractModel):
    """Features of training images, to which the features of each new image are compared.

    Attributes:
        output: the output of the graph with the features of an image (batch, dimensions): coordinates along
            the main directions of the training features, in units of their standard deviation, and, last,
            the distance from their span in the same unit.
        dimensions: number of features.
        train_images: number of images whose mean and covariance define the directions.
        distances: ascending squared distances of held-out images from the mean, one image of each group.
        reference: features of held-out images (n, dimensions), float16 in base64.
        reference_scores: their probability of each label (n, labels), float16 in base64.
    """

    output: str
    dimensions: Annotated[int, Field(ge=1, le=MAX_DIMENSIONS)]
    train_images: Annotated[int, Field(ge=2)]
    distances: Annotated[tuple[Distance, ...], Field(max_length=2000)] = ()
    reference: str = ""
    reference_scores: str = ""

    @model_validator(mode="after")
    def _check_arrays(self) -> Self:
        if list(self.distances) != sorted(self.distances):
            raise ValueError("distances: expected ascending numbers")
        features = decode_array(self.reference, self.dimensions)
        if len(features) > MAX_REFERENCE or not np.isfinite(features).all():
            raise ValueError(f"reference: expected at most {MAX_REFERENCE} rows of finite numbers")
        if len(features) and len(decode_array(self.reference_scores, 1)) % len(features):
            raise ValueError(f"reference_scores: expected one row for each of {len(features)} images")
        return self

    def reference_features(self) -> NDArray[np.float64]:
        """Return (n, dimensions) features of held-out images."""
        return decode_array(self.reference, self.dimensions)

    def reference_label_scores(self, labels: int) -> NDArray[np.float64]:
        """Return (n, labels) probabilities of held-out images."""
        return decode_array(self.reference_scores, labels)


def encode_array(values: NDArray[Any]) -> str:
    """Return a matrix as float16 in base64; values beyond its range are clipped."""
    limit = float(np.finfo(np.float16).max)
    return base64.b64encode(np.clip(values, -limit, limit).astype("<f2").tobytes()).decode("ascii")


def decode_array(text: str, width: int) -> NDArray[np.float64]:
    """Return (n, width) float64 from float16 in base64.

    Raises:
        ValueError: it is not base64, or not a whole number of rows.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("expected base64") from error
    if len(raw) % (2 * width):
        raise ValueError(f"expected rows of {width} numbers of 2 bytes, got {len(raw)} bytes")
    return np.frombuffer(raw, "<f2").reshape(-1, width).astype(np.float64)
