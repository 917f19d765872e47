"""Predictions as a data set, so that they can be written in any format and corrected in a labeling tool."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from blemish.abstention import Decision
from blemish.arrays import FloatArray
from blemish.data.image_index import sample_id
from blemish.data.write_dataset import WrittenDataset, write_dataset
from blemish.errors import BadInput
from blemish.inference.results import PredictionResult
from blemish.structures import Dataset, GroundTruth, Labels, Prediction, Sample, Task

WITH_COLUMNS = "csv"  # the format that has a place for what is known of an image beside its labels


def check_columns(prediction: Prediction, decision: Decision | None = None) -> dict[str, str]:
    """Return what a table states of an image beside its labels, by column; words, so that none is a label.

    Args:
        prediction: for the image.
        decision: what is decided and what is left for review, or None.

    Returns:
        `familiarity` (`familiar` or `unfamiliar`), `retake` (`usual`, or the codes of the reasons),
        `decision` (`decided` or `review`) and `review_reason`, each only if it is known.
    """
    columns = {}
    if prediction.familiarity is not None:
        columns["familiarity"] = "unfamiliar" if prediction.familiarity.unfamiliar else "familiar"
    if prediction.capture is not None:
        columns["retake"] = "|".join(reason.code for reason in prediction.capture.reasons) or "usual"
    if decision is not None:
        columns["decision"] = "review" if decision.is_review else "decided"
        columns["review_reason"] = decision.reason_code or "none"
    return columns


class PredictedLabels:
    """The predictions of a run as ground truths of their images.

    Attributes:
        failed: number of images without a prediction, which are left out.
    """

    def __init__(
        self, format_name: str, task: Task, labels: Labels, *, min_score: float | None = None
    ) -> None:
        """Check that a format can represent the task.

        Args:
            format_name: name of a writable format, such as "coco".
            task: the task of the model.
            labels: the labels of the model.
            min_score: lower-scoring objects are left out. Default: the threshold of each label.

        Raises:
            UnknownName: no writable format has this name.
            WrongTask: the format cannot represent the task.
            BadInput: the format cannot represent a label.
        """
        self.format_name, self.task, self.labels, self.min_score = format_name, task, labels, min_score
        self.failed = 0
        self._found: dict[Path, tuple[GroundTruth, FloatArray, dict[str, str]]] = {}
        with tempfile.TemporaryDirectory() as folder:
            empty = Dataset(task=task, labels=labels, samples=(), root=Path(folder))
            write_dataset(empty, Path(folder) / "empty", format_name, sources=())

    def add(self, result: PredictionResult, decision: Decision | None = None) -> None:
        """Add the prediction of an image file; a file that was added before is replaced.

        Args:
            result: of the image.
            decision: what is decided and what is left for review, if that was requested.

        Raises:
            BadInput: the input is a frame of a video or an image in memory.
        """
        prediction = result.prediction
        if prediction is None:
            self.failed += 1
            return
        if result.input.path is None or result.input.frame_index is not None:
            raise BadInput(
                f"{result.input}: labels can be written for image files only. Extract the frames of videos"
                " first.",
                reason="no-image-file",
            )
        kept = prediction.filter_scores(self.min_score)
        ground_truth = GroundTruth(
            task=kept.task,
            labels=kept.labels,
            size_hw=kept.size_hw,
            label_index=kept.label_index,
            boxes_xyxy=kept.boxes_xyxy,
            masks=kept.masks,
        )
        columns = check_columns(prediction, decision) if self.format_name == WITH_COLUMNS else {}
        self._found[result.input.path] = (ground_truth, kept.scores, columns)

    def dataset(self) -> tuple[Dataset, dict[str, FloatArray]]:
        """Return the data set, and the scores of its objects or labels by sample id.

        Raises:
            BadInput: no image has a prediction.
        """
        if not self._found:
            raise BadInput("no image has a prediction, so there are no labels to write.", reason="no-images")
        absolute = {path: Path(os.path.abspath(path)) for path in self._found}  # noqa: PTH100 - keeps links
        root = Path(os.path.commonpath([path.parent for path in absolute.values()]))
        samples, scores = [], {}
        for path, (ground_truth, values, columns) in self._found.items():
            identity = sample_id(absolute[path], root)
            size_hw = ground_truth.size_hw
            samples.append(
                Sample(id=identity, path=path, size_hw=size_hw, ground_truth=ground_truth, columns=columns)
            )
            scores[identity] = values
        dataset = Dataset(task=self.task, labels=self.labels, samples=tuple(samples), root=root)
        return dataset, scores

    def write(
        self, root: Path, *, model: str = "", link: bool = False, sources: Iterable[Path] = ()
    ) -> WrittenDataset:
        """Write images and labels.

        Args:
            root: a folder that does not exist, or is empty.
            model: name of the model, for formats that name it.
            link: whether to make hard links to the images instead of copies, if the disk allows it.
            sources: the folders that were searched for images; `root` must not be inside one.

        Raises:
            BadInput: no image has a prediction, or the folder cannot be used.
            StorageFull: the disk is full or read-only.
        """
        dataset, scores = self.dataset()
        return write_dataset(
            dataset, root, self.format_name, link=link, scores=scores, model=model, sources=sources
        )
