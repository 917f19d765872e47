"""What a predictor returns for each image of a stream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blemish.capture import CaptureMeasures, NearDuplicates
from blemish.errors import BadImage, BadInput, BadModelFile, BlemishError
from blemish.imaging import LoadedImage
from blemish.inference.inputs import ImageInput, InputKind
from blemish.preprocessing import Placement
from blemish.structures import Prediction

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from blemish.face_blur import Blur

MAX_PLOT_SIDE = 60_000  # Pillow writes JPEG files of at most 65,500 pixels per side
MAX_PLOT_PIXELS = 25_000_000  # larger images are drawn reduced: the details are not visible anyway


@dataclass(frozen=True)
class Timing:
    """Seconds per stage for one image; for a batch, the image's share.

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
        """Seconds of all stages together."""
        return self.read + self.prepare + self.infer + self.decode


@dataclass(frozen=True, eq=False)
class PreparedInput:
    """An image as the network takes it.

    Attributes:
        feeds: by input name, (c, h, w) float32.
        placement: the image's position in the first input.
        path: the file, or None.
        warning: why the network may not see what the image shows, or "".
        measures: of how the image was captured; None if the model file has no limits, or it is switched off.
    """

    feeds: dict[str, NDArray[np.float32]]
    placement: Placement
    path: Path | None = None
    warning: str = ""
    measures: CaptureMeasures | None = None


@dataclass(frozen=True, eq=False)
class PredictionResult:
    """The result of one input of a stream: a prediction or an error, never both.

    Attributes:
        input: the input as its source gave it.
        prediction: None if the image failed.
        error: why the image failed; the message names it. None if it did not.
        timing: seconds of each stage that was reached.
        image: the pixels, if the stream was asked to keep them.
        white_level: what is white in a 16-bit image, for drawing.
        warning: why the network may not see what the image shows, or "".
    """

    input: ImageInput
    prediction: Prediction | None
    error: BlemishError | None
    timing: Timing
    image: LoadedImage | None = None
    white_level: int = 65535
    warning: str = ""

    def plot(self, *, min_score: float | None = None, blur: Blur | None = None) -> Image.Image:
        """Return the image with its prediction drawn on it, RGB, reduced if it is very large.

        Args:
            min_score: lower-scoring objects are not drawn. Default: the threshold of each label.
            blur: applied to the image before it is drawn on, such as `blemish.face_blur.open_blur()`.

        Raises:
            BadInput: the image failed, or its pixels were not kept.
        """
        from blemish.drawing import draw, reduce_image

        if self.prediction is None or self.image is None:
            raise BadInput(f"{self.input}: no pixels to draw on. Use keep_images=True.", reason="no-pixels")
        image = reduce_image(self.image, MAX_PLOT_PIXELS, MAX_PLOT_SIDE).to_pil(self.white_level)
        if blur is not None:
            image = blur(image)
        return draw(self.prediction.filter_scores(min_score), image)


@dataclass(frozen=True, eq=False)
class ReadInput:
    """An input after reading and preparing, or the error."""

    input: ImageInput
    prepared: PreparedInput | None
    error: BlemishError | None
    timing: Timing
    image: LoadedImage | None = None


def unexpected_error(source: ImageInput, error: Exception) -> BadImage:
    """Return the error of an image for an exception that nothing raises on purpose."""
    if isinstance(error, MemoryError):
        return BadImage(
            source.path or source.id,
            "not enough memory to decode it. Lower --max-megapixels.",
            reason="memory",
        )
    detail = f"it cannot be used ({type(error).__name__}: {error})"[:300]
    return BadImage(source.path or source.id, detail, reason="unexpected")


def error_of_image(one: PreparedInput, error: BadModelFile) -> BadModelFile:
    """Return the error of a network as the error of one image."""
    return BadModelFile(f"{one.path or 'image'}: {error}", reason=error.code.partition(".")[2])


def prediction_of(result: PredictionResult) -> Prediction:
    """Return the prediction of a result, or raise its error."""
    if result.prediction is None:
        assert result.error is not None  # noqa: S101  (a result has one or the other)
        raise result.error
    return result.prediction


def with_duplicate(
    outcome: Prediction | BlemishError,
    source: ImageInput,
    prepared: PreparedInput,
    seen: NearDuplicates | None,
) -> Prediction | BlemishError:
    """Return an outcome that states whether the image is nearly identical to an earlier one of the stream.

    Args:
        outcome: for the image.
        source: the image; frames of a video are alike and not compared.
        prepared: with its measures.
        seen: the earlier images, to which this one is added; None compares nothing.
    """
    if isinstance(outcome, BlemishError) or outcome.capture is None or prepared.measures is None:
        return outcome
    if source.kind is InputKind.FRAME or seen is None:
        return outcome
    capture = seen.add(outcome.capture, source.id, prepared.measures.hash)
    return outcome if capture is outcome.capture else replace(outcome, capture=capture)
