"""Run a model on masked versions of one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.decoding import DECODERS, decode
from blemish.explanation.heatmap_coordinates import ReceptiveGrid, resample, to_network
from blemish.geometry import pairwise_iou
from blemish.imaging import LoadedImage
from blemish.model_file import Contract
from blemish.preprocessing import Placement, prepare
from blemish.structures import Prediction, Task

if TYPE_CHECKING:
    from blemish.inference.backend import Backend

ScoreFunction = Callable[[Prediction], float]
Progress = Callable[[int], None]


class MaskedPredictor:
    """One image in front of a model, with a count of the forward passes.

    Attributes:
        feeds: by input name, (c, h, w) float32: the image as the network takes it.
        placements: by input name, the image's position in it.
        num_forward_passes: images that have gone through the network so far.
    """

    def __init__(
        self,
        backend: Backend,
        contract: Contract,
        image: LoadedImage,
        *,
        batch_size: int = 16,
        progress: Progress | None = None,
    ) -> None:
        """Prepare an image.

        Args:
            backend: runs the network.
            contract: describes the network.
            image: the image to explain.
            batch_size: masked images per forward pass; 1 if the network accepts only one image.
            progress: called with the number of forward passes after each batch.
        """
        self.backend = backend
        self.contract = contract
        # Score functions read boxes: hundreds of masks per forward pass would cost more than the network.
        needs_no_masks = (
            contract.task.has_masks and DECODERS.get(contract.decoder.name).decodes_boxes_without_masks
        )
        self._decode_contract = (
            contract.model_copy(update={"task": Task.DETECTION}) if needs_no_masks else contract
        )
        self.batch_size = batch_size if contract.dynamic_batch else 1
        self.progress = progress or (lambda count: None)
        self.num_forward_passes = 0
        prepared = {spec.name: prepare(image, spec) for spec in contract.inputs}
        self.feeds = {name: array for name, (array, _) in prepared.items()}
        self.placements = {name: placement for name, (_, placement) in prepared.items()}
        # Hidden places get the mean color of the image, which changes its statistics least.
        self._fill = {
            name: array.mean((1, 2), keepdims=True, dtype=np.float64) for name, array in self.feeds.items()
        }

    def predict_masked(
        self,
        masks: NDArray[np.floating],
        score_function: ScoreFunction,
        *,
        receptive_grid: ReceptiveGrid | None = None,
    ) -> FloatArray:
        """Return the score of each masked version of the image.

        Args:
            masks: (n, h, w) in [0, 1]: 1 shows the image, 0 its mean color.
            score_function: returns the score of a prediction.
            receptive_grid: position of the cells of the masks over the network's input. Default: the masks
                cover the image evenly.

        Returns:
            (n,) float64.
        """
        scores: list[float] = []
        for start in range(0, len(masks), self.batch_size):
            chunk = masks[start : start + self.batch_size]
            batch = {name: self._masked(name, chunk, receptive_grid) for name in self.feeds}
            outputs = self.backend.run(batch)
            predictions = decode(self._decode_contract, outputs, [self.first_placement] * len(chunk))
            scores += [score_function(prediction) for prediction in predictions]
            self.count(len(chunk))
        return np.array(scores, np.float64)

    def predict(self) -> Prediction:
        """Return the prediction of the whole image."""
        outputs = self.backend.run({name: array[None] for name, array in self.feeds.items()})
        self.count(1)
        return decode(self.contract, outputs, [self.first_placement])[0]

    def count(self, forward_passes: int) -> None:
        """Add forward passes to the count and report them."""
        self.num_forward_passes += forward_passes
        self.progress(forward_passes)

    @property
    def first_placement(self) -> Placement:
        """The image's position in the network's first input."""
        return self.placements[self.contract.inputs[0].name]

    def _masked(
        self, name: str, masks: NDArray[np.floating], receptive_grid: ReceptiveGrid | None
    ) -> NDArray[np.float32]:
        """Return (n, c, h, w): one input of the network for each mask."""
        placement = self.placements[name]
        if receptive_grid is None:
            visibility = to_network(masks, placement)
        else:
            visibility = np.stack([resample(mask, placement.input_hw, receptive_grid) for mask in masks])
        shown, fill = self.feeds[name][None], self._fill[name][None]
        return np.asarray(fill + (shown - fill) * visibility[:, None], np.float32)


def label_score(label_index: int) -> ScoreFunction:
    """Return a function that returns the score of a label."""
    return lambda prediction: float(prediction.label_scores[label_index])


def detection_score(box_xyxy: FloatArray, label_index: int) -> ScoreFunction:
    """Return a function that returns the largest IoU times score of the detections with one object.

    Args:
        box_xyxy: (4,) the object, image pixels.
        label_index: only detections of this label count.

    Source:
        Petsiuk et al., D-RISE (CVPR 2021), equation 4, with the label instead of its score vector.
    """

    def score(prediction: Prediction) -> float:
        assert prediction.boxes_xyxy is not None  # noqa: S101  (only used for tasks with boxes)
        is_same_label = prediction.label_index == label_index
        if not is_same_label.any():
            return 0.0
        iou = pairwise_iou(box_xyxy[None], prediction.boxes_xyxy[is_same_label])[0]
        weight = 1.0 if prediction.task.has_one_box else prediction.scores[is_same_label]
        return float((iou * weight).max())

    return score
