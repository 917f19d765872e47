"""`Job` and `Worker`: what to predict and how, and the object that does it; each process has one worker."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from blemish._version import __version__
from blemish.abstention import Decider, Policy
from blemish.archives.remote import read_remote
from blemish.archives.source_list import Unit, UnitKind
from blemish.archives.tar_stream import read_tar
from blemish.errors import BadModelFile, ImageTooLarge, NoNetwork
from blemish.imaging import LIMITS, Limits
from blemish.inference import ImageInput, Predictor, Tiling, load
from blemish.inference.inputs import is_url
from blemish.inference.result_json import json_line


class Row(NamedTuple):
    """The result of one image.

    Attributes:
        document: one line of JSON, as `predict --json` prints it, without line feed.
        error_code: of the image, or "" if it has a prediction.
        warning: why the network may not see what the image shows, or "".
    """

    document: str
    error_code: str = ""
    warning: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model file and the options of a run; other processes receive it.

    Attributes:
        model: the model file, or its address on a hub.
        digest: SHA-256 of the model file; "" does not check it.
        backend: see `blemish.load`.
        device: see `blemish.load`.
        threads: see `blemish.load`.
        white_level: see `blemish.load`.
        max_pixels: largest width x height of an image, in pixels.
        batch_size: images, or tiles, per forward pass; see `Predictor.stream`.
        tiling: see `Predictor.stream`.
        min_score: see `Predictor.stream`.
        max_detections: see `Predictor.stream`.
        policy: the rule by which images are decided or left for review; None decides nothing.
        mask_format: how masks are written: `rle`, `polygons` or `both`.
        all_masks: whether detections below the threshold of their label have their masks too.
        check_capture: see `blemish.load`.
    """

    model: str
    digest: str = ""
    backend: str = "auto"
    device: str = "auto"
    threads: int | None = None
    white_level: int | None = None
    max_pixels: int = LIMITS.max_pixels
    batch_size: int | None = None
    tiling: Tiling | None = None
    min_score: float | None = None
    max_detections: int | None = None
    policy: Policy | None = None
    mask_format: str = "rle"
    all_masks: bool = False
    check_capture: bool = True

    def load(self) -> Worker:
        """Return a worker.

        Raises:
            BadModelFile: see `blemish.load`; or it is not the file of `digest`.
            BadInput: see `blemish.load`.
        """
        predictor = load(
            self.model,
            backend=self.backend,
            device=self.device,
            threads=self.threads,
            limits=replace(LIMITS, max_pixels=self.max_pixels),
            white_level=self.white_level,
            check_capture=self.check_capture,
        )
        predictor.compares_images = False  # a row depends on no image outside its shard
        if self.digest and predictor.digest != self.digest:
            raise BadModelFile(
                f"{self.model}: expected the model file {self.digest[:12]}, got {predictor.digest[:12]} on "
                "this machine. Put the same file on every machine.",
                reason="other-model",
            )
        return Worker(predictor, self)


class Worker:
    """Predicts units.

    Attributes:
        predictor: runs the model.
        job: what to predict and how.
    """

    def __init__(self, predictor: Predictor, job: Job) -> None:
        """Combine a predictor and a job.

        Raises:
            BadModelFile: the model file cannot decide by the policy of the job; or see `Decider`.
        """
        self.predictor, self.job = predictor, job
        self._decide = None if job.policy is None else Decider(predictor.contract, job.policy, job.model)

    def options(self) -> dict[str, Any]:
        """Return the model and everything else that the rows depend on, as plain values."""
        job = self.job
        costs_label = getattr(job.policy, "good_label", None)
        return {
            "blemish": __version__,
            "model_digest": self.predictor.digest,
            "backend": self.predictor.backend.name,
            "min_score": job.min_score,
            "max_detections": job.max_detections,
            "batch_size": self.predictor.batch_size(job.batch_size),
            "tile_size": None if job.tiling is None else job.tiling.size,
            "tile_overlap": None if job.tiling is None else job.tiling.overlap,
            "max_megapixels": job.max_pixels / 1e6,
            "white_level": job.white_level,
            "decision": None if job.policy is None else {**job.policy.to_dict(), "good_label": costs_label},
            "mask_format": job.mask_format,
            "all_masks": job.all_masks,
            "capture_check": job.check_capture,
        }

    def predict(self, units: Iterable[Unit]) -> Generator[Row]:
        """Yield a row for each image of the units, in order; forward passes contain images of these alone.

        Raises:
            NoNetwork: a store cannot be reached; no row is made of that.
            NetworkTooSlow: a forward pass passed the backend's time limit.
        """
        inputs = itertools.chain.from_iterable(self._open(unit) for unit in units)
        return self.predict_inputs(inputs)

    def predict_inputs(self, inputs: Iterable[ImageInput]) -> Generator[Row]:
        """Yield a row for each input, in order; see `predict`."""
        job = self.job
        results = self.predictor.stream(
            inputs,
            job.batch_size,
            tiling=job.tiling,
            min_score=job.min_score,
            max_detections=job.max_detections,
            lazy_masks=True,
        )
        try:
            for result in results:
                if isinstance(result.error, NoNetwork):
                    raise result.error
                decision = None
                if self._decide is not None and result.prediction is not None:
                    decision = self._decide(result.prediction)
                document = json_line(
                    result, decision=decision, mask_format=job.mask_format, all_masks=job.all_masks
                )
                warning = f"{result.input}: {result.warning}" if result.warning else ""
                yield Row(document, "" if result.error is None else result.error.code, warning)
        finally:
            results.close()  # ends the threads that read ahead

    def job_with_digest(self) -> Job:
        """Return the job for other processes, which must load the same model file."""
        return replace(self.job, digest=self.predictor.digest)

    def _open(self, unit: Unit) -> Iterator[ImageInput]:
        if unit.kind is UnitKind.TAR:
            return read_tar(unit.address, self.predictor.limits)
        return iter([_image_of_unit(unit, self.predictor.limits)])


def image_input(address: str) -> ImageInput:
    """Return the input of a path or URL, which is opened when it is read."""
    if not is_url(address) or Path(address).exists():
        return ImageInput.from_file(Path(address))
    return ImageInput.from_address(address, partial(read_remote, address))


def _image_of_unit(unit: Unit, limits: Limits) -> ImageInput:
    is_remote = is_url(unit.address) and not Path(unit.address).exists()
    if is_remote and unit.size is not None and unit.size > limits.max_bytes:
        error = ImageTooLarge(
            unit.address,
            f"the file has {unit.size:,} bytes, over the limit of {limits.max_bytes:,}",
            reason="max-bytes",
            remedy="save it smaller",
        )
        return ImageInput.from_address(unit.address, error)
    return image_input(unit.address)
