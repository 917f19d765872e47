"""Run a model over the images of an inspection, and derive damages and changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.arrays import BoolArray, FloatArray
from blemish.errors import BadInput, UnknownName
from blemish.geometry import invert_homography, mask_box, mask_to_array, mask_to_rings
from blemish.inspections.comparison import Change, Side, compare_sides
from blemish.inspections.finding_groups import Group, merge_findings
from blemish.inspections.finding_records import NewFinding, NewRun, rules_of
from blemish.inspections.measurement import ImageScale, measure_crack
from blemish.inspections.records import Finding, InspectionImage, PredictionRun
from blemish.inspections.registration import Features, can_register, find_features, register
from blemish.inspections.store import InspectionStore
from blemish.inspections.summary import summarize
from blemish.model_file.certificate_text import describe_certificate
from blemish.structures import Prediction

if TYPE_CHECKING:
    from blemish.inference import Predictor

Progress = Callable[[int, int], None]


def inspect_images(
    store: InspectionStore,
    inspection_id: str,
    predictor: Predictor,
    *,
    model_name: str = "",
    parts: Predictor | None = None,
    min_score: float | None = None,
    normal_labels: Collection[str] = (),
    scale: ImageScale | None = None,
    max_images: int | None = None,
    progress: Progress | None = None,
) -> PredictionRun:
    """Run a model over the images that it has not seen, store the run with its findings, and merge them.

    Args:
        store: the store.
        inspection_id: the inspection.
        predictor: of the model that finds damage.
        model_name: name of its file.
        parts: of a model that finds parts; each finding is on the part with the largest overlap.
        min_score: lower-scoring findings are left out. Default: the threshold of each label.
        normal_labels: labels that are no damage, such as "functional".
        scale: of all these images; findings with an outline get their width and length in millimeters.
        max_images: further images are left to the next run, and findings are merged by the last one; None
            takes all.
        progress: called with the images done and the number of images.

    Raises:
        BadInput: there is no image that the model has not seen ("bad-input.nothing-to-inspect").
        UnknownName: a normal label is none of the model's.
        WrongTask: the model of the parts has no boxes ("wrong-task.parts").
    """
    check_models(predictor, parts, normal_labels)
    images = unseen_images(store, inspection_id, predictor)
    is_last = max_images is None or len(images) <= max_images
    images = images[:max_images]
    paths = [store.access.files.path(image.sha256) for image in images]
    part_results: Iterable[Any] = [None] * len(images) if parts is None else parts.stream(paths)
    entries: list[dict[str, Any]] = []
    found: list[NewFinding] = []
    results = zip(images, predictor.stream(paths, min_score=min_score), part_results, strict=True)
    for number, (image, result, part_result) in enumerate(results, 1):
        entry: dict[str, Any] = {"image_id": image.id, "error": None, "warning": result.warning}
        if result.prediction is None:
            entry["error"] = getattr(result.error, "code", "error")
        else:
            scores = zip(result.prediction.labels, result.prediction.label_scores.tolist(), strict=True)
            entry["label_scores"] = {name: round(score, 6) for name, score in scores}
            part_prediction = None if part_result is None else part_result.prediction
            found += findings_of(image, result.prediction, part_prediction, min_score, normal_labels, scale)
        entries.append(entry)
        if progress is not None:
            progress(number, len(images))
    settings = {
        "min_score": min_score,
        "parts_model_digest": None if parts is None else parts.digest,
        "mm_per_pixel": None if scale is None else scale.mm_per_pixel,
        "mm_per_pixel_relative_error": None if scale is None else scale.relative_error,
    }
    run = describe_run(predictor, model_name, normal_labels, settings, entries)
    stored = store.findings.add_run(inspection_id, run, found)
    if is_last:
        merge_inspection(store, inspection_id)
    return stored


def describe_run(
    predictor: Predictor,
    model_name: str,
    normal_labels: Collection[str],
    settings: Mapping[str, Any],
    images: Sequence[Mapping[str, Any]],
) -> NewRun:
    """Return the record of a run: the model with its thresholds and certificate, the settings and the images.

    Args:
        predictor: of the model.
        model_name: name of its file.
        normal_labels: labels that are no damage.
        settings: further parameters of the run.
        images: what became of each image.
    """
    return NewRun(
        model_digest=predictor.digest,
        model_name=model_name,
        task=str(predictor.task),
        labels=predictor.labels.names,
        parameters={
            "thresholds": _model_thresholds(predictor),
            "certificate": _certificate_text(predictor),
            "normal_labels": sorted(normal_labels),
            **settings,
        },
        images=images,
    )


def check_models(predictor: Predictor, parts: Predictor | None, normal_labels: Collection[str]) -> None:
    """Raise an error if models cannot inspect images; see `inspect_images`."""
    for name in normal_labels:
        if name not in predictor.labels:
            raise UnknownName("label", name, predictor.labels, where="normal labels")
    if parts is not None and not parts.task.has_boxes:
        from blemish.errors import WrongTask

        raise WrongTask(f"parts: expected a model with boxes or masks, got {parts.task}", reason="parts")


def unseen_images(store: InspectionStore, inspection_id: str, predictor: Predictor) -> list[InspectionImage]:
    """Return the images of an inspection that a model has not seen.

    Raises:
        BadInput: there is none ("bad-input.nothing-to-inspect").
    """
    seen = {
        entry["image_id"]
        for run in store.findings.runs(inspection_id)
        if run.model_digest == predictor.digest
        for entry in run.images
    }
    images = [image for image in store.images.of_inspection(inspection_id) if image.id not in seen]
    if not images:
        raise BadInput(
            f"inspection {inspection_id}: there is no image that this model has not seen. Add images.",
            reason="nothing-to-inspect",
        )
    return images


def _model_thresholds(predictor: Predictor) -> dict[str, float | None]:
    """Return the threshold of each label; None if the model file states none."""
    thresholds = predictor.contract.thresholds
    return {name: thresholds.get(name) for name in predictor.labels}


def _certificate_text(predictor: Predictor) -> str:
    """Return the certificate of a model file in words; "" for a predictor without a file."""
    if predictor.model_file is None:
        return ""
    return describe_certificate(predictor.contract.certificate, predictor.model_file.graph_digest)


def findings_of(
    image: InspectionImage,
    prediction: Prediction,
    parts: Prediction | None,
    min_score: float | None,
    normal_labels: Collection[str],
    scale: ImageScale | None = None,
) -> list[NewFinding]:
    """Return the findings of one image: its detections, or its positive labels.

    Args:
        image: the image.
        prediction: of the model that finds damage.
        parts: of the model that finds parts, or None.
        min_score: see `inspect_images`.
        normal_labels: see `inspect_images`.
        scale: see `inspect_images`.
    """
    kept = prediction.filter_scores(min_score)
    found = []
    for row, (label, score) in enumerate(zip(kept.label_names, kept.scores.tolist(), strict=True)):
        if label in normal_labels:
            continue
        box = rings = share = None
        part, measures = "", dict[str, float]()
        if kept.boxes_xyxy is not None:
            height, width = image.height, image.width
            corners = np.clip(kept.boxes_xyxy[row], 0, [width, height, width, height])
            if not (corners[:2] < corners[2:]).all():
                continue  # a detection without an area inside of the image
            box = corners.tolist()
            if kept.masks is not None and kept.masks[row].area:
                mask = kept.masks[row]
                rings = [ring.tolist() for ring in mask_to_rings(mask) if len(ring) >= 3]
                share = mask.area / (height * width)
                if scale is not None:
                    x1, y1, x2, y2 = mask_box(mask).astype(int)
                    region = mask_to_array(mask)[y1:y2, x1:x2]
                    measures = measure_crack(region.astype(np.float64)).to_measures(scale)
            part = assign_part(kept, row, parts)
        found.append(
            NewFinding(
                image_id=image.id,
                label=label,
                score=score,
                box_xyxy=box,
                polygons=rings or None,
                area_share=share,
                part=part,
                measures=measures,
            )
        )
    return found


def assign_part(prediction: Prediction, row: int, parts: Prediction | None) -> str:
    """Return the part with the largest overlap with one detection, or "" if none overlaps.

    Masks are compared where both models have them, else boxes. Only parts at or above their thresholds count.
    """
    if parts is None or parts.boxes_xyxy is None or prediction.boxes_xyxy is None:
        return ""
    positive = parts.filter_scores()
    assert positive.boxes_xyxy is not None  # noqa: S101  (checked above)
    damage = _region(prediction, row)
    best, best_overlap = "", 0
    for other, name in enumerate(positive.label_names):
        overlap = int((damage & _region(positive, other)).sum())
        if overlap > best_overlap:
            best, best_overlap = name, overlap
    return best


def _region(prediction: Prediction, row: int) -> BoolArray:
    """Return (h, w) bool, the mask of a detection, or the pixels of its box."""
    if prediction.masks is not None:
        return mask_to_array(prediction.masks[row])
    assert prediction.boxes_xyxy is not None and prediction.size_hw is not None  # noqa: S101  (detections)
    region = np.zeros(prediction.size_hw, bool)
    x1, y1, x2, y2 = prediction.boxes_xyxy[row].round().astype(int)
    region[max(y1, 0) : y2, max(x1, 0) : x2] = True
    return region


class Registrations:
    """Homographies between stored images, computed when they are needed; features once per image."""

    def __init__(self, store: InspectionStore) -> None:
        self._store, self._features = store, dict[str, Features]()
        self.homographies: dict[tuple[str, str], FloatArray] = {}

    def add(self, a: InspectionImage, b: InspectionImage) -> None:
        """Register two images in both directions, if they can be."""
        forward = register(self._of(a), self._of(b))
        if forward is not None:
            self.homographies[a.id, b.id] = forward
            self.homographies[b.id, a.id] = invert_homography(forward)

    def _of(self, image: InspectionImage) -> Features:
        if image.id not in self._features:
            self._features[image.id] = find_features(self._store.images.open(image))
        return self._features[image.id]


def merge_inspection(store: InspectionStore, inspection_id: str) -> tuple[Group, ...]:
    """Merge the findings of an inspection, and store the groups.

    Images are registered if the extra `measure` is installed and both have a finding of one label.
    """
    findings = store.findings.of_inspection(inspection_id)
    images = store.images.of_inspection(inspection_id)
    registrations = Registrations(store)
    if can_register():
        labels = _labels_by_image(findings)
        for a, b in combinations(images, 2):
            if labels.get(a.id, set()) & labels.get(b.id, set()):
                registrations.add(a, b)
    groups = merge_findings(findings, images, registrations.homographies)
    before = {finding.id: (finding.group_id, finding.group_basis) for finding in findings}
    derived = {
        finding_id: {"group_id": group.id, "group_basis": group.basis}
        for group in groups
        for finding_id in group.finding_ids
        if before[finding_id] != (group.id, group.basis)
    }
    if derived:
        store.findings.assign(inspection_id, derived)
    return groups


def _labels_by_image(findings: Sequence[Finding]) -> dict[str, set[str]]:
    labels: dict[str, set[str]] = {}
    for finding in findings:
        if finding.state != "rejected" and finding.effective()["box_xyxy"] is not None:
            labels.setdefault(finding.image_id, set()).add(finding.current_label)
    return labels


def compare_inspections(
    store: InspectionStore, inspection_id: str, previous_id: str | None = None
) -> tuple[Change, ...]:
    """Compare an inspection with the previous one of the asset, and store the changes of its findings.

    Args:
        store: the store.
        inspection_id: the inspection.
        previous_id: the one to compare with; default: the one that was named when it was created.

    Raises:
        BadInput: there is no previous inspection ("bad-input.no-previous"), or it is of another asset
            ("bad-input.previous").
    """
    inspection = store.inspections.get(inspection_id)
    previous_id = previous_id or inspection.previous_id
    if previous_id is None:
        raise BadInput(
            f"inspection {inspection_id}: no previous inspection was named. Add --previous ID.",
            reason="no-previous",
        )
    if previous_id == inspection_id or store.inspections.get(previous_id).asset_id != inspection.asset_id:
        raise BadInput("previous: expected another inspection of the same asset", reason="previous")
    before, after = _side(store, previous_id), _side(store, inspection_id)
    registrations = Registrations(store)
    if can_register():
        old_labels = _labels_by_image(tuple(before.findings.values()))
        new_labels = _labels_by_image(tuple(after.findings.values()))
        for old, new in product(before.images, after.images):
            # A pair without a finding has no place to look up.
            if (old.id in old_labels or new.id in new_labels) and (
                not old.view or not new.view or old.view == new.view
            ):
                registrations.add(old, new)
    changes = compare_sides(before, after, registrations.homographies, rules_of(inspection))
    groups = {group.id: group for group in after.groups}
    derived: dict[str, Mapping[str, Any]] = {
        finding_id: {"change": change.change}
        for change in changes
        if change.group_id is not None
        for finding_id in groups[change.group_id].finding_ids
    }
    result = {
        "previous_id": previous_id,
        "registered_pairs": len(registrations.homographies) // 2,
        "registration": "available"
        if can_register()
        else "not available: the extra 'measure' is not installed",
        "changes": [change.to_dict() for change in changes],
        "pairs": image_pairs(before.images, after.images, registrations.homographies),
    }
    store.findings.assign(inspection_id, derived, result)
    return changes


def image_pairs(
    before: Sequence[InspectionImage],
    after: Sequence[InspectionImage],
    homographies: Mapping[tuple[str, str], FloatArray],
) -> list[dict[str, Any]]:
    """Return which image of the previous inspection shows what an image shows, to be compared by eye.

    Returns:
        One mapping for each image of `after` with a counterpart, a registered one if there is one, else one
        of the same named view: `image_id`, `previous_image_id`, and `matrix`, (3, 3) from pixels of the
        previous image to those of this one, or None if they are not registered.
    """
    pairs = []
    for image in after:
        candidates = [
            (matrix is not None, bool(image.view) and image.view == other.view, other, matrix)
            for other in before
            for matrix in [homographies.get((other.id, image.id))]
        ]
        candidates = [candidate for candidate in candidates if candidate[0] or candidate[1]]
        if candidates:
            _, _, other, matrix = max(candidates, key=lambda candidate: candidate[:2])
            pairs.append(
                {
                    "image_id": image.id,
                    "previous_image_id": other.id,
                    "matrix": None if matrix is None else matrix.tolist(),
                }
            )
    return pairs


def _side(store: InspectionStore, inspection_id: str) -> Side:
    findings = store.findings.of_inspection(inspection_id)
    images = store.images.of_inspection(inspection_id)
    members: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.state != "rejected":
            members.setdefault(finding.group_id or finding.id, []).append(finding)
    groups = [
        Group(group_id, group[0].group_basis, tuple(f.id for f in group))
        for group_id, group in sorted(members.items())
    ]
    done = {
        entry["image_id"]
        for run in store.findings.runs(inspection_id)
        for entry in run.images
        if not entry.get("error")
    } | {finding.image_id for finding in findings}
    return Side(groups, {finding.id: finding for finding in findings}, [i for i in images if i.id in done])


def inspection_summary(store: InspectionStore, inspection_id: str) -> dict[str, Any]:
    """Return the decision about a stored inspection; see `summarize`."""
    return summarize(
        store.inspections.get(inspection_id),
        store.images.of_inspection(inspection_id),
        store.findings.of_inspection(inspection_id),
        store.findings.runs(inspection_id),
    )
