"""Bootstrap confidence intervals of metrics over images, or over groups of images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput

Array = NDArray[Any]
RESAMPLES = 1000
CHUNK_CELLS = 2_000_000


def resample(
    n: int, *, groups: Sequence[Any] | Array | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[NDArray[np.float64]]:
    """Yield the number of times that each image is drawn in each resample.

    Args:
        n: the number of images.
        groups: (n,) the group of each image, such as the vehicle that it shows. Whole groups are drawn, so
            that ten images of one vehicle do not count as ten vehicles. None draws images.
        resamples: the number of resamples.
        seed: the random seed; equal seeds give equal draws.

    Yields:
        (n, r) float64 arrays of whole numbers; the r of all arrays add up to `resamples`.

    Raises:
        BadInput: the number of groups is not n.
    """
    if groups is None:
        member, count = np.arange(n), n
    else:
        if len(groups) != n:
            raise BadInput(
                f"{len(groups)} groups for {n} images: expected one group per image", reason="shape"
            )
        _, member = np.unique(np.array([str(g) for g in groups]), return_inverse=True)
        count = int(member.max()) + 1 if n else 0
    if not count:
        return
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK_CELLS // max(n, 1))
    for start in range(0, resamples, step):
        width = min(step, resamples - start)
        drawn = rng.integers(0, count, (width, count))
        # Draw row by row (one resample each), so that the draws do not depend on the size of the chunks.
        cell = drawn * width + np.arange(width)[:, None]
        times = np.bincount(cell.ravel(), minlength=count * width).reshape(count, width)
        yield times[member].astype(np.float64) if groups is not None else times.astype(np.float64)


def bootstrap(
    statistic: Callable[[NDArray[np.float64]], Mapping[str, Array]],
    n: int,
    *,
    groups: Sequence[Any] | Array | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
    biased: Collection[str] = (),
) -> dict[str, NDArray[np.float64]]:
    """Return the percentile intervals of many metrics at once.

    Resampling repeats images, which raises a metric that is a mean of absolute differences, such as the
    calibration error: its value may lie below all resampled values. The interval of such a metric is shifted
    by the bootstrap estimate of this bias, the mean of the resampled values minus the value.

    Args:
        statistic: a function from (n, r) weights to named metrics, each (..., r).
        n: the number of images.
        groups: (n,) the group of each image; see `resample`.
        resamples: the number of resamples.
        seed: the random seed.
        level: the confidence level of the intervals.
        biased: the names of the metrics whose intervals are shifted; they are at least 0.

    Returns:
        For each metric (..., 2) float64, low and high. Resamples in which a metric is undefined (no image of
        the label was drawn) are left out of its interval; NaN if it is undefined in all of them.

    Example:
        >>> values = np.array([0.0, 0.0, 1.0, 1.0])
        >>> bounds = bootstrap(lambda w: {"mean": values @ w / w.sum(0)}, 4, resamples=200)["mean"]
        >>> bounds.tolist()
        [0.0, 1.0]

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 10.2 (the bias).
    """
    parts: dict[str, list[Array]] = {}
    for weights in resample(n, groups=groups, resamples=resamples, seed=seed):
        for name, values in statistic(weights).items():
            parts.setdefault(name, []).append(np.asarray(values, np.float64))
    bounds = {}
    exact = statistic(np.ones((n, 1))) if biased else {}
    for name, chunks in parts.items():
        resampled = np.concatenate(chunks, axis=-1)
        bounds[name] = percentile_interval(resampled, level=level)
        if name in biased:
            bias = np.nanmean(resampled, axis=-1) - np.asarray(exact[name])[..., 0]
            bounds[name] = np.maximum(bounds[name] - np.asarray(bias)[..., None], 0)
    return bounds


def percentile_interval(values: Array, *, level: float = 0.95) -> NDArray[np.float64]:
    """Return the central `level` of the last axis, from (..., r) to (..., 2); NaN values are left out."""
    values = np.asarray(values, np.float64)
    tail = (1 - level) / 2 * 100
    out = np.full((*values.shape[:-1], 2), np.nan)
    defined = np.isfinite(values).any(-1)
    if defined.any():
        out[defined] = np.moveaxis(np.nanpercentile(values[defined], [tail, 100 - tail], axis=-1), 0, -1)
    return out
