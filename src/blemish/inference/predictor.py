"""`Predictor`: from images to predictions: read, prepare, infer, decode; one image, a list, or a stream."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from blemish.capture import NearDuplicates, judge_capture, measure
from blemish.decoding import NO_FILTER, DetectionFilter, decode
from blemish.errors import BadInput, BadModelFile, BlemishError, NetworkTooSlow, WrongTask
from blemish.familiarity import judge_outputs
from blemish.imaging import LIMITS, Limits, LoadedImage, Reduction
from blemish.inference.backend import Backend, DeviceKind, available_cores, certificate_warnings
from blemish.inference.inputs import ImageInput, ImageLike
from blemish.inference.prefetch import prefetched
from blemish.inference.results import (
    PredictionResult,
    PreparedInput,
    ReadInput,
    Timing,
    error_of_image,
    prediction_of,
    unexpected_error,
    with_duplicate,
)
from blemish.inference.tile_merge import TileDetections
from blemish.inference.tiles import Tiling
from blemish.model_file import Contract, ModelFile
from blemish.preprocessing import prepare, reduction_for
from blemish.structures import Labels, Prediction, Task

if TYPE_CHECKING:
    from pathlib import Path

    from blemish.explanation import Explainer, Heatmap

ACCELERATOR_BATCH_SIZE = 16  # on a CPU, one image at a time is as fast and needs less memory
Source = ImageLike | ImageInput
TileProgress = Callable[[int, int], None]


class Predictor:
    """Runs inference with one model; threads may share it.

    Attributes:
        backend: runs the network.
        contract: what the model file promises.
        model_file: the opened model file, or None while a network is still in training.
        digest: SHA-256 of the model file, or "".
        limits: largest size of an image.
        readers: threads that read and prepare images ahead of the network.
        compares_images: whether streams state which images are nearly identical to an earlier one.
    """

    def __init__(
        self,
        backend: Backend,
        model: ModelFile | Contract,
        *,
        limits: Limits = LIMITS,
        readers: int | None = None,
        check_capture: bool = False,
    ) -> None:
        """Combine a backend and a contract.

        Args:
            backend: runs the network that the contract describes.
            model: an opened model file, or only a contract while a network is still in training.
            limits: largest size of an image.
            readers: threads that read and prepare ahead of the network. Default: one per core, at most 8.
            check_capture: whether predictions state if an image should be taken again (0.3 ms).
        """
        self.backend = backend
        self.model_file = model if isinstance(model, ModelFile) else None
        self.contract = model if isinstance(model, Contract) else model.contract
        self.digest = self.model_file.digest if self.model_file is not None else ""
        self.limits = limits
        self.readers = readers or min(available_cores(), 8)
        self._capture = self.contract.capture if check_capture else None
        self.compares_images = True

    @property
    def task(self) -> Task:
        """The model's task."""
        return self.contract.task

    @property
    def labels(self) -> Labels:
        """The model's labels, in order."""
        return self.contract.to_labels()

    @property
    def reduction(self) -> Reduction | None:
        """The size at which `open_image` decodes a JPEG file for this model; None for the full size."""
        return reduction_for(self.contract.inputs)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons not to trust the model file, one sentence each; empty for most files."""
        return () if self.model_file is None else certificate_warnings(self.model_file, self.backend)

    @overload
    def predict(
        self, image: Source, *, min_score: float | None = None, max_detections: int | None = None
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        image: list[Any] | tuple[Any, ...],
        *,
        min_score: float | None = None,
        max_detections: int | None = None,
    ) -> list[Prediction]: ...

    def predict(
        self,
        image: Source | list[Any] | tuple[Any, ...],
        *,
        min_score: float | None = None,
        max_detections: int | None = None,
    ) -> Prediction | list[Prediction]:
        """Return the prediction of one image, or of each image of a list.

        For more images than fit into memory, or if one bad image must not stop the others, use `stream`.

        Args:
            image: a path, the bytes of a file, a PIL image or an array; see `ImageInput.read`. Or a list.
            min_score: lower-scoring detections are removed. Default: the model's own limit.
            max_detections: only the highest-scoring ones are kept. Default: the model's own limit.

        Raises:
            BadImage: the image cannot be used.
            BadInput: the object is not an image, or it is a URL.
            BadModelFile: the network's outputs contradict its contract.
            WrongTask: a limit on detections for a model without detections.
        """
        detection_filter = self._detection_filter(min_score, max_detections)
        if isinstance(image, list | tuple):
            results = self.stream(image, min_score=min_score, max_detections=max_detections)
            return [prediction_of(result) for result in results]
        loaded = ImageInput.of(image).read(self.limits, self.reduction)
        return self.predict_prepared([self.prepare(loaded)], detection_filter)[0]

    def stream(
        self,
        images: Iterable[Source],
        batch_size: int | None = None,
        *,
        tiling: Tiling | None = None,
        min_score: float | None = None,
        max_detections: int | None = None,
        keep_images: bool = False,
        on_tiles: TileProgress | None = None,
        lazy_masks: bool = False,
    ) -> Generator[PredictionResult]:
        """Yield the result of each image of a stream of any length, in order.

        Threads read and prepare a few images ahead of the network. An image that cannot be used, or that the
        network fails on, gives a result with an error, and the stream continues.

        Args:
            images: what `predict` accepts, or inputs of `blemish.inference.sources`; consumed lazily.
            batch_size: images, or tiles, per forward pass. Default: 1 on a CPU and for tiles, else 16.
                Always 1 if the network accepts only one image.
            tiling: run inference on tiles of each image, for images much larger than the network's input.
                The time of the tiles counts as the network's.
            min_score: see `predict`.
            max_detections: see `predict`; per image, not per tile.
            keep_images: whether results contain the pixels, for drawing.
            on_tiles: called with the tiles done and the tiles of the image after each batch of tiles.
            lazy_masks: whether masks are computed when they are read, which saves those that are not read;
                until it is deleted, a prediction then keeps the network's outputs of its batch. Masks of
                tiles are always computed.

        Raises:
            BadInput: the batch size is below 1. Raised by the call itself, like `WrongTask`.
            NetworkTooSlow: a forward pass passed the backend's time limit; this ends the stream.
            WrongTask: see `predict`; or tiling for a model without detections.
        """
        detection_filter = replace(self._detection_filter(min_score, max_detections), lazy_masks=lazy_masks)
        size = self.batch_size(batch_size)
        inputs = (ImageInput.of(image, index) for index, image in enumerate(images))
        if tiling is not None:
            self._check_tiling()
            return self._stream_tiled(
                inputs, batch_size or 1, tiling, detection_filter, keep_images, on_tiles
            )
        return self._stream(inputs, size, detection_filter, keep_images)

    def batch_size(self, requested: int | None = None) -> int:
        """Return the number of images per forward pass of `stream` without tiles.

        Args:
            requested: see `stream`.

        Raises:
            BadInput: it is below 1.
        """
        if requested is not None and requested < 1:
            raise BadInput(f"batch_size: expected 1 or more, got {requested}", reason="batch-size")
        if not self.contract.dynamic_batch:
            return 1
        is_accelerator = self.backend.device_kind is DeviceKind.ACCELERATOR
        return requested or (ACCELERATOR_BATCH_SIZE if is_accelerator else 1)

    def predict_tiled(
        self,
        image: Source,
        tiling: Tiling,
        *,
        min_score: float | None = None,
        max_detections: int | None = None,
        batch_size: int = 1,
        on_tiles: TileProgress | None = None,
    ) -> Prediction:
        """Return the prediction of one large image from its tiles.

        Tiles overlap. Detections of one label in two tiles that agree in the part of the image that both show
        are merged: the union of boxes and masks, with the higher score.

        Args:
            image: see `predict`.
            tiling: how to cut the image.
            min_score: see `predict`.
            max_detections: per image, not per tile.
            batch_size: tiles per forward pass.
            on_tiles: see `stream`.

        Raises:
            WrongTask: the model has no detections to merge.
        """
        detection_filter = self._detection_filter(min_score, max_detections)
        self._check_tiling()
        source = ImageInput.of(image)
        return self._predict_tiled(
            source, source.read(self.limits), tiling, detection_filter, batch_size, on_tiles
        )

    @cached_property
    def explainer(self) -> Explainer:
        """The explainer of this model file.

        Raises:
            BadInput: the predictor was not loaded from a model file.
        """
        from blemish.explanation import Explainer

        if self.model_file is None:
            raise BadInput("explain: this predictor has no model file", reason="no-model-file")
        return Explainer(self.backend, self.model_file)

    def explain(self, image: Source, **options: Any) -> list[Heatmap]:
        """Return heatmaps of one image: of one label, or of every positive label or detection.

        Args:
            image: see `predict`.
            options: `method`, `label`, `max_targets`, `max_evals` and others of `Explainer.explain`.

        Raises:
            BadInput: see `explainer`; and what `Explainer.explain` raises.
        """
        loaded = ImageInput.of(image).read(self.limits, self.reduction)
        return self.explainer.explain(loaded, **options)

    def prepare(self, image: LoadedImage) -> PreparedInput:
        """Return an image as the network takes it, for each of its inputs."""
        feeds, placements = {}, []
        for spec in self.contract.inputs:
            feeds[spec.name], placement = prepare(image, spec)
            placements.append(placement)
        first = self.contract.inputs[0]
        warning = image.unused_bits(first.white_level)
        measures = measure(feeds[first.name], first, placements[0]) if self._capture else None
        return PreparedInput(feeds, placements[0], image.path, warning, measures)

    def predict_prepared(
        self, batch: Sequence[PreparedInput], detection_filter: DetectionFilter = NO_FILTER
    ) -> list[Prediction]:
        """Return the predictions of prepared images, in one forward pass if the network accepts a batch."""
        return self._decode(batch, self.run(batch), detection_filter)

    def run(self, batch: Sequence[PreparedInput]) -> dict[str, NDArray[Any]]:
        """Return the network's raw outputs for prepared images: arrays by name, the first axis the batch."""
        if len(batch) > 1 and not self.contract.dynamic_batch:
            single = [self.run([one]) for one in batch]
            return {name: np.concatenate([outputs[name] for outputs in single]) for name in single[0]}
        return self.backend.run(
            {spec.name: np.stack([one.feeds[spec.name] for one in batch]) for spec in self.contract.inputs}
        )

    def _detection_filter(self, min_score: float | None, max_detections: int | None) -> DetectionFilter:
        """Return the caller's limits; raise `WrongTask` if the model has no detections to limit."""
        if (min_score is not None or max_detections is not None) and not self.task.has_objects:
            raise WrongTask(
                f"min_score and max_detections: expected a model with detections, got task {self.task}",
                reason="needs-detections",
            )
        return DetectionFilter(min_score, max_detections)

    def _check_tiling(self) -> None:
        if not self.task.has_objects:
            raise WrongTask(
                f"tiling: expected a model with detections, got task {self.task}", reason="needs-detections"
            )

    def _decode(
        self,
        batch: Sequence[PreparedInput],
        outputs: dict[str, NDArray[Any]],
        detection_filter: DetectionFilter,
    ) -> list[Prediction]:
        predictions = decode(self.contract, outputs, [one.placement for one in batch], detection_filter)
        familiar = judge_outputs(self.contract.familiarity, outputs, len(batch))
        return [
            self._with_origin(
                prediction,
                one.path,
                familiarity=familiarity,
                capture=judge_capture(self._capture, one.measures),
            )
            for prediction, one, familiarity in zip(predictions, batch, familiar, strict=True)
        ]

    def _stream(
        self, inputs: Iterator[ImageInput], size: int, detection_filter: DetectionFilter, keep_images: bool
    ) -> Generator[PredictionResult]:
        def read(source: ImageInput) -> ReadInput:
            return self._read(source, keep_images)

        ahead = size + self.readers - 1  # the next batch, and one image for each reader
        ready = prefetched(read, inputs, threads=self.readers, ahead=ahead)
        seen = NearDuplicates() if self.compares_images else None
        try:
            while batch := list(itertools.islice(ready, size)):
                yield from self._batch_results(batch, detection_filter, seen)
        finally:
            ready.close()

    def _read(self, source: ImageInput, keep_images: bool) -> ReadInput:
        """Return an input read and prepared; its error if it cannot be."""
        started = read = time.perf_counter()
        try:
            image = source.read(self.limits, self.reduction)
            read = time.perf_counter()
            prepared = self.prepare(image)
            if keep_images:
                image.load()
        except BlemishError as error:
            return ReadInput(source, None, error, Timing(read=time.perf_counter() - started))
        except Exception as error:  # no image may end the stream
            unexpected = unexpected_error(source, error)
            return ReadInput(source, None, unexpected, Timing(read=time.perf_counter() - started))
        timing = Timing(read=read - started, prepare=time.perf_counter() - read)
        return ReadInput(source, prepared, None, timing, image if keep_images else None)

    def _batch_results(
        self, batch: Sequence[ReadInput], detection_filter: DetectionFilter, seen: NearDuplicates | None
    ) -> Iterator[PredictionResult]:
        """Yield a result per input, in order; inputs with an error do not go through the network."""
        prepared = [one.prepared for one in batch if one.prepared is not None]
        outcomes = iter(self._infer_and_decode(prepared, detection_filter))
        for one in batch:
            if one.prepared is None:
                yield self._result(one.input, one.error, one.timing)
                continue
            outcome, infer_seconds, decode_seconds = next(outcomes)
            timing = replace(one.timing, infer=infer_seconds, decode=decode_seconds)
            outcome = with_duplicate(outcome, one.input, one.prepared, seen)
            yield self._result(one.input, outcome, timing, one.image, one.prepared.warning)

    def _result(
        self,
        source: ImageInput,
        outcome: Prediction | BlemishError | None,
        timing: Timing,
        image: LoadedImage | None = None,
        warning: str = "",
    ) -> PredictionResult:
        white_level = self.contract.inputs[0].white_level
        if isinstance(outcome, Prediction):
            return PredictionResult(source, outcome, None, timing, image, white_level, warning)
        return PredictionResult(source, None, outcome, timing, None, white_level)

    def _infer_and_decode(
        self, batch: Sequence[PreparedInput], detection_filter: DetectionFilter
    ) -> list[tuple[Prediction | BlemishError, float, float]]:
        """Return a prediction or an error per image, and its share of the seconds in network and decoder."""
        if not batch:
            return []
        started = time.perf_counter()
        try:
            outputs = self.run(batch)
        except NetworkTooSlow:  # the other images would wait as long
            raise
        except BadModelFile as error:
            if len(batch) == 1:
                return [(error_of_image(batch[0], error), time.perf_counter() - started, 0.0)]
            # Caused by one image, or by the memory that a whole batch needs: each image is tried alone.
            return [outcome for one in batch for outcome in self._infer_and_decode([one], detection_filter)]
        inferred = time.perf_counter()
        infer_seconds = (inferred - started) / len(batch)
        try:
            outcomes: Sequence[Prediction | BlemishError] = self._decode(batch, outputs, detection_filter)
        except BadModelFile:
            # Caused by one image, such as NaN in its outputs: the other images keep their predictions.
            outcomes = [
                self._decode_one(
                    one, {name: rows[i : i + 1] for name, rows in outputs.items()}, detection_filter
                )
                for i, one in enumerate(batch)
            ]
        decode_seconds = (time.perf_counter() - inferred) / len(batch)
        return [(outcome, infer_seconds, decode_seconds) for outcome in outcomes]

    def _decode_one(
        self, one: PreparedInput, outputs: dict[str, NDArray[Any]], detection_filter: DetectionFilter
    ) -> Prediction | BlemishError:
        try:
            return self._decode([one], outputs, detection_filter)[0]
        except BadModelFile as error:
            return error_of_image(one, error)

    def _stream_tiled(
        self,
        inputs: Iterator[ImageInput],
        batch_size: int,
        tiling: Tiling,
        detection_filter: DetectionFilter,
        keep_images: bool,
        on_tiles: TileProgress | None,
    ) -> Generator[PredictionResult]:
        for source in inputs:
            started = time.perf_counter()
            try:
                image = source.read(self.limits)
                read = time.perf_counter()
                prediction = self._predict_tiled(
                    source, image, tiling, detection_filter, batch_size, on_tiles
                )
            except NetworkTooSlow:  # the other images would wait as long
                raise
            except Exception as error:  # no image may end the stream
                reported = error if isinstance(error, BlemishError) else unexpected_error(source, error)
                yield self._result(source, reported, Timing(read=time.perf_counter() - started))
                continue
            timing = Timing(read=read - started, infer=time.perf_counter() - read)
            warning = image.unused_bits(self.contract.inputs[0].white_level)
            yield self._result(source, prediction, timing, image if keep_images else None, warning)

    def _predict_tiled(
        self,
        source: ImageInput,
        image: LoadedImage,
        tiling: Tiling,
        detection_filter: DetectionFilter,
        batch_size: int,
        on_tiles: TileProgress | None,
    ) -> Prediction:
        regions = tiling.regions_with_whole(image.size_hw)
        tiles = (source.tile(image, (int(x1), int(y1), int(x2), int(y2))) for x1, y1, x2, y2 in regions)
        ready = prefetched(
            lambda tile: self.prepare(tile.read(self.limits)),
            tiles,
            threads=self.readers,
            ahead=batch_size + self.readers - 1,
        )
        per_tile = replace(detection_filter, max_detections=None)
        detections = TileDetections(regions, image.size_hw)
        done = 0
        try:
            while batch := list(itertools.islice(ready, batch_size)):
                last = batch[-1]  # the whole image, if the tiling contains it
                for prediction in self.predict_prepared(batch, per_tile):
                    detections.add(prediction, done)
                    done += 1
                if on_tiles is not None:
                    on_tiles(done, len(regions))
        finally:
            ready.close()
        merged = detections.merged(self.contract, detection_filter.max_detections)
        measures = last.measures if last.placement.size_hw == image.size_hw else None
        return self._with_origin(merged, image.path, capture=judge_capture(self._capture, measures))

    def _with_origin(self, prediction: Prediction, path: Path | None, **more: Any) -> Prediction:
        """Return a prediction with its image, and with what this model file states about itself."""
        return replace(
            prediction,
            path=path,
            model_digest=self.digest,
            unreliable=self.contract.unreliable_labels,
            **more,
        )
