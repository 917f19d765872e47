"""Asking a model file about masked versions of one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.decoding import decode
from blemish.explanation.heatmap_coordinates import ReceptiveGrid, resample, to_network
from blemish.geometry import pairwise_iou
from blemish.imaging import LoadedImage
from blemish.model_file import Contract
from blemish.preprocessing import prepare
from blemish.structures import Prediction, Task

if TYPE_CHECKING:
    from blemish.inference.backend import Backend

Question = Callable[[Prediction], float]
Progress = Callable[[int], None]


class MaskedPredictor:
    """One image in front of a model, and how often the model has looked at it.

    Attributes:
        feeds: by input name, (c, h, w) float32, as the network takes the image.
        placements: by input name, where the image lies in it.
        looks: versions of the image that the model has answered.
    """

    def __init__(
        self,
        backend: Backend,
        contract: Contract,
        photo: LoadedImage,
        *,
        batch_size: int = 16,
        progress: Progress | None = None,
    ) -> None:
        self.backend = backend
        self.contract = contract
        # Questions are about boxes: three hundred masks a look would cost more than the network.
        masks_apart = contract.task.has_masks and contract.decoder.name in (
            "dense",
            "final",
            "set",
        )
        self._asked = contract.model_copy(update={"task": Task.DETECTION}) if masks_apart else contract
        self.batch_size = batch_size if contract.dynamic_batch else 1
        self.progress = progress or (lambda done: None)
        self.looks = 0
        prepared = {spec.name: prepare(photo, spec) for spec in contract.inputs}
        self.feeds = {name: array for name, (array, _) in prepared.items()}
        self.placements = {name: placement for name, (_, placement) in prepared.items()}
        # What covers a place: the image's own mean colour, which is the least unlike an image.
        self._fill = {
            name: array.mean((1, 2), keepdims=True, dtype=np.float64) for name, array in self.feeds.items()
        }

    def ask(
        self,
        masks: NDArray[np.floating],
        question: Question,
        *,
        lattice: ReceptiveGrid | None = None,
    ) -> FloatArray:
        """The answer for each masked version.

        Args:
            masks: (n, h, w) in [0, 1]: 1 shows the image, 0 its mean colour.
            question: from the model's verdict to a number.
            lattice: where the masks' cells lie over the network's input; None where they cover the
                image evenly.

        Returns:
            (n,) float64.
        """
        answers: list[float] = []
        for start in range(0, len(masks), self.batch_size):
            chunk = masks[start : start + self.batch_size]
            batch = {name: self._masked(name, chunk, lattice) for name in self.feeds}
            outputs = self.backend.run(batch)
            first = self.placements[self.contract.inputs[0].name]
            answers += [question(p) for p in decode(self._asked, outputs, [first] * len(chunk))]
            self.looks += len(chunk)
            self.progress(len(chunk))
        return np.array(answers, np.float64)

    def decide(self) -> Prediction:
        """What the model says of the image as it is."""
        outputs = self.backend.run({name: array[None] for name, array in self.feeds.items()})
        self.looks += 1
        self.progress(1)
        return decode(self.contract, outputs, [self.placements[self.contract.inputs[0].name]])[0]

    def _masked(
        self, name: str, masks: NDArray[np.floating], lattice: ReceptiveGrid | None
    ) -> NDArray[np.float32]:
        placement = self.placements[name]
        if lattice is None:
            spread = to_network(masks, placement)
        else:
            spread = np.stack([resample(mask, placement.input_hw, lattice) for mask in masks])
        shown, fill = self.feeds[name][None], self._fill[name][None]
        return np.asarray(fill + (shown - fill) * spread[:, None], np.float32)


def label_question(label_index: int) -> Question:
    """The label's score."""
    return lambda prediction: float(prediction.label_scores[label_index])


def box_question(box_xyxy: FloatArray, label_index: int) -> Question:
    """How well the best detection of the label still shows this object: overlap times score.

    Source:
        Petsiuk et al., D-RISE (CVPR 2021), equation 4, with the label in the place of its score vector.
    """

    def answer(prediction: Prediction) -> float:
        assert prediction.boxes_xyxy is not None  # noqa: S101  (asked of tasks with boxes only)
        same = prediction.label_index == label_index
        if not same.any():
            return 0.0
        overlap = pairwise_iou(box_xyxy[None], prediction.boxes_xyxy[same])[0]
        weight = 1.0 if prediction.task.has_one_box else prediction.scores[same]
        return float((overlap * weight).max())

    return answer
