"""The certificate of a few-shot model file: it decides as the trunk and the head it was made from."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blemish.decoding import decode
from blemish.decoding.decoder import Outputs
from blemish.errors import ExportRefused
from blemish.evaluation import score_predictions
from blemish.evaluation.abstention_calibration import collect_scores
from blemish.few_shot.features import Progress
from blemish.inference import load
from blemish.model_file import Contract, Fingerprints, ParityCertificate, write_model_file
from blemish.preprocessing import place
from blemish.structures import Prediction, Sample

MIN_SPREAD = 1e-4  # of the first output over all images; below it the outputs are constant


def certify_head(
    target: Path,
    graph: bytes,
    contract: Contract,
    fingerprints: Fingerprints,
    outputs: Outputs,
    samples: Sequence[Sample],
    progress: Progress | None = None,
) -> Contract:
    """Return the contract with the certificate, the metrics and the scores of the validation images.

    The file is written to a temporary folder, opened as users open it, and compared with what the head gave
    in the training.

    Args:
        target: where the file will be written.
        graph: the graph from images to logits.
        contract: without certificate.
        fingerprints: of the images.
        outputs: what the head gave for the validation images, by the name of the graph's output.
        samples: the validation images.
        progress: called with "verifying" and the number of verified images and of all.

    Raises:
        ExportRefused: a decision differs, or the logits are constant.
    """
    leading = outputs[contract.outputs[0].name]
    with tempfile.TemporaryDirectory(
        prefix=".export-", dir=target.parent, ignore_cleanup_errors=True
    ) as folder:
        candidate = write_model_file(Path(folder) / target.name, graph, contract, fingerprints)
        predictor = load(candidate)
        after = []
        for result in predictor.stream([s.path for s in samples]):
            after.append(result.prediction)
            if progress is not None:
                progress("verifying", len(after), len(samples))
        backend = predictor.backend.name
        digest = candidate.graph_digest
    readable = [i for i, prediction in enumerate(after) if prediction is not None]
    sizes = [p.size_hw for p in after if p is not None and p.size_hw is not None]
    before = _decide(contract, {name: array[readable] for name, array in outputs.items()}, sizes)
    kept = [(b, a, samples[i]) for b, i in zip(before, readable, strict=True) if (a := after[i]) is not None]
    pairs = [contract.task.hook("decision_differences")(b, a) for b, a, _ in kept] if kept else []
    changed = sum(count for count, _ in pairs)
    largest = max((distance for _, distance in pairs), default=0.0)
    reasons = []
    if changed:
        reasons.append(f"{changed} decisions differ from those of the trained head")
    if len(samples) > 1 and float(np.ptp(leading, axis=0).max(initial=0)) < MIN_SPREAD:
        reasons.append("the outputs are nearly the same for every image")
    if not kept:
        reasons.append("no validation image could be read")
    metric = contract.task.primary_metric
    known = [sample for *_, sample in kept]
    metrics_before = _metrics([before for before, _, _ in kept], known)
    metrics_after = _metrics([after for _, after, _ in kept], known)
    certificate = ParityCertificate(
        passed=not reasons,
        images=len(kept),
        decisions_changed=changed,
        max_difference=largest,
        metric=metric,
        metric_before=metrics_before.get(metric),
        metric_after=metrics_after.get(metric),
        backend=backend,
        precision="fp32",
        graph_digest=digest,
        reasons=tuple(reasons),
    )
    if reasons:
        raise ExportRefused(f"{target}: the model file was not written: {'; '.join(reasons)}.")
    metrics: dict[str, Any] = {"val": {**metrics_after, "images": len(kept)}}
    abstention = collect_scores([after for _, after, _ in kept], known, split="val")
    return contract.model_copy(
        update={"certificate": certificate, "metrics": metrics, "abstention": abstention}
    )


def _decide(contract: Contract, outputs: Outputs, sizes_hw: Sequence[tuple[int, int]]) -> list[Prediction]:
    """Return the predictions of outputs, as a model file gives them for images of these sizes."""
    placements = [place(size_hw, contract.inputs[0]) for size_hw in sizes_hw]
    return decode(contract, {name: array.astype(np.float32) for name, array in outputs.items()}, placements)


def _metrics(predictions: Sequence[Prediction], samples: Sequence[Sample]) -> dict[str, float]:
    """Return every defined metric of predictions, without intervals."""
    if not predictions:
        return {}
    ground_truths = [s.ground_truth for s in samples if s.ground_truth is not None]
    report = score_predictions(predictions, ground_truths, groups=[s.group for s in samples], intervals=False)
    return {name: float(m.value) for name, m in report.metrics.items() if m.value is not None}
