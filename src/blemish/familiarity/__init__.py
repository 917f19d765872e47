"""How familiar an image is to a model: its distance from the training images in the network's features.

`fit_projection` describes the features of training images; a graph computes the projection in the forward
pass of the prediction. `judge` compares an image with held-out images, and `compare_features` a whole stream.
See `docs/unfamiliar-images.md`.
"""

from blemish.familiarity.drift import Drift, compare_features, energy_distance
from blemish.familiarity.projection import Projection, fit_projection, make_spec
from blemish.familiarity.unfamiliar import DEFAULT_RATE, judge, judge_outputs

__all__ = [
    "DEFAULT_RATE",
    "Drift",
    "Projection",
    "compare_features",
    "energy_distance",
    "fit_projection",
    "judge",
    "judge_outputs",
    "make_spec",
]
