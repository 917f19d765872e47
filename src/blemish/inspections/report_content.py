"""Everything that a report states, gathered once for all formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from blemish._version import __version__
from blemish.drawing import label_color
from blemish.errors import BadInput
from blemish.face_blur import Blur
from blemish.inspections import audit
from blemish.inspections.identifiers import now
from blemish.inspections.inspector import inspection_summary
from blemish.inspections.records import Asset, Finding, Inspection, InspectionImage, PredictionRun, Review
from blemish.inspections.report_heatmaps import ReportHeatmap, check_models, make_heatmaps
from blemish.inspections.store import InspectionStore

if TYPE_CHECKING:
    from blemish.inference import Predictor

DECISIONS = {
    "not-inspected": "Not inspected",
    "incomplete": "Incomplete",
    "needs-review": "Needs review",
    "findings": "Damage found",
    "no-findings": "No damage found",
}
LIMITS = (
    "Images show surfaces only: damage inside, below paint or behind parts is not visible.",
    "Missing views, and images that are listed as blurred, dark or bright, are not covered.",
    "A score is not a probability of damage unless the model was calibrated on such images.",
    "This report states no prices and replaces no inspection by an expert.",
)
OPTIONS = ("company", "claim", "title", "inspector")
_DRAWN_SIDE = 1400


@dataclass(frozen=True, eq=False)
class ReportContent:
    """The content of one report.

    Attributes:
        asset: the asset.
        inspection: the inspection.
        images: in the order in which they were added.
        findings: all, also rejected ones.
        numbers: number of each finding in the report, from 1, by id.
        reviews: the oldest first.
        runs: the oldest first.
        summary: see `blemish.inspections.summary.summarize`.
        head: of the audit chain when the report was written.
        created_at: time of the report.
        options: `company`, `claim`, `title` and `inspector`.
        heatmaps: by image id; see `make_heatmaps`.
        version: of Blemish.
        blur: applied to each image before it is drawn on, or None.
    """

    asset: Asset
    inspection: Inspection
    images: tuple[InspectionImage, ...]
    findings: tuple[Finding, ...]
    numbers: dict[str, int]
    reviews: tuple[Review, ...]
    runs: tuple[PredictionRun, ...]
    summary: dict[str, Any]
    head: audit.Head
    created_at: str
    options: dict[str, str] = field(default_factory=dict)
    heatmaps: dict[str, ReportHeatmap] = field(default_factory=dict)
    version: str = __version__
    blur: Blur | None = None

    def facts(self) -> list[tuple[str, str]]:
        """Return the lines of the cover: name and value."""
        summary, coverage = self.summary, self.summary["coverage"]
        damages = ", ".join(f"{count} {label}" for label, count in summary["counts"].items()) or "none"
        facts = [
            ("Asset", f"{self.asset.reference} ({self.asset.kind})"),
            ("Inspection", self.inspection.id),
            ("Phase", " ".join(filter(None, [self.inspection.phase, self.inspection.kind]))),
            ("Created", self.inspection.created_at[:19].replace("T", " ") + " UTC"),
            ("Report", self.created_at[:19].replace("T", " ") + " UTC"),
            ("Claim", self.options.get("claim", "")),
            ("Inspector", self.options.get("inspector", "")),
            ("Damages", damages),
            ("Worst severity", self._severity()),
            ("Findings without a decision", str(summary["open_findings"])),
            ("Images", str(len(self.images))),
        ]
        if coverage["required"]:
            covered = f"{len(coverage['present'])} of {len(coverage['required'])} views"
            missing = f"; missing: {', '.join(coverage['missing'])}" if coverage["missing"] else ""
            facts.append(("Coverage", covered + missing))
        if summary["not_inspected"]:
            facts.append(("Images without a prediction", str(len(summary["not_inspected"]))))
        return [(name, value) for name, value in facts if value]

    def _severity(self) -> str:
        scale = self.summary["severity_scale"]
        return f"{self.summary['worst_severity'] or 'no rule applies'} ({scale})" if scale else ""

    def problems(self) -> list[str]:
        """Return one sentence for each image that may not show damage."""
        names = {image.id: image.file_name or image.id for image in self.images}
        return [
            f"{names[image_id]}: {', '.join(found)}"
            for image_id, found in self.summary["image_problems"].items()
        ]

    def models(self) -> list[dict[str, Any]]:
        """Return one mapping for each model that decided: name, task, digest, images, certificate, times."""
        models: dict[str, dict[str, Any]] = {}
        for run in self.runs:
            facts = models.setdefault(
                run.model_digest,
                {
                    "name": run.model_name,
                    "task": run.task,
                    "sha256": run.model_digest,
                    "images": 0,
                    "certificate": run.parameters.get("certificate") or "not recorded",
                    "first_run": run.created_at[:19].replace("T", " "),
                },
            )
            facts["images"] += len(run.images)
        return list(models.values())

    def changes(self) -> list[dict[str, Any]]:
        """Return the changes against the previous inspection; empty without a comparison."""
        return list((self.inspection.comparison or {}).get("changes", []))

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping for each finding: number, image, values after the reviews, and why."""
        names = {image.id: image for image in self.images}
        rows = []
        for finding in self.findings:
            values, image = finding.effective(), names[finding.image_id]
            rows.append(
                {
                    "number": self.numbers[finding.id],
                    "id": finding.id,
                    "damage": finding.group_id or finding.id,
                    "image": image.file_name or image.id,
                    "view": image.view,
                    **values,
                    "label_as_found": finding.label,
                    "score": finding.score,
                    "origin": finding.origin,
                    "severity_scale": finding.severity_scale,
                    "area_share": finding.area_share,
                    "state": finding.state,
                    "change": finding.change,
                    "basis": finding.group_basis or "not merged",
                    **{f"measure_{name}": value for name, value in finding.measures.items()},
                }
            )
        return rows


def gather(
    store: InspectionStore,
    inspection_id: str,
    options: Mapping[str, str] | None = None,
    models: Sequence[Predictor] = (),
    blur: Blur | None = None,
) -> ReportContent:
    """Return the content of a report about an inspection.

    Args:
        store: the store.
        inspection_id: the inspection.
        options: `company`, `claim`, `title` and `inspector`.
        models: that decided; images get their heatmaps.
        blur: applied to each image, or None.

    Raises:
        BadInput: there is no such option ("bad-input.report-option"), or a model decided nothing
            ("bad-input.heatmap-model").
    """
    given = dict(options or {})
    if unknown := set(given) - set(OPTIONS):
        raise BadInput(
            f"report: expected the options {', '.join(OPTIONS)}, got {unknown}", reason="report-option"
        )
    inspection = store.inspections.get(inspection_id)
    findings = store.findings.of_inspection(inspection_id)
    images, runs = store.images.of_inspection(inspection_id), store.findings.runs(inspection_id)
    check_models(models, runs, inspection_id)
    return ReportContent(
        asset=store.assets.get(inspection.asset_id),
        inspection=inspection,
        images=images,
        findings=findings,
        numbers={finding.id: number for number, finding in enumerate(findings, 1)},
        reviews=store.reviews.of_inspection(inspection_id),
        runs=runs,
        summary=inspection_summary(store, inspection_id),
        head=store.audit_head(),
        created_at=now(),
        options=given,
        heatmaps=make_heatmaps(store, images, findings, runs, models, blur),
        blur=blur,
    )


def draw_findings(store: InspectionStore, content: ReportContent, image: InspectionImage) -> Image.Image:
    """Return an image with the outlines and numbers of its findings, RGB, at most 1,400 pixels per side.

    Rejected findings are not drawn.
    """
    drawn = store.images.open(image).to_pil()
    if content.blur is not None:
        drawn = content.blur(drawn)
    drawn.thumbnail((_DRAWN_SIDE, _DRAWN_SIDE))
    scale = drawn.width / image.width
    labels = sorted({finding.current_label for finding in content.findings})
    pencil = ImageDraw.Draw(drawn)
    width = max(2, round(max(drawn.size) / 350))
    font = ImageFont.load_default(max(12, round(max(drawn.size) / 40)))
    for finding in content.findings:
        values = finding.effective()
        if finding.image_id != image.id or finding.state == "rejected" or values["box_xyxy"] is None:
            continue
        color = tuple(label_color(labels.index(finding.current_label)))
        x1, y1, x2, y2 = (value * scale for value in values["box_xyxy"])
        for ring in values["polygons"] or [[[x1 / scale, y1 / scale], [x2 / scale, y1 / scale],
                                            [x2 / scale, y2 / scale], [x1 / scale, y2 / scale]]]:  # fmt: skip
            points = [(x * scale, y * scale) for x, y in ring]
            pencil.line([*points, points[0]], fill=color, width=width)
        text = str(content.numbers[finding.id])
        left, top, right, bottom = pencil.textbbox((x1, y1), text, font=font)
        pad = width + 1
        place = [x1, max(0, y1 - (bottom - top) - 2 * pad)]
        pencil.rectangle(
            [place[0], place[1], place[0] + right - left + 2 * pad, place[1] + bottom - top + 2 * pad],
            fill=color,
        )
        ink = "black" if sum(color) > 380 else "white"
        pencil.text((place[0] + pad, place[1] + pad - (top - y1)), text, fill=ink, font=font)
    return drawn


def crop_finding(
    store: InspectionStore,
    image: InspectionImage,
    finding: Finding,
    side: int = 240,
    blur: Blur | None = None,
) -> Image.Image:
    """Return a square part of an image around a finding, (side, side) RGB; the whole image without a box."""
    pixels = store.images.open(image).to_pil()
    if blur is not None:
        pixels = blur(pixels)
    box = finding.effective()["box_xyxy"] or [0, 0, image.width, image.height]
    half = max(box[2] - box[0], box[3] - box[1], 32) * 0.65
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return pixels.crop((round(x - half), round(y - half), round(x + half), round(y + half))).resize(
        (side, side)
    )
