"""Measure the images of a training, or of a folder, and learn the limits of usual images from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from blemish.capture.capture_gate import DEFAULT_RATE, fit_limits
from blemish.capture.measures import CaptureMeasures, measure
from blemish.data.image_hashes import map_in_parallel
from blemish.errors import BlemishError
from blemish.imaging import LIMITS, Limits, open_image
from blemish.model_file import InputSpec
from blemish.model_file.capture_spec import CaptureSpec
from blemish.preprocessing import prepare, reduction_for
from blemish.structures import Sample

MAX_IMAGES = 1000  # that are opened at export; they are chosen evenly


def measure_images(
    paths: Sequence[Path],
    inputs: Sequence[InputSpec],
    *,
    limits: Limits = LIMITS,
    progress: Callable[[int, int], None] | None = None,
) -> list[CaptureMeasures | None]:
    """Return the measures of images, in order; None for an image that cannot be read or measured.

    Args:
        paths: the files.
        inputs: of the network; the first is measured.
        limits: largest size of an image.
        progress: called with the number of images done and of all.
    """
    reduction = reduction_for(inputs)
    done = 0

    def measure_file(path: Path) -> CaptureMeasures | None:
        nonlocal done
        try:
            feed, placement = prepare(open_image(path, limits, reduction), inputs[0])
        except BlemishError:  # the data checks list it
            measured = None
        else:
            measured = measure(feed, inputs[0], placement)
        done += 1
        if progress is not None:
            progress(done, len(paths))
        return measured

    return map_in_parallel(measure_file, paths)


def learn_limits(
    samples: Sequence[Sample], inputs: Sequence[InputSpec], *, rate: float = DEFAULT_RATE
) -> CaptureSpec | None:
    """Return the limits of usual images from at most 1,000 training images; None if there are too few.

    Args:
        samples: the training images.
        inputs: of the network.
        rate: see `fit_limits`.
    """
    positions = np.linspace(0, len(samples) - 1, min(MAX_IMAGES, len(samples))).round().astype(int)
    chosen = [samples[i] for i in np.unique(positions)]
    groups = [f"image:{s.id}" if s.group is None else f"group:{s.group}" for s in chosen]
    return fit_limits(measure_images([s.path for s in chosen], inputs), groups, rate=rate)
