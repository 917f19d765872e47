"""Images of the report: the worst ones, small, with truth beside prediction."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from blemish.errors import BadImage
from blemish.structures import Prediction, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from blemish.evaluation.report import Report

MOST = 24
SIDE = 340  # longer side in pixels of one picture; with boxes it is shown as large, for its letters' sake
QUALITY = 82


def draw_worst(
    report: Report, samples: Sequence[Sample], predictions: Sequence[Prediction], white_level: int = 65535
) -> dict[str, bytes]:
    """JPEG bytes of the worst images, by id.

    Args:
        report: what was found; its mistakes say which images.
        samples: those that were scored.
        predictions: likewise.
        white_level: what becomes white in 16-bit images.
    """
    out = {}
    place = {sample.id: i for i, sample in enumerate(samples)}
    for mistake in report.worst[:MOST]:
        i = place[mistake.id]
        try:
            picture = draw_pair(samples[i], predictions[i], white_level, side=SIDE)
        except BadImage:  # gone, or changed since it was scored
            continue
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
        out[mistake.id] = buffer.getvalue()
    return out


def draw_pair(
    sample: Sample, prediction: Prediction, white_level: int = 65535, *, side: int | None = None
) -> Image:
    """Truth beside prediction, for tasks with boxes; the image alone for the others.

    Args:
        sample: with its truth.
        prediction: of the same image.
        white_level: what becomes white in 16-bit images.
        side: longer side in pixels of one picture; the image's own where not given.

    Raises:
        BadImage: the image cannot be read.
    """
    from blemish.imaging import open_image

    image = open_image(sample.path).to_pil(white_level)
    if side is not None:  # before drawing, so that letters keep their size
        image.thumbnail((side, side))
    if not prediction.task.has_boxes or sample.ground_truth is None:
        return image
    from blemish.drawing import draw, side_by_side

    least = {} if side is None else {"min_side": side}
    drawn = [draw(said, image, **least) for said in (sample.ground_truth, prediction.filter_scores())]
    return side_by_side(drawn, ["truth", "prediction"])
