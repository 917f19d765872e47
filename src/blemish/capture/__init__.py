"""Whether an image was captured well enough: sharpness, exposure, glare, size, borders, near-duplicates.

`measure` reads them from the input of the network, `fit_limits` learns the limits of usual images from the
training images (`Contract.capture`), and `judge_capture` compares an image with them. See
`docs/capture-quality.md`.
"""

from blemish.capture.capture_gate import DEFAULT_RATE, MIN_IMAGES, find_faults, fit_limits, judge_capture
from blemish.capture.measures import CaptureMeasures, measure
from blemish.capture.near_duplicates import NearDuplicates
from blemish.capture.training_images import learn_limits, measure_images

__all__ = [
    "DEFAULT_RATE",
    "MIN_IMAGES",
    "CaptureMeasures",
    "NearDuplicates",
    "find_faults",
    "fit_limits",
    "judge_capture",
    "learn_limits",
    "measure",
    "measure_images",
]
