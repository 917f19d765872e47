"""The parity certificate: proof, on real images, that a file decides as the network it came from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from blemish.errors import BadInput, ExportRefused
from blemish.evaluation.decision_differences import difference
from blemish.export.detection_parity import strays, too_many
from blemish.inference.backend import Backend
from blemish.inference.predictor import Predictor
from blemish.model_file import Contract, Fingerprints, ModelFile, ParityCertificate, write_model_file
from blemish.structures import Prediction, Sample

Pair = tuple[Prediction, Prediction, Sample]
Judge = Callable[[ModelFile], Contract]
SMALLEST_SPREAD = 1e-5  # of an output's own size: what varies less over images is near-constant


@dataclass
class OutputSpreadBackend(Backend):
    """A backend that also keeps, for each output, the least and the greatest value of each element.

    A fresh or broken network can answer every image alike, and then any file agrees with it.
    """

    backend: Backend
    images: int = 0
    least: dict[str, np.ndarray] = field(default_factory=dict)
    most: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name, self.precision = self.backend.name, self.backend.precision
        self.device_kind = self.backend.device_kind

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the backend inside answers."""
        outputs = self.backend.run(feeds)
        for name, values in outputs.items():
            if not np.issubdtype(values.dtype, np.floating):
                continue
            low, high = values.min(0), values.max(0)
            if name in self.least and self.least[name].shape == low.shape:
                low, high = np.minimum(low, self.least[name]), np.maximum(high, self.most[name])
            self.least[name], self.most[name] = low, high
        self.images += len(next(iter(feeds.values())))
        return outputs

    def near_constant(self) -> bool:
        """Whether no output tells images apart, two or more having been seen."""
        if self.images < 2:
            return False
        return not any(
            (self.most[name] - self.least[name]).max(initial=0)
            > SMALLEST_SPREAD * max(float(np.abs(self.most[name]).max(initial=0)), 1e-3)
            for name in self.most
        )

    def not_finite(self) -> bool:
        """Whether an output held NaN or an infinity."""
        return not all(np.isfinite(x).all() for x in (*self.least.values(), *self.most.values()))


def certify(
    before: Backend,
    after: Backend,
    model_file: ModelFile,
    samples: Sequence[Sample],
    *,
    precision: str = "fp32",
    max_drop: float | None = None,
) -> ParityCertificate:
    """The certificate of `compare`, which see."""
    return compare(before, after, model_file, samples, precision=precision, max_drop=max_drop)[0]


def compare(
    before: Backend,
    after: Backend,
    model_file: ModelFile,
    samples: Sequence[Sample],
    *,
    precision: str = "fp32",
    max_drop: float | None = None,
) -> tuple[ParityCertificate, list[Pair]]:
    """What changes on `samples` when `after` decides instead of `before`, both behind one predictor.

    Args:
        before: the network, or the file that another is made from.
        after: the file.
        model_file: its contract and digest; the certificate is bound to its `graph_digest`.
        samples: validation images; with truths, the headline metric is scored too.
        precision: of the file's weights: `fp32`, `fp16`.
        max_drop: how far the headline metric may fall. None: not one verdict may change, and detections
            must have a twin each, whatever they score; see `strays`.

    Returns:
        The certificate, and both predictions of every image that could be read.

    Raises:
        BadInput: there is no image that can be read, so nothing can be proved.
    """
    judges = OutputSpreadBackend(before), OutputSpreadBackend(after)
    changed, largest, count = 0, 0.0, 0
    alone = detections = 0
    kept: list[Pair] = []
    paths = [sample.path for sample in samples]
    streams = [Predictor(judge, model_file).stream(paths) for judge in judges]
    for sample, first, second in zip(samples, *streams, strict=True):
        if first.prediction is None or second.prediction is None:
            changed += first.prediction is not second.prediction
            continue
        count += 1
        differs, distance = difference(first.prediction, second.prediction)
        changed, largest = changed + differs, max(largest, distance)
        kept.append((first.prediction, second.prediction, sample))
        if max_drop is None and model_file.contract.task.has_objects:
            lost, both = strays(first.prediction, second.prediction)
            alone, detections = alone + lost, detections + both
    if not count and not any(judge.not_finite() for judge in judges):
        raise BadInput("the file cannot be certified: none of the validation images can be read")
    metric, scores = _headline(kept)
    reasons = _reasons(judges, changed, scores, metric, max_drop)
    if too_many(alone, detections):
        reasons.append(f"{alone} of {detections} detections moved, changed their score or their mask")
    parity = ParityCertificate(
        passed=not reasons,
        images=count,
        decisions_changed=changed,
        max_difference=largest,
        metric=metric,
        metric_before=scores[0],
        metric_after=scores[1],
        backend=after.name,
        precision=precision,
        cpu_capability=cpu_capability(),
        graph_digest=model_file.graph_digest,
        reasons=tuple(reasons),
    )
    return parity, kept


def write_certified(
    target: Path,
    graph: bytes,
    contract: Contract,
    fingerprints: Fingerprints | None,
    judge: Judge,
    *,
    force: bool,
) -> ModelFile:
    """Write a graph with its contract once `judge` compared it; what stood there stays if it does not pass.

    Args:
        target: the file.
        graph: a serialised ModelProto.
        contract: as it stands before the certificate.
        fingerprints: of the training images.
        judge: from a candidate file to its contract with the certificate.
        force: write it although it did not pass.

    Raises:
        ExportRefused: it did not pass.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Windows removes no file that a runtime still has mapped; what it leaves is hidden.
    with tempfile.TemporaryDirectory(
        prefix=".export-", dir=target.parent, ignore_cleanup_errors=True
    ) as folder:
        certified = judge(write_model_file(Path(folder) / target.name, graph, contract, fingerprints))
    certificate = certified.certificate
    if (certificate is None or not certificate.passed) and not force:
        raise ExportRefused(refusal(target, certificate))
    return write_model_file(target, graph, certified, fingerprints)


def cpu_capability() -> str:
    """The processor's widest vector instructions, such as `avx512`; rounding differs between them."""
    return str(torch.backends.cpu.get_cpu_capability()).lower()


def _headline(kept: Sequence[Pair]) -> tuple[str, tuple[float | None, float | None]]:
    """The headline metric's name and its value before and after; nothing where nobody knows the truth."""
    from blemish.evaluation.build_report import score_predictions

    known = [
        (first, second, sample.ground_truth)
        for first, second, sample in kept
        if sample.ground_truth is not None
    ]
    if not known:
        return "", (None, None)
    ground_truths = [ground_truth for _, _, ground_truth in known]
    before = score_predictions([first for first, _, _ in known], ground_truths, intervals=False)
    after = score_predictions([second for _, second, _ in known], ground_truths, intervals=False)
    return before.primary_metric, (before.value(before.primary_metric), after.value(after.primary_metric))


def _reasons(
    judges: tuple[OutputSpreadBackend, OutputSpreadBackend],
    changed: int,
    scores: tuple[float | None, float | None],
    metric: str,
    max_drop: float | None,
) -> list[str]:
    reasons = []
    if any(judge.not_finite() for judge in judges):
        reasons.append("an output is not a number")
    elif any(judge.near_constant() for judge in judges):
        reasons.append("the outputs are near-constant: every image gets the same answer")
    if max_drop is None and changed:
        reasons.append(f"{changed} verdicts changed")
    before, after = scores
    if max_drop is not None and before is not None and after is not None:
        if before - after > max_drop:
            reasons.append(f"{metric} fell from {before:.4f} to {after:.4f}, by more than {max_drop:g}")
    elif max_drop is not None and changed:
        reasons.append(f"{changed} verdicts changed, and no truth says whether for the worse")
    return reasons


def refusal(path: Path, certificate: ParityCertificate | None) -> str:
    """The sentence that refuses a file whose certificate did not pass."""
    if certificate is None:
        return f"{path} was not written: nothing proves that it decides as the network does"
    return (
        f"{path} was not written: {'; '.join(certificate.reasons)} (on {certificate.images} validation "
        f"images, {certificate.backend}, {certificate.precision}); --force writes it all the same"
    )
