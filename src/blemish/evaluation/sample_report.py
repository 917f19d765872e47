"""`report_sample`: one image of a data set, ground truth next to prediction, in numbers and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blemish.errors import BadInput, UnknownName
from blemish.evaluation.label_match import match_labels
from blemish.structures import Dataset, GroundTruth, Prediction, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from blemish.inference import Predictor


@dataclass(frozen=True, eq=False)
class SampleReport:
    """The comparison of one image's ground truth and prediction.

    Attributes:
        sample: of the data set.
        ground_truth: in the model's labels.
        prediction: of the model.
        lines: the comparison, one line per label, object or coordinate.
        drawing: ground truth and prediction next to each other, in RGB.
    """

    sample: Sample
    ground_truth: GroundTruth
    prediction: Prediction
    lines: tuple[str, ...]
    drawing: Image

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as `blemish evaluate --sample ID --json` prints it."""
        ground_truth: dict[str, Any] = {"labels": list(self.ground_truth.label_names)}
        if self.ground_truth.boxes_xyxy is not None:
            ground_truth["boxes_xyxy"] = self.ground_truth.boxes_xyxy.tolist()
        return {
            "schema_version": 1,
            "id": self.sample.id,
            "ground_truth": ground_truth,
            "prediction": self.prediction.to_dict(),
            "lines": list(self.lines),
        }


def report_sample(
    predictor: Predictor, dataset: Dataset, name: str, label_map: Mapping[str, str] | None = None
) -> SampleReport:
    """Predict one image of a data set and compare the prediction with the ground truth.

    Args:
        predictor: the model.
        dataset: with ground truth.
        name: the sample's id, or its end if that is unique: `0042.jpg` for `test/dent/0042.jpg`.
        label_map: the data set's label names to the model's; see `evaluate`.

    Raises:
        UnknownName: no sample has that name.
        BadInput: several samples have that name, or the sample has no ground truth.
        BadImage: the image cannot be read.
    """
    from blemish.drawing import draw, side_by_side
    from blemish.imaging import open_image

    sample = find_sample(dataset, name)
    if sample.ground_truth is None:
        raise BadInput(f"{sample.id}: expected a ground truth, got none", reason="no-ground-truth")
    ground_truth = match_labels(predictor.labels, dataset.labels, label_map).apply(sample.ground_truth)
    if ground_truth is None:
        raise BadInput(f"{sample.id}: the label map leaves out its label", reason="no-ground-truth")
    image = open_image(sample.path)
    prediction = predictor.predict(image)
    canvas = image.to_pil(predictor.contract.inputs[0].white_level)
    drawing = side_by_side(
        [draw(ground_truth, canvas), draw(prediction.filter_scores(), canvas)], ["ground truth", "prediction"]
    )
    lines = tuple(compare_sample(ground_truth, prediction))
    return SampleReport(sample, ground_truth, prediction, lines, drawing)


def find_sample(dataset: Dataset, name: str) -> Sample:
    """Return the sample with an id, or with a unique end of an id; see `report_sample`."""
    for sample in dataset:
        if sample.id == name:
            return sample
    matches = [s for s in dataset if s.id.endswith(f"/{name}") or s.path.stem == name or s.path.name == name]
    if len(matches) > 1:
        raise BadInput(
            f"{name!r}: expected the name of one image, got that of {len(matches)}, such as {matches[0].id} "
            f"and {matches[1].id}. Give a longer part of the id.",
            reason="ambiguous-name",
        )
    if not matches:
        raise UnknownName("image", name, [s.id for s in dataset], where=str(dataset.root))
    return matches[0]


def compare_sample(ground_truth: GroundTruth, prediction: Prediction) -> list[str]:
    """Compare the ground truth and the prediction of one image, one line per label, object or coordinate."""
    if prediction.task.is_image_level:
        return _compare_labels(ground_truth, prediction)
    if prediction.task.has_one_box:
        return _compare_one_box(ground_truth, prediction)
    from blemish.evaluation.matched_objects import compare_objects

    return compare_objects(ground_truth, prediction)


def _compare_labels(ground_truth: GroundTruth, prediction: Prediction) -> list[str]:
    positive, predicted = ground_truth.presence_mask(), prediction.decide()
    lines = []
    for i, name in enumerate(prediction.labels.display_names):
        threshold = "" if prediction.task.has_one_label else f", threshold {prediction.thresholds[i]:.4f}"
        answers = ["yes" if value else "no" for value in (positive[i], predicted[i])]
        mark = "" if positive[i] == predicted[i] else "  <- wrong"
        score = f"score {prediction.label_scores[i]:.4f}{threshold}"
        lines.append(f"{name}: ground truth {answers[0]}, prediction {answers[1]} ({score}){mark}")
    return lines


def _compare_one_box(ground_truth: GroundTruth, prediction: Prediction) -> list[str]:
    from blemish.metrics.localization import COORDINATES, BoxErrors

    assert ground_truth.boxes_xyxy is not None and prediction.boxes_xyxy is not None  # noqa: S101
    errors = BoxErrors.of(prediction.boxes_xyxy, ground_truth.boxes_xyxy)
    values = []
    for boxes in (ground_truth.boxes_xyxy, prediction.boxes_xyxy):
        x1, y1, x2, y2 = boxes[0]
        values.append((x1, y1, x2 - x1, y2 - y1))
    lines = [
        f"{name}: ground truth {t:.1f}, prediction {p:.1f}, absolute error {e:.1f} px"
        for name, t, p, e in zip(COORDINATES, *values, errors.absolute[0], strict=True)
    ]
    accuracy = 100 * float(errors.metrics()["relative_accuracy"])
    return [*lines, f"IoU {errors.iou[0]:.3f}, relative accuracy {accuracy:.1f} %"]
