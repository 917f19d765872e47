"""One image of a data set: its truth beside the prediction, with the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blemish.errors import BadInput, UnknownName
from blemish.evaluation.label_mapping import match_labels
from blemish.structures import Dataset, GroundTruth, Prediction, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from blemish.inference import Predictor


@dataclass(frozen=True, eq=False)
class SampleReport:
    """One image, truth beside prediction.

    Attributes:
        sample: as the data have it.
        ground_truth: in the model's labels.
        prediction: of the model.
        lines: what there is to say, one line each.
        picture: both drawn, in RGB.
    """

    sample: Sample
    ground_truth: GroundTruth
    prediction: Prediction
    lines: tuple[str, ...]
    picture: Image

    def to_dict(self) -> dict[str, Any]:
        """One word a thing."""
        ground_truth: dict[str, Any] = {"labels": list(self.ground_truth.label_names)}
        if self.ground_truth.boxes_xyxy is not None:
            ground_truth["boxes_xyxy"] = self.ground_truth.boxes_xyxy.tolist()
        return {
            "id": self.sample.id,
            "truth": ground_truth,
            "prediction": self.prediction.to_dict(),
            "lines": list(self.lines),
        }


def show(
    predictor: Predictor, dataset: Dataset, name: str, map_labels: Mapping[str, str] | None = None
) -> SampleReport:
    """Look at one image of a data set.

    Args:
        predictor: the model.
        dataset: with truths.
        name: the sample's id, or the end of it where that is unique: `0042.jpg` for `test/dent/0042.jpg`.
        map_labels: see `evaluate`.

    Raises:
        UnknownName: no sample of that name.
        BadInput: several samples of that name, or the sample has no truth.
        BadImage: the image cannot be used.
    """
    from blemish.drawing import draw, side_by_side
    from blemish.imaging import open_image

    sample = find_sample(dataset, name)
    if sample.ground_truth is None:
        raise BadInput(f"{sample.id} has no truth to compare with")
    ground_truth = match_labels(predictor.labels, dataset.labels, map_labels).apply(sample.ground_truth)
    if ground_truth is None:
        raise BadInput(f"{sample.id}: its label is left out")
    photo = open_image(sample.path)
    prediction = predictor.predict(photo)
    image = photo.to_pil(predictor.contract.inputs[0].white_level)
    picture = side_by_side(
        [draw(ground_truth, image), draw(prediction.filter_scores(), image)], ["truth", "prediction"]
    )
    return SampleReport(sample, ground_truth, prediction, tuple(compare(ground_truth, prediction)), picture)


def find_sample(dataset: Dataset, name: str) -> Sample:
    """The sample that `name` means; see `show`."""
    for sample in dataset:
        if sample.id == name:
            return sample
    ends = [s for s in dataset if s.id.endswith(f"/{name}") or s.path.stem == name or s.path.name == name]
    if len(ends) > 1:
        raise BadInput(f"{name!r} stands for {len(ends)} images, such as {ends[0].id} and {ends[1].id}")
    if not ends:
        raise UnknownName("image", name, [s.id for s in dataset], where=str(dataset.root))
    return ends[0]


def compare(ground_truth: GroundTruth, prediction: Prediction) -> list[str]:
    """What there is to say of a truth and a prediction of one image, one line each."""
    if prediction.task.is_image_level:
        holds, verdict = ground_truth.presence_mask(), prediction.decide()
        lines = []
        for i, title in enumerate(prediction.labels.display_names):
            against = "" if prediction.task.has_one_label else f" of {prediction.thresholds[i]:.4f}"
            said, true = ("yes" if verdict[i] else "no"), ("yes" if holds[i] else "no")
            mark = "" if verdict[i] == holds[i] else "  <- wrong"
            score = prediction.label_scores[i]
            lines.append(f"{title}: truth {true}, model {said} (score {score:.4f}{against}){mark}")
        return lines
    if prediction.task.has_one_box:
        return _compare_one_box(ground_truth, prediction)
    from blemish.evaluation.matched_objects import compare_objects

    return compare_objects(ground_truth, prediction)


def _compare_one_box(ground_truth: GroundTruth, prediction: Prediction) -> list[str]:
    from blemish.metrics.localization import COORDINATES, BoxErrors

    assert ground_truth.boxes_xyxy is not None and prediction.boxes_xyxy is not None  # noqa: S101
    errors = BoxErrors.of(prediction.boxes_xyxy, ground_truth.boxes_xyxy)
    values = []
    for boxes in (ground_truth.boxes_xyxy, prediction.boxes_xyxy):
        x1, y1, x2, y2 = boxes[0]
        values.append((x1, y1, x2 - x1, y2 - y1))
    lines = [
        f"{name}: truth {t:.1f}, model {p:.1f}, absolute error {e:.1f} px"
        for name, t, p, e in zip(COORDINATES, *values, errors.absolute[0], strict=True)
    ]
    accuracy = 100 * float(errors.figures()["relative_accuracy"])
    return [*lines, f"IoU {errors.iou[0]:.3f}, relative accuracy {accuracy:.1f} %"]
