"""The part of a contract from which a prediction is decided or left to a person at a stated risk."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from blemish.model_file.contract_model import ContractModel, Finite, Share

MAX_SCORES = 2000  # of one label and side; more are not needed, and the contract stays small
Count = Annotated[int, Field(ge=0)]
Scores = Annotated[tuple[Share, ...], Field(max_length=MAX_SCORES)]


class LabelScores(ContractModel):
    """The scores of one label on calibration images, one image of each group.

    Attributes:
        present: ascending scores of images with the label.
        absent: ascending scores of images without it.
        logistic: slope and intercept of the logit of the probability that the label is present, as a function
            of the logit of its score; None if every image, or no image, has the label.
    """

    present: Scores = ()
    absent: Scores = ()
    logistic: tuple[Finite, Finite] | None = None

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        for name, scores in (("present", self.present), ("absent", self.absent)):
            if any(a > b for a, b in pairwise(scores)):
                raise ValueError(f"{name}: expected ascending scores")
        return self


class BoxScoreBin(ContractModel):
    """How many detections with a score in one range were correct on the calibration images.

    Attributes:
        min_score: the range begins here and ends where that of the next bin begins.
        detections: number of detections.
        groups: number of groups that they are from.
        correct: share of detections that match a true object at an IoU of 0.5 or more.
        low: lower end of its 95 % confidence interval.
        high: upper end of its 95 % confidence interval.
    """

    min_score: Share
    detections: Count
    groups: Count
    correct: Share
    low: Share
    high: Share


class AbstentionScores(ContractModel):
    """The scores of a model on labeled images that it was not trained on.

    They are valid for images that are drawn as these were: from the same cameras, objects and workflow.

    Attributes:
        split: where the images are from: `val` of the training, or the name of another data set.
        images: number of images.
        groups: number of groups; of each, one image per label and side is used.
        grouped: whether the data set names groups; if not, every image is a group of its own.
        seed: of the choice of one image of each group.
        labels: by label name; empty for tasks with objects.
        any_object: of the highest score of an image, for tasks with objects; "present" means any object.
        boxes: ascending ranges of scores of detections; empty for other tasks.
    """

    split: str = ""
    images: Count = 0
    groups: Count = 0
    grouped: bool = False
    seed: int = 0
    labels: dict[str, LabelScores] = Field(default_factory=dict)
    any_object: LabelScores | None = None
    boxes: tuple[BoxScoreBin, ...] = ()
