"""Thumbnails of the images with the worst errors, for the report's page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from blemish.errors import BadImage
from blemish.evaluation.report import Report
from blemish.structures import Prediction, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_THUMBNAILS = 24
SIDE = 340  # the longer side of an image in pixels; pairs are displayed at full size to keep text legible
QUALITY = 82


def draw_top_errors(
    report: Report, samples: Sequence[Sample], predictions: Sequence[Prediction], white_level: int = 65535
) -> dict[str, bytes]:
    """Draw the images with the worst errors.

    Args:
        report: a report with `top_errors`.
        samples: the evaluated samples.
        predictions: one per sample.
        white_level: the value that becomes white in 16-bit images.

    Returns:
        JPEG files by sample id, at most `MAX_THUMBNAILS`. An image that cannot be read anymore is left out.
    """
    out = {}
    position = {sample.id: i for i, sample in enumerate(samples)}
    for error in report.top_errors[:MAX_THUMBNAILS]:
        i = position[error.id]
        try:
            image = draw_pair(samples[i], predictions[i], white_level, side=SIDE)
        except BadImage:  # deleted or changed since the evaluation
            continue
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
        out[error.id] = buffer.getvalue()
    return out


def draw_pair(
    sample: Sample, prediction: Prediction, white_level: int = 65535, *, side: int | None = None
) -> Image:
    """Draw the ground truth next to the prediction; for tasks without boxes, return the image alone.

    Args:
        sample: with its ground truth.
        prediction: of the same image.
        white_level: the value that becomes white in 16-bit images.
        side: the longer side of each of the two images in pixels [default: the image's own].

    Raises:
        BadImage: the image cannot be read.
    """
    from blemish.imaging import open_image

    image = open_image(sample.path).to_pil(white_level)
    if side is not None:  # reduced before drawing, so that text keeps its size
        image.thumbnail((side, side))
    if not prediction.task.has_boxes or sample.ground_truth is None:
        return image
    from blemish.drawing import draw, side_by_side

    shown = (sample.ground_truth, prediction.filter_scores())
    drawn = [
        draw(annotation, image) if side is None else draw(annotation, image, min_side=side)
        for annotation in shown
    ]
    return side_by_side(drawn, ["ground truth", "prediction"])
