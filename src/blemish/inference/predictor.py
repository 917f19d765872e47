"""From images to predictions: read, prepare, run, decode; one at a time or as a stream."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.decoding import NO_FILTER, DetectionFilter, decode
from blemish.errors import BadImage, BadInput, BadModelFile, BlemishError, WrongTask
from blemish.imaging import LIMITS, Limits, LoadedImage
from blemish.inference.backend import Backend, available_cores
from blemish.inference.inputs import Source, as_image
from blemish.inference.prefetch import prefetched
from blemish.model_file import Contract, ModelFile
from blemish.preprocessing import Placement, prepare
from blemish.structures import Labels, Prediction, Task

DEVICE_BATCH = 16  # on a processor one image at a time is as fast and needs less memory


@dataclass(frozen=True)
class Timing:
    """Seconds an image took, stage by stage; its share, where it went through in a batch.

    Attributes:
        read: from file to pixels.
        prepare: from pixels to the network's inputs.
        infer: in the network.
        decode: from raw outputs to the prediction.
    """

    read: float = 0.0
    prepare: float = 0.0
    infer: float = 0.0
    decode: float = 0.0

    @property
    def total(self) -> float:
        """All stages together."""
        return self.read + self.prepare + self.infer + self.decode


@dataclass(frozen=True, eq=False)
class PreparedInput:
    """An image as the network takes it.

    Attributes:
        feeds: by input name, (c, h, w) float32.
        placement: where the image lies in the first input.
        path: the file, or None.
    """

    feeds: dict[str, NDArray[np.float32]]
    placement: Placement
    path: Path | None = None


@dataclass(frozen=True, eq=False)
class PredictionResult:
    """What became of one image of a stream: a prediction or an error, never both.

    Attributes:
        source: as it was given.
        prediction: None where it failed.
        error: why, in one sentence with the path; None where it went well.
        timing: of each stage that was reached.
        image: its pixels, where they were asked for.
    """

    source: Any
    prediction: Prediction | None
    error: BlemishError | None
    timing: Timing
    image: LoadedImage | None = None


@dataclass(frozen=True, eq=False)
class _Read:
    """An image that was read and prepared, or the error."""

    source: Any
    prepared: PreparedInput | None
    error: BlemishError | None
    timing: Timing
    image: LoadedImage | None


class Predictor:
    """Looks at images with one model; may be shared by threads.

    Attributes:
        backend: what runs the network.
        contract: what the model file promises.
        digest: of the model file, or "".
        limits: what images are refused.
    """

    def __init__(
        self,
        backend: Backend,
        model: ModelFile | Contract,
        *,
        limits: Limits = LIMITS,
        readers: int | None = None,
    ) -> None:
        """Bring a backend and a contract together.

        Args:
            backend: runs the network that the contract speaks of.
            model: an opened model file, or only a contract, while a network is still being trained.
            limits: what images are refused.
            readers: threads that read and prepare ahead of the network; one a core, at most 8, where not
                given.
        """
        self.backend = backend
        self.model_file = model if isinstance(model, ModelFile) else None
        self.contract = model if isinstance(model, Contract) else model.contract
        self.digest = self.model_file.digest if self.model_file is not None else ""
        self.limits = limits
        self.readers = readers or min(available_cores(), 8)

    @property
    def task(self) -> Task:
        """What the model answers."""
        return self.contract.task

    @property
    def labels(self) -> Labels:
        """What it can say, in order."""
        return self.contract.label_vocabulary()

    @property
    def cautions(self) -> tuple[str, ...]:
        """What speaks against trusting the file, one sentence each; nothing for most files."""
        certificate = self.contract.certificate
        if self.model_file is None or certificate is None:
            return ()
        said = []
        if not certificate.passed:
            reasons = "; ".join(certificate.reasons) or "no reason was given"
            said.append(f"{self.model_file.path}: its parity certificate did not pass ({reasons})")
        if certificate.graph_digest and certificate.graph_digest != self.model_file.graph_digest:
            said.append(f"{self.model_file.path}: its graph was changed after it was certified")
        return tuple(said)

    def predict(
        self, source: Source, *, min_score: float | None = None, max_detections: int | None = None
    ) -> Prediction:
        """What the model says of one image.

        Args:
            source: a path, the bytes of a file, a PIL image, an array, or an image; see
                `as_image`.
            min_score: boxes below it are left out; the model's own floor where not given.
            max_detections: the best boxes; the model's own number where not given.

        Raises:
            BadImage: the image cannot be used.
            BadModelFile: the network's outputs are not what its contract says.
            WrongTask: a choice among boxes of a model that gives none.
        """
        selection = self.selection(min_score, max_detections)
        photo = as_image(source, self.limits)
        return self.predict_prepared([self.prepare(photo)], selection)[0]

    def predict_many(
        self,
        sources: Iterable[Source],
        batch_size: int | None = None,
        *,
        min_score: float | None = None,
        max_detections: int | None = None,
        keep_images: bool = False,
    ) -> Iterator[PredictionResult]:
        """What the model says of each image of a stream, in order, however long.

        Images are read and prepared in threads, a few ahead of the network. One that cannot be used
        becomes an outcome with an error, and the rest goes on.

        Args:
            sources: as `predict` takes them; taken from as the stream goes.
            batch_size: images that go through the network together, where it can; 1 on processors
                and 16 on devices where not given.
            min_score: see `predict`.
            max_detections: likewise.
            keep_images: whether outcomes hold the pixels, for drawing.

        Raises:
            BadInput: a batch size below 1. Raised by the call itself, as WrongTask.
            BadModelFile: the network cannot be run at all.
            WrongTask: see `predict`.
        """
        selection = self.selection(min_score, max_detections)
        if batch_size is not None and batch_size < 1:
            raise BadInput(f"the batch size is {batch_size}; give 1 or more")
        size = batch_size or (1 if "CPU" in self.backend.name.upper() else DEVICE_BATCH)
        return self._stream(iter(sources), size if self.contract.dynamic_batch else 1, selection, keep_images)

    def selection(self, min_score: float | None = None, max_detections: int | None = None) -> DetectionFilter:
        """Which boxes are wanted; WrongTask for a choice among boxes of a model that gives none."""
        chosen = min_score is not None or max_detections is not None
        if chosen and not self.task.has_objects:
            raise WrongTask(
                "a least score and a number of detections choose among boxes; "
                f"this model's task is {self.task}"
            )
        return DetectionFilter(min_score, max_detections)

    def prepare(self, photo: LoadedImage) -> PreparedInput:
        """An image as the network takes it, for each of its inputs."""
        feeds, placements = {}, []
        for spec in self.contract.inputs:
            feeds[spec.name], placement = prepare(photo, spec)
            placements.append(placement)
        return PreparedInput(feeds, placements[0], photo.path)

    def predict_prepared(
        self, batch: Sequence[PreparedInput], selection: DetectionFilter = NO_FILTER
    ) -> list[Prediction]:
        """What the model says of images that were prepared, in one run where it can take them so."""
        outputs = self.run(batch)
        return self._decoded(batch, outputs, selection)

    def run(self, batch: Sequence[PreparedInput]) -> dict[str, NDArray[Any]]:
        """The network's raw outputs for images that were prepared, by name, the first axis the batch."""
        if len(batch) > 1 and not self.contract.dynamic_batch:
            single = [self.run([one]) for one in batch]
            return {name: np.concatenate([outputs[name] for outputs in single]) for name in single[0]}
        return self.backend.run(
            {spec.name: np.stack([one.feeds[spec.name] for one in batch]) for spec in self.contract.inputs}
        )

    def _decoded(
        self, batch: Sequence[PreparedInput], outputs: dict[str, NDArray[Any]], selection: DetectionFilter
    ) -> list[Prediction]:
        predictions = decode(self.contract, outputs, [one.placement for one in batch], selection)
        return [
            replace(prediction, path=one.path, model_digest=self.digest)
            for prediction, one in zip(predictions, batch, strict=True)
        ]

    def _stream(
        self, sources: Iterator[Source], size: int, selection: DetectionFilter, keep: bool
    ) -> Iterator[PredictionResult]:
        def read(source: Source) -> _Read:
            return self._read(source, keep)

        ahead = size + self.readers - 1  # the next batch, and an image for each reader
        ready = prefetched(read, sources, threads=self.readers, ahead=ahead)
        try:
            while batch := list(itertools.islice(ready, size)):
                yield from self._answered(batch, selection)
        finally:
            ready.close()

    def _read(self, source: Source, keep: bool) -> _Read:
        started = read = time.perf_counter()
        try:
            photo = as_image(source, self.limits)
            read = time.perf_counter()
            prepared = self.prepare(photo)
        except BlemishError as error:
            return _Read(source, None, error, Timing(read=time.perf_counter() - started), None)
        except MemoryError:
            named = source if isinstance(source, Path | str) else None
            short = BadImage(named, "there is not enough memory for it; lower --limit-megapixels")
            return _Read(source, None, short, Timing(read=time.perf_counter() - started), None)
        timing = Timing(read=read - started, prepare=time.perf_counter() - read)
        return _Read(source, prepared, None, timing, photo if keep else None)

    def _answered(self, batch: Sequence[_Read], selection: DetectionFilter) -> Iterator[PredictionResult]:
        """An outcome an image, in order; the broken ones do not go through the network."""
        answers = iter(self._answers([one.prepared for one in batch if one.prepared is not None], selection))
        for one in batch:
            if one.prepared is None:
                yield PredictionResult(one.source, None, one.error, one.timing)
                continue
            answer, infer, decoded = next(answers)
            timing = replace(one.timing, infer=infer, decode=decoded)
            if isinstance(answer, Prediction):
                yield PredictionResult(one.source, answer, None, timing, one.image)
            else:
                yield PredictionResult(one.source, None, answer, timing)

    def _answers(
        self, batch: Sequence[PreparedInput], selection: DetectionFilter
    ) -> list[tuple[Prediction | BlemishError, float, float]]:
        """A prediction or an error for each image, and the seconds in network and decoder."""
        if not batch:
            return []
        started = time.perf_counter()
        outputs = self.run(batch)
        inferred = time.perf_counter()
        infer = (inferred - started) / len(batch)
        try:
            predictions: Sequence[Prediction | BlemishError] = self._decoded(batch, outputs, selection)
        except BadModelFile:
            # Something about one image; the others of the batch keep their answers.
            predictions = [
                self._alone(one, {name: rows[i : i + 1] for name, rows in outputs.items()}, selection)
                for i, one in enumerate(batch)
            ]
        decoded = (time.perf_counter() - inferred) / len(batch)
        return [(prediction, infer, decoded) for prediction in predictions]

    def _alone(
        self, one: PreparedInput, outputs: dict[str, NDArray[Any]], selection: DetectionFilter
    ) -> Prediction | BlemishError:
        try:
            return self._decoded([one], outputs, selection)[0]
        except BadModelFile as error:
            return BadModelFile(f"{one.path or 'image'}: {error}")
