"""Heatmaps of a report, by the very model that decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from blemish.errors import BadInput
from blemish.face_blur import Blur
from blemish.inspections.records import Finding, InspectionImage, PredictionRun
from blemish.inspections.store import InspectionStore

if TYPE_CHECKING:
    from blemish.inference import Predictor

MAX_HEATMAPS = 60  # images; further ones have none
_SIDE = 1000


@dataclass(frozen=True, eq=False)
class ReportHeatmap:
    """A heatmap over an image, and what it explains.

    Attributes:
        drawn: RGB.
        caption: label, score, method and model.
    """

    drawn: Image.Image
    caption: str


def check_models(models: Sequence[Predictor], runs: Sequence[PredictionRun], inspection_id: str) -> None:
    """Raise `BadInput` ("bad-input.heatmap-model") if one of the models decided nothing in an inspection."""
    digests = {run.model_digest for run in runs}
    for predictor in models:
        if predictor.digest not in digests:
            raise BadInput(
                f"report: the model file with SHA-256 {predictor.digest[:16]}... found nothing in inspection "
                f"{inspection_id}. Heatmaps are those of the model that decided; give its file.",
                reason="heatmap-model",
            )


def make_heatmaps(
    store: InspectionStore,
    images: Sequence[InspectionImage],
    findings: Sequence[Finding],
    runs: Sequence[PredictionRun],
    models: Sequence[Predictor],
    blur: Blur | None = None,
) -> dict[str, ReportHeatmap]:
    """Return a heatmap by image id, of the finding with the highest score that was not rejected.

    Images whose findings are of other models, persons or cells of modules have none.
    """
    by_digest = {predictor.digest: predictor for predictor in models}
    usable = {
        run.id: by_digest[run.model_digest]
        for run in runs
        if run.model_digest in by_digest and not any("module" in entry for entry in run.images)
    }
    made: dict[str, ReportHeatmap] = {}
    for image in images:
        best = max(
            (f for f in findings if f.image_id == image.id and f.run_id in usable and f.state != "rejected"),
            key=lambda f: f.score or 0,
            default=None,
        )
        if best is None or best.run_id is None or len(made) >= MAX_HEATMAPS:
            continue
        predictor = usable[best.run_id]
        loaded = store.images.open(image)
        maps = predictor.explain(loaded, label=best.label, max_targets=1, faithfulness=False)
        if maps:
            shown = loaded.to_pil()
            drawn = maps[0].plot(shown if blur is None else blur(shown))
            drawn.thumbnail((_SIDE, _SIDE))
            made[image.id] = ReportHeatmap(
                drawn,
                f"Heatmap: {best.label} {maps[0].score:.2f}, {maps[0].method}, model {predictor.digest[:16]}",
            )
    return made
