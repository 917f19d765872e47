"""`calibrate_capture`: give a model file the limits of usual images, learned from a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blemish.capture import DEFAULT_RATE, MIN_IMAGES, fit_limits, measure_images
from blemish.errors import BadInput
from blemish.inference.sources import VIDEO_SUFFIXES, find_paths
from blemish.model_file import (
    FORMAT_VERSION,
    CaptureSpec,
    ModelFile,
    read_graph,
    read_model_file,
    write_model_file,
)


@dataclass(frozen=True)
class CaptureCalibration:
    """What `calibrate_capture` did.

    Attributes:
        model_file: the written file.
        limits: the limits in it.
        unreadable: number of images that could not be read or measured.
    """

    model_file: ModelFile
    limits: CaptureSpec
    unreadable: int


def calibrate_capture(
    model: Path | str,
    sources: Sequence[Path | str],
    *,
    rate: float = DEFAULT_RATE,
    output: Path | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CaptureCalibration:
    """Store the limits of usual images in a model file, so that it states which images to take again.

    Training does this with its training images. The network is not changed, and the certificate stays valid.

    Args:
        model: the model file.
        sources: images, folders or glob patterns: usual images, which need no labels.
        rate: the share of usual images that may have each fault, in (0, 1).
        output: the new model file [default: `model` itself].
        progress: called with the number of finished images and of all.

    Raises:
        BadInput: fewer than 20 images can be read ("bad-input.few-images"), or the rate is out of range.
        BadModelFile: the model cannot be read.
    """
    if not 0 < rate < 1:
        raise BadInput(f"capture rate: expected a number above 0 and below 1, got {rate:g}", reason="rate")
    file = read_model_file(model)
    paths = [path for path in find_paths(sources) if path.suffix.lower() not in VIDEO_SUFFIXES]
    measures = measure_images(paths, file.contract.inputs, progress=progress)
    limits = fit_limits(measures, [str(path) for path in paths], rate=rate)
    if limits is None:
        count = sum(m is not None for m in measures)
        raise BadInput(
            f"{', '.join(map(str, sources))}: expected at least {MIN_IMAGES} usual images, got {count} that "
            "can be read. Add images.",
            reason="few-images",
        )
    contract = file.contract.model_copy(update={"capture": limits, "format_version": FORMAT_VERSION})
    target = file.path if output is None else Path(output)
    written = write_model_file(target, read_graph(file.path), contract, file.fingerprints)
    return CaptureCalibration(written, limits, sum(m is None for m in measures))
