"""The part of a contract that states how the training images were captured: the limits of usual images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from blemish.model_file.contract_model import ContractModel, Finite

MeasureName = Literal[
    "sharpness",
    "sharpness_coarse",
    "sharpness_0",
    "sharpness_45",
    "sharpness_90",
    "sharpness_135",
    "bright",
    "dark",
    "brightness",
    "glare",
    "border",
    "enlargement",
]
DIRECTIONS: tuple[MeasureName, ...] = ("sharpness_0", "sharpness_45", "sharpness_90", "sharpness_135")


class CaptureLimit(ContractModel):
    """The limit of one measure, beyond which an image is unusual.

    Attributes:
        measure: its name; see `blemish.capture.measure`.
        side: whether an image is unusual `below` or `above` the value.
        value: the limit.
    """

    measure: MeasureName
    side: Literal["below", "above"]
    value: Finite


class CaptureSpec(ContractModel):
    """Limits of how images are captured, learned from the training images.

    Attributes:
        version: of the measures; other versions are not comparable.
        images: number of images that the limits were learned from, one of each group.
        rate: of such images, at most this share is beyond each kind of limit, on average.
        flagged: share of the images themselves that is beyond any limit.
        limits: one or two per measure.
    """

    version: Literal[1] = 1
    images: Annotated[int, Field(ge=1)]
    rate: Annotated[float, Field(gt=0, le=1)]
    flagged: Annotated[float, Field(ge=0, le=1)]
    limits: Annotated[tuple[CaptureLimit, ...], Field(max_length=64)]
