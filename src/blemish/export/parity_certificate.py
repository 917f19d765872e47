"""The parity certificate: compare a model file, on real images, with the network it was exported from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from blemish.errors import BadInput, ExportRefused
from blemish.evaluation.decision_differences import difference
from blemish.export.detection_parity import count_unmatched, exceeds_rounding
from blemish.inference.backend import Backend
from blemish.inference.cpu import cpu_capability
from blemish.inference.predictor import Predictor
from blemish.model_file import Contract, Fingerprints, ModelFile, ParityCertificate, write_model_file
from blemish.structures import Prediction, Sample

ComparedPair = tuple[Prediction, Prediction, Sample]
Judge = Callable[[ModelFile], Contract]
ReportProgress = Callable[[str, int, int], None]
MAX_NAMED_IMAGES = 10  # of those with a changed decision, in a message
MIN_OUTPUT_SPREAD = 1e-5  # of an output's own size; an output that varies less over images is near-constant


@dataclass
class OutputSpreadBackend(Backend):
    """A backend that records the smallest and largest value of each element of each output.

    An untrained or broken network can give every image the same output, and then any file agrees with it.
    """

    backend: Backend
    images: int = 0
    lowest: dict[str, np.ndarray] = field(default_factory=dict)
    highest: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name, self.precision = self.backend.name, self.backend.precision
        self.device_kind = self.backend.device_kind

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs of the backend inside."""
        outputs = self.backend.run(feeds)
        for name, values in outputs.items():
            if not np.issubdtype(values.dtype, np.floating):
                continue
            low, high = values.min(0), values.max(0)
            if name in self.lowest and self.lowest[name].shape == low.shape:
                low, high = np.minimum(low, self.lowest[name]), np.maximum(high, self.highest[name])
            self.lowest[name], self.highest[name] = low, high
        self.images += len(next(iter(feeds.values())))
        return outputs

    def is_near_constant(self) -> bool:
        """Return whether no output differs between images, after at least two images."""
        if self.images < 2:
            return False
        return not any(
            (self.highest[name] - self.lowest[name]).max(initial=0)
            > MIN_OUTPUT_SPREAD * max(float(np.abs(self.highest[name]).max(initial=0)), 1e-3)
            for name in self.highest
        )

    def is_not_finite(self) -> bool:
        """Return whether an output contained NaN or infinity."""
        return not all(np.isfinite(x).all() for x in (*self.lowest.values(), *self.highest.values()))


@dataclass(frozen=True)
class Reference:
    """The predictions that a file must repeat.

    Attributes:
        predictions: one for each sample; None if its image cannot be read.
        backend: what made them, with the spread of its outputs.
    """

    predictions: tuple[Prediction | None, ...]
    backend: OutputSpreadBackend

    @classmethod
    def of(cls, backend: Backend, model: ModelFile | Contract, samples: Sequence[Sample]) -> Reference:
        """Return the predictions of a backend for samples."""
        spread = OutputSpreadBackend(backend)
        stream = Predictor(spread, model).stream([sample.path for sample in samples])
        return cls(tuple(result.prediction for result in stream), spread)


@dataclass(frozen=True)
class Comparison:
    """The comparison of a file with its source.

    Attributes:
        certificate: its result.
        pairs: both predictions of every readable image.
        changed: the samples with a changed decision.
    """

    certificate: ParityCertificate
    pairs: list[ComparedPair]
    changed: list[Sample]


def certify(
    before: Backend,
    after: Backend,
    model_file: ModelFile,
    samples: Sequence[Sample],
    *,
    precision: str = "fp32",
    max_drop: float | None = None,
) -> ParityCertificate:
    """Return the certificate of a model file; see `compare`."""
    return compare(before, after, model_file, samples, precision=precision, max_drop=max_drop).certificate


def compare(
    before: Backend | Reference,
    after: Backend,
    model_file: ModelFile,
    samples: Sequence[Sample],
    *,
    precision: str = "fp32",
    max_drop: float | None = None,
    max_changed: float | None = None,
    report_progress: ReportProgress | None = None,
) -> Comparison:
    """Predict the samples with two backends and count the decisions that change.

    Args:
        before: the network, or the file that another is made from; or its predictions for the samples.
        after: the file.
        model_file: its contract, and the digest that the certificate is bound to.
        samples: validation images; the primary metric is measured on those with ground truth.
        precision: of the file's weights or of the arithmetic: `fp32`, `fp16`, `int8` or `bf16`.
        max_drop: maximum drop of the primary metric. None: no decision may change, and every detection needs
            a counterpart whatever its score; see `count_unmatched`.
        max_changed: maximum share of images with a changed decision, in [0, 1]. None: no limit besides
            `max_drop`.
        report_progress: called with "verifying", the number of compared images and of all.

    Raises:
        BadInput: none of the images can be read ("bad-input.no-images").
    """
    reference = before if isinstance(before, Reference) else Reference.of(before, model_file, samples)
    backends = reference.backend, OutputSpreadBackend(after)
    decisions, max_difference, count = 0, 0.0, 0
    unmatched = detections = 0
    pairs: list[ComparedPair] = []
    changed: list[Sample] = []
    stream = Predictor(backends[1], model_file).stream([sample.path for sample in samples])
    compared = zip(samples, reference.predictions, stream, strict=True)
    for done, (sample, first, result) in enumerate(compared, 1):
        if report_progress is not None:
            report_progress("verifying", done, len(samples))
        second = result.prediction
        if first is None or second is None:
            if first is not second:
                decisions += 1
                changed.append(sample)
            continue
        count += 1
        changed_here, difference_here = difference(first, second)
        decisions, max_difference = decisions + changed_here, max(max_difference, difference_here)
        if changed_here:
            changed.append(sample)
        pairs.append((first, second, sample))
        if max_drop is None and model_file.contract.task.has_objects:
            unmatched_here, detections_here = count_unmatched(first, second)
            unmatched, detections = unmatched + unmatched_here, detections + detections_here
    if not count and not any(backend.is_not_finite() for backend in backends):
        raise BadInput(
            "the file cannot be certified, because none of the validation images can be read",
            reason="no-images",
        )
    metric, values = _primary_metric(pairs)
    reasons = _failure_reasons(backends, decisions, values, metric, max_drop, max_changed)
    if exceeds_rounding(unmatched, detections):
        reasons.append(f"{unmatched} of {detections} detections moved, or changed their score or mask")
    if max_changed is not None and len(changed) > max_changed * len(samples):
        reasons.append(
            f"decisions changed on {len(changed)} images, and at most {int(max_changed * len(samples))} may "
            f"({max_changed:.1%})"
        )
    certificate = ParityCertificate(
        passed=not reasons,
        images=count,
        decisions_changed=decisions,
        max_difference=max_difference,
        metric=metric,
        metric_before=values[0],
        metric_after=values[1],
        backend=after.name,
        precision=precision,
        cpu_capability=cpu_capability(),
        graph_digest=model_file.graph_digest,
        reasons=tuple(reasons),
    )
    return Comparison(certificate, pairs, changed)


def write_certified(
    target: Path,
    graph: bytes,
    contract: Contract,
    fingerprints: Fingerprints | None,
    judge: Judge,
    *,
    force: bool,
) -> ModelFile:
    """Write a graph with its contract if its certificate passes; else an earlier file stays as it is.

    Args:
        target: the file.
        graph: a serialized ModelProto.
        contract: without the certificate.
        fingerprints: of the training images.
        judge: returns the contract with the certificate, for a candidate file.
        force: whether to write the file although its certificate did not pass.

    Raises:
        ExportRefused: the certificate did not pass.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Windows removes no file that a runtime has mapped; the folder is hidden in case it remains.
    with tempfile.TemporaryDirectory(
        prefix=".export-", dir=target.parent, ignore_cleanup_errors=True
    ) as folder:
        certified = judge(write_model_file(Path(folder) / target.name, graph, contract, fingerprints))
    certificate = certified.certificate
    if (certificate is None or not certificate.passed) and not force:
        raise ExportRefused(refusal_message(target, certificate), reason="not-certified")
    return write_model_file(target, graph, certified, fingerprints)


def _primary_metric(pairs: Sequence[ComparedPair]) -> tuple[str, tuple[float | None, float | None]]:
    """Return the name of the primary metric and its value before and after; "" without ground truth."""
    from blemish.evaluation.build_report import score_predictions

    labeled = [
        (first, second, sample.ground_truth)
        for first, second, sample in pairs
        if sample.ground_truth is not None
    ]
    if not labeled:
        return "", (None, None)
    ground_truths = [ground_truth for _, _, ground_truth in labeled]
    before = score_predictions([first for first, _, _ in labeled], ground_truths, intervals=False)
    after = score_predictions([second for _, second, _ in labeled], ground_truths, intervals=False)
    return before.primary_metric, (before.value(before.primary_metric), after.value(after.primary_metric))


def _failure_reasons(
    backends: tuple[OutputSpreadBackend, OutputSpreadBackend],
    changed: int,
    values: tuple[float | None, float | None],
    metric: str,
    max_drop: float | None,
    max_changed: float | None,
) -> list[str]:
    reasons = []
    if any(backend.is_not_finite() for backend in backends):
        reasons.append("an output contains NaN or infinity")
    elif any(backend.is_near_constant() for backend in backends):
        reasons.append("the outputs are near-constant: every image gets the same prediction")
    if max_drop is None and changed:
        reasons.append(f"{changed} decisions changed")
    before, after = values
    if max_drop is not None and before is not None and after is not None:
        if before - after > max_drop:
            reasons.append(f"{metric} dropped from {before:.4f} to {after:.4f}, by more than {max_drop:g}")
    elif max_drop is not None and max_changed is None and changed:
        reasons.append(f"{changed} decisions changed, and there is no ground truth to measure the effect")
    return reasons


def refusal_message(path: Path, certificate: ParityCertificate | None, changed: Sequence[Sample] = ()) -> str:
    """Return the error message for a file whose certificate did not pass, with the changed images."""
    if certificate is None:
        return f"{path} was not written: it was not compared with the network"
    named = f" The images are {name_images(changed)}." if changed else ""
    return (
        f"{path} was not written: {'; '.join(certificate.reasons)} (on {certificate.images} validation "
        f"images, {certificate.backend}, {certificate.precision}).{named} Write it anyway with --force."
    )


def name_images(samples: Sequence[Sample]) -> str:
    """Return the ids of samples, and how many there are beyond `MAX_NAMED_IMAGES`."""
    more = len(samples) - MAX_NAMED_IMAGES
    names = ", ".join(sample.id for sample in samples[:MAX_NAMED_IMAGES])
    return names + (f" and {more} more" if more > 0 else "")
