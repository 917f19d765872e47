"""One model of the service: loaded, warmed up and batched."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from blemish import inference
from blemish.errors import BadImage
from blemish.imaging import Limits, LoadedImage, Reduction, open_image
from blemish.inference import Predictor
from blemish.model_file import ModelFile
from blemish.service import serializers
from blemish.service.micro_batch import AdmissionQueue, MicroBatcher
from blemish.service.problem_details import image_problem
from blemish.service.service_metrics import ServiceMetrics
from blemish.service.settings import Settings
from blemish.structures import Prediction

_WITH_VIEWS = ("JPEG", "MPO")


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An uploaded image as the network's input.

    Attributes:
        inputs: the preprocessed image.
        sha256: digest of the uploaded bytes, 64 hex digits.
        seconds: duration of decoding and preprocessing.
        warnings: what the answer may not cover, as sentences for clients.
    """

    inputs: inference.PreparedInput
    sha256: str
    seconds: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TimedPrediction:
    """A prediction, and the duration of its batch in seconds."""

    prediction: Prediction
    seconds: float


def open_upload(data: bytes, settings: Settings, reduction: Reduction | None = None) -> LoadedImage:
    """Return the upright image of an upload.

    Args:
        data: the file.
        settings: its limits are used.
        reduction: see `open_image`.

    Raises:
        Problem: it is not an image, or it is damaged, incomplete or too large. Size limits are checked in the
            header, before decoding.
    """
    limits = Limits(max_pixels=settings.max_pixels, max_bytes=settings.max_upload_bytes)
    try:
        return open_image(data, limits, reduction)
    except BadImage as error:
        raise image_problem(error, max_pixels=settings.max_pixels) from error


class ServedModel:
    """A model file under a name.

    Attributes:
        name: the name that clients use.
        model_file: its contract and digests.
        predictor: runs the model; None until it is loaded.
        queue: limits the images that are processed or queued.
        batcher: its thread; None until it is loaded.
        warm_pass_seconds: duration of one forward pass without load, after the network was loaded.
        ready: whether it has answered the warm-up image.
        failure: why it will never be ready, as a sentence for clients; "" if it may be.
    """

    def __init__(self, name: str, model_file: ModelFile, settings: Settings, metrics: ServiceMetrics) -> None:
        self.name, self.model_file, self.settings, self.metrics = name, model_file, settings, metrics
        self.predictor: Predictor | None = None
        self.batcher: MicroBatcher[PreparedImage, TimedPrediction] | None = None
        self.queue = AdmissionQueue(settings.queue_size)
        self.warm_pass_seconds = 0.0
        self.ready = False
        self.failure = ""

    def count_in_metrics(self) -> None:
        """Show this model under its name in the metrics, in place of a model before it."""
        self.metrics.images_in_progress.labels(model=self.name).set_function(lambda: self.queue.size)
        self.metrics.ready.labels(model=self.name).set_function(lambda: self.ready)

    def start(self, *, backend: str = "auto", threads: int | None = None) -> None:
        """Load the network and run a warm-up image; this takes a while, so call it in a thread."""
        predictor = inference.load(
            self.model_file,
            backend=backend,
            threads=threads,
            white_level=self.settings.white_level,
            check_capture=self.settings.check_capture,
        )
        self.predictor = predictor
        contract = predictor.contract
        prepared = [self.prepare(_warm_up_image(contract.inputs[0].size_hw))]
        warm_up = self.predict_batch(prepared)
        self.batcher = MicroBatcher(
            self.predict_batch,
            max_batch_size=self.settings.max_batch_size if contract.dynamic_batch else 1,
            on_batch=self._record_batch,
            name=f"blemish-{self.name}",
        )
        # Serialize the answer too: modules that are imported for the first time take a while.
        serializers.serialize_prediction(warm_up[0].prediction, min_score=0.0)
        self.warm_pass_seconds = self.predict_batch(prepared)[0].seconds
        self.queue.record_seconds(self.warm_pass_seconds)
        self.ready = True

    def close(self) -> None:
        """Answer the queued images, then stop."""
        self.ready = False
        if self.batcher is not None:
            self.batcher.close()

    def prepare(self, data: bytes) -> PreparedImage:
        """Return an uploaded image as the network's input; safe to call from several threads.

        Raises:
            Problem: the upload is not a usable image.
        """
        began = time.perf_counter()
        image = open_upload(data, self.settings, self.loaded.reduction)
        inputs = self.loaded.prepare(image)
        warnings = [inputs.warning] if inputs.warning else []
        # The further images of a JPEG file are views and gain maps of the first.
        if image.header is not None and image.header.frames > 1 and image.header.format not in _WITH_VIEWS:
            warnings.append(
                f"The file has {image.header.frames} pages or frames, and only the first was read. "
                "Send each as a file of its own."
            )
        digest = hashlib.sha256(data).hexdigest()
        return PreparedImage(inputs, digest, time.perf_counter() - began, tuple(warnings))

    def predict_batch(self, batch: Sequence[PreparedImage]) -> list[TimedPrediction]:
        """Return the prediction for each image, from one forward pass."""
        began = time.perf_counter()
        predictions = self.loaded.predict_prepared([image.inputs for image in batch])
        seconds = time.perf_counter() - began
        return [TimedPrediction(prediction, seconds) for prediction in predictions]

    @property
    def loaded(self) -> Predictor:
        """The predictor, after `start` has loaded it."""
        if self.predictor is None:
            raise RuntimeError(f"the model {self.name!r} is not loaded")
        return self.predictor

    def _record_batch(self, size: int, seconds: float) -> None:
        self.queue.record_seconds(seconds / size)
        self.metrics.batch_size.labels(model=self.name).observe(size)


def _warm_up_image(size_hw: tuple[int, int]) -> bytes:
    """Return a gray JPEG that is slightly larger than the network's input."""
    height, width = (max(side, 64) for side in size_hw)
    with io.BytesIO() as buffer:
        Image.new("RGB", (width * 5 // 4, height * 5 // 4), (118, 118, 118)).save(buffer, "JPEG")
        return buffer.getvalue()
