"""Write a model file in INT8: calibrate, quantize, compare, and return layers to float32 where needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from blemish.errors import BadImage, BadInput, ExportRefused
from blemish.evaluation.decision_differences import decision_error
from blemish.export.abstention_scores import with_new_scores
from blemish.export.accuracy_control import Progress, control_accuracy
from blemish.export.int8 import Int8Graph
from blemish.export.int8_statistics import Feeds
from blemish.export.other_backends import with_certificates
from blemish.export.parity_certificate import (
    Comparison,
    Reference,
    compare,
    name_images,
    refusal_message,
    write_certified,
)
from blemish.imaging import open_image
from blemish.inference import Predictor, open_backend
from blemish.inference.backend import BACKENDS, DEFAULT_BACKEND, OpensGraphs
from blemish.inference.results import PreparedInput
from blemish.model_file import Contract, ModelFile, read_graph
from blemish.structures import Sample

LOG = logging.getLogger(__name__)
MAX_CALIBRATION_IMAGES = 128
TYPICAL_IMAGES = 16  # on which the ranges of the activations are chosen
HARD_IMAGES = 8  # on which layers are ranked


def no_progress(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def export_int8(
    file: ModelFile,
    target: Path,
    samples: Sequence[Sample],
    max_drop: float,
    max_changed: float,
    *,
    backend: str = DEFAULT_BACKEND,
    is_of_run: bool,
    force: bool,
    progress: Progress = no_progress,
) -> ModelFile:
    """Write a model file in INT8 with a certificate for each installed backend.

    Args:
        file: an fp32 model file.
        target: the file to write.
        samples: validation images: up to `MAX_CALIBRATION_IMAGES` of them for the ranges of the activations,
            all for the certificate.
        max_drop: maximum drop of the primary metric, in [0, 1].
        max_changed: maximum share of images with a changed decision, in [0, 1].
        backend: the registered name of the backend that the file is made for, and certified with first.
        is_of_run: whether they are the run's own, so that `--risk` may decide from their scores.
        force: whether to write a file whose certificate did not pass.
        progress: called with the stage, and the number of finished steps and of all.

    Raises:
        BadInput: no image can be read ("bad-input.no-images"), or the backend runs no graphs from memory
            ("bad-input.int8-backend").
        ExportRefused: the certificate did not pass, or the file would hardly be smaller.
        MissingExtra: `onnx` or the backend is not installed.
        UnknownName: no such backend.
    """
    source = read_graph(file.path)
    builder = BACKENDS.get(backend)
    if not isinstance(builder, OpensGraphs):
        raise BadInput(
            f"backend {backend!r}: expected one that INT8 files can be made for, such as {DEFAULT_BACKEND}",
            reason="int8-backend",
        )
    builder.open_graph(source, precision="fp32")  # an error before the work
    before = open_backend(file, backend="onnxruntime", device="cpu")
    reference = Reference.of(before, file, samples)
    if not reference.backend.is_not_finite() and all(x is None for x in reference.predictions):
        raise BadInput(
            f"{file.path}: INT8 needs images for the ranges of activations, and none of {len(samples)} can "
            "be read; give others with --data",
            reason="no-images",
        )
    chosen = calibration_samples(samples)
    int8 = Int8Graph(
        source,
        _feeds(Predictor(before, file), chosen),
        _counted(progress, "measuring activations", len(chosen)),
        rounds_outputs=not builder.joins_activations,
    )
    trial = _Trial(file, builder, reference, samples, max_drop, max_changed)
    quantized = control_accuracy(int8, trial, progress)
    int8.check_size(quantized.graph)
    compared = trial.compared(quantized.graph)
    if not compared.certificate.passed and not force:
        raise ExportRefused(
            refusal_message(target, compared.certificate, compared.changed), reason="not-certified"
        )
    if compared.changed:
        LOG.warning("INT8 changes decisions on %s", name_images(compared.changed))
    facts = {
        "calibration_images": len(chosen),
        "layers": len(int8.layers),
        "float_layers": len(quantized.float_layers),
        "weight_bits": 7,
    }
    contract = file.contract.model_copy(
        update={
            "training": {**file.contract.training, "quantization": facts},
            "familiarity": None,  # its distances are of float32 features
        }
    )
    if is_of_run:
        contract = with_new_scores(contract, compared.pairs)

    def judge(candidate: ModelFile) -> Contract:
        own = compared.certificate.model_copy(update={"graph_digest": candidate.graph_digest})
        return with_certificates(
            contract, own, reference, candidate, samples, max_drop=max_drop, max_changed=max_changed
        )

    return write_certified(target, quantized.graph, contract, file.fingerprints, judge, force=force)


class _Trial:
    """The comparison of INT8 graphs with the source; the last one is kept.

    Images that changed before are compared first, so that most failures take few images.
    """

    def __init__(
        self,
        file: ModelFile,
        builder: OpensGraphs,
        reference: Reference,
        samples: Sequence[Sample],
        max_drop: float,
        max_changed: float,
    ) -> None:
        self._file, self._builder, self._reference, self._samples = file, builder, reference, samples
        self._max_drop, self._max_changed = max_drop, max_changed
        self._hard: list[Sample] = []
        self._ranking: list[Sample] = []
        self._known = dict(zip(map(id, samples), reference.predictions, strict=True))
        self._prepared: dict[str, PreparedInput | None] = {}
        self._results: dict[int, Comparison] = {}

    def count_failures(self, graph: bytes) -> int:
        """Return 0 if the certificate of a graph passes, else the number of images that changed, at least."""
        if self._hard:
            quick = len(self._compare(graph, self._hard).changed)
            if quick > self._max_changed * len(self._samples):
                return quick
        compared = self.compared(graph)
        for sample in compared.changed:
            if sample not in self._hard:
                self._hard.append(sample)
        return 0 if compared.certificate.passed else max(1, len(compared.changed))

    def compared(self, graph: bytes) -> Comparison:
        """Return the comparison of a graph on all images."""
        key = hash(graph)
        if key not in self._results:
            self._results = {key: self._compare(graph, self._samples)}
        return self._results[key]

    def typical_error(self, graph: bytes) -> float:
        """Return the mean error of a graph's predictions of evenly spaced images."""
        return self._error(graph, calibration_samples(self._samples, TYPICAL_IMAGES))

    def hard_error(self, graph: bytes) -> float:
        """Return the same of images with changed decisions, filled up with others.

        They are chosen at the first call: errors of different images could not be compared.
        """
        if not self._ranking:
            others = [sample for sample in calibration_samples(self._samples) if sample not in self._hard]
            self._ranking = [*self._hard, *others][:HARD_IMAGES]
        return self._error(graph, self._ranking)

    def _error(self, graph: bytes, samples: Sequence[Sample]) -> float:
        """Return the mean of `decision_error` over samples; each image is read once."""
        predictor = Predictor(self._builder.open_graph(graph, precision="int8"), self._file)
        errors = []
        for sample in samples:
            if sample.id not in self._prepared:
                self._prepared[sample.id] = _prepared(predictor, sample)
            prepared = self._prepared[sample.id]
            before = self._known[id(sample)]
            if prepared is not None and before is not None:
                (after,) = predictor.predict_prepared([prepared])
                errors.append(decision_error(before, after))
        return float(np.mean(errors)) if errors else 0.0

    def _compare(self, graph: bytes, samples: Sequence[Sample]) -> Comparison:
        after = self._builder.open_graph(graph, precision="int8")
        reference = self._reference
        if len(samples) < len(self._samples):
            reference = Reference(tuple(self._known[id(sample)] for sample in samples), reference.backend)
        return compare(
            reference,
            after,
            self._file,
            samples,
            precision="int8",
            max_drop=self._max_drop,
            max_changed=self._max_changed,
        )


def calibration_samples(samples: Sequence[Sample], max_images: int = MAX_CALIBRATION_IMAGES) -> list[Sample]:
    """Return at most `max_images` samples, evenly spaced."""
    count = min(len(samples), max_images)
    return [samples[int(i)] for i in np.linspace(0, len(samples) - 1, count).round()]


def _prepared(predictor: Predictor, sample: Sample) -> PreparedInput | None:
    """Return a prepared image, or None if it cannot be read; the comparison counts it."""
    try:
        return predictor.prepare(open_image(sample.path, reduction=predictor.reduction))
    except BadImage:
        return None


def _feeds(predictor: Predictor, samples: Sequence[Sample]) -> Iterator[Feeds]:
    """Yield the inputs of samples, each as a batch of one, without images that cannot be read."""
    for sample in samples:
        prepared = _prepared(predictor, sample)
        if prepared is not None:
            yield {name: array[None] for name, array in prepared.feeds.items()}


def _counted(progress: Progress, stage: str, total: int) -> Callable[[], None]:
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        progress(stage, done, total)

    return count
