"""One model as it is served: loaded, warmed up, batched."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

from blemish import inference
from blemish.errors import BadImage
from blemish.imaging import Limits, LoadedImage, open_image
from blemish.inference import Predictor
from blemish.model_file import ModelFile
from blemish.service import serializers
from blemish.service.micro_batch import AdmissionQueue, MicroBatcher
from blemish.service.problem_details import of_bad_image
from blemish.service.service_metrics import SIZES, ServiceMetrics
from blemish.service.settings import Settings
from blemish.service.uploads import looks_like_image
from blemish.structures import Prediction


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image as the network takes it.

    Attributes:
        prepared: its inputs.
        sha256: hex, of the bytes that were sent.
        seconds: that opening and shrinking took.
    """

    prepared: inference.PreparedInput
    sha256: str
    seconds: float


@dataclass(frozen=True, eq=False)
class TimedPrediction:
    """A prediction and how long its batch was in the network."""

    prediction: Prediction
    seconds: float


def open_upload(data: bytes, settings: Settings) -> LoadedImage:
    """The upright image in an upload.

    Raises:
        Problem: it is none, damaged, cut short, or too large; known before decoding where the header tells.
    """
    limits = Limits(max_pixels=settings.max_pixels, max_bytes=settings.max_upload_bytes)
    try:
        return open_image(data, limits)
    except BadImage as error:
        raise of_bad_image(
            error,
            start=data[:16],
            looks_like_image=looks_like_image(data),
            max_pixels=settings.max_pixels,
        ) from error


class ServedModel:
    """A model file under a name.

    Attributes:
        name: that clients ask for.
        model_file: its contract and digest.
        predictor: that runs it; None until it is loaded.
        gate: its bounded queue.
        batcher: its thread; None until it is loaded.
        ready: whether it has answered the warm-up image.
        failure: why it never will, or "".
    """

    def __init__(
        self, name: str, model_file: ModelFile, settings: Settings, telemetry: ServiceMetrics
    ) -> None:
        self.name, self.model_file, self.settings, self.telemetry = name, model_file, settings, telemetry
        self.predictor: Predictor | None = None
        self.batcher: MicroBatcher[PreparedImage, TimedPrediction] | None = None
        self.gate = AdmissionQueue(settings.queue_size)
        self.ready = False
        self.failure = ""
        telemetry.gauge(
            "blemish_photographs_in_progress",
            "Photographs a model works or waits on.",
            lambda: self.gate.inside,
            model=name,
        )
        telemetry.gauge(
            "blemish_ready", "1 once the warm-up photograph is answered.", lambda: self.ready, model=name
        )

    def start(self, *, backend: str = "auto", threads: int | None = None) -> None:
        """Load the network and have it answer an image; takes a while, so call it in a thread."""
        predictor = inference.load(self.model_file, backend=backend, threads=threads)
        self.predictor = predictor
        contract = predictor.contract
        seen = self.look([self.prepare(_warm_up_image(contract.inputs[0].size_hw))])
        self.batcher = MicroBatcher(
            self.look,
            largest=self.settings.largest_batch if contract.dynamic_batch else 1,
            on_batch=self._note_batch,
            name=f"blemish-{self.name}",
        )
        # Saying it, too: what is imported for the first time takes a while.
        serializers.say(seen[0].prediction, min_score=0.0)
        self.gate.learn(seen[0].seconds)
        self.ready = True

    def close(self) -> None:
        """Stop answering, once what waits is answered."""
        self.ready = False
        if self.batcher is not None:
            self.batcher.close()

    def prepare(self, data: bytes) -> PreparedImage:
        """The image in an upload as the network takes it; safe to call from many threads."""
        began = time.perf_counter()
        prepared = self.loaded.prepare(open_upload(data, self.settings))
        digest = hashlib.sha256(data).hexdigest()
        return PreparedImage(prepared, digest, time.perf_counter() - began)

    def look(self, batch: Sequence[PreparedImage]) -> list[TimedPrediction]:
        """What the model says of each."""
        began = time.perf_counter()
        predictions = self.loaded.predict_prepared([one.prepared for one in batch])
        seconds = time.perf_counter() - began
        return [TimedPrediction(prediction, seconds) for prediction in predictions]

    @property
    def loaded(self) -> Predictor:
        """The predictor, once `start` has loaded it."""
        if self.predictor is None:
            raise RuntimeError(f"the model {self.name!r} is not loaded")
        return self.predictor

    def _note_batch(self, size: int, seconds: float) -> None:
        self.gate.learn(seconds / size)
        self.telemetry.observe(
            "blemish_batch_size",
            "Photographs that went through a network together.",
            size,
            SIZES,
            model=self.name,
        )


def _warm_up_image(size_hw: tuple[int, int]) -> bytes:
    """A grey JPEG somewhat larger than the network's input."""
    from PIL import Image

    height, width = (max(side, 64) for side in size_hw)
    with io.BytesIO() as buffer:
        Image.new("RGB", (width * 5 // 4, height * 5 // 4), (118, 118, 118)).save(buffer, "JPEG")
        return buffer.getvalue()
