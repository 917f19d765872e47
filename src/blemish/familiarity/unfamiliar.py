"""Whether one image is unfamiliar: its distance compared with those of held-out images."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.model_file import FamiliaritySpec
from blemish.structures import Familiarity

FARTHEST = 1e9
DEFAULT_RATE = 0.01  # of familiar images that are called unfamiliar, on average


def judge_outputs(
    spec: FamiliaritySpec | None, outputs: Mapping[str, NDArray[Any]], count: int
) -> Sequence[Familiarity | None]:
    """Return how familiar the images of a batch are; None for each if the model has no such output.

    Args:
        spec: of the model file, or None.
        outputs: of the graph by name.
        count: number of images of the batch.
    """
    if spec is None or spec.output not in outputs:
        return [None] * count
    return judge(spec, outputs[spec.output])


def judge(
    spec: FamiliaritySpec, features: NDArray[np.floating], *, rate: float = DEFAULT_RATE
) -> list[Familiarity]:
    """Return how familiar images are.

    An image is unfamiliar if its conformal p-value is at most the rate: of n held-out images, at most
    rate (n + 1) - 1 are as far from the training images. With fewer than 1 / rate - 1 held-out images, only
    images farther than all of them are unfamiliar, and the rate is 1 / (n + 1).

    Args:
        spec: of the model file.
        features: (b, dimensions), the output of the graph.
        rate: the share of images drawn as the held-out ones that are called unfamiliar, on average.

    Source:
        Bates et al. 2023, Testing for Outliers with Conformal p-values.
    """
    rows = np.asarray(features, np.float64)
    known = spec.distances
    reached = max(rate, 1 / (1 + len(known))) if known else 0.0
    judged = []
    for row in rows:
        distance = float(row @ row)
        if not math.isfinite(distance):  # half precision overflows far from the training images
            row, distance = np.nan_to_num(row, nan=FARTHEST, posinf=FARTHEST, neginf=-FARTHEST), FARTHEST
        p_value = (1 + len(known) - bisect_left(known, round(distance, 5))) / (1 + len(known))
        judged.append(
            Familiarity(
                distance=distance,
                p_value=p_value,
                rate=reached,
                unfamiliar=p_value <= reached + 1e-12,
                features=row,
            )
        )
    return judged
