"""How sure a figure is: bootstrap intervals over images, or over the objects photographed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    """How often each image is drawn in each resample.

    Args:
        n: images.
        groups: (n,) what each image shows; whole groups are drawn, so that ten images of one
            vehicle do not pass for ten vehicles. None draws images.
        resamples: how many.
        seed: the same seed draws the same.

    Yields:
        (n, r) float64 of whole numbers; the r add up to `resamples`.
    """
    if groups is None:
        member, count = np.arange(n), n
    else:
        if len(groups) != n:
            raise BadInput(f"{len(groups)} groups for {n} images: give one each")
        _, member = np.unique(np.array([str(g) for g in groups]), return_inverse=True)
        count = int(member.max()) + 1 if n else 0
    if not count:
        return
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK_CELLS // max(n, 1))
    for start in range(0, resamples, step):
        width = min(step, resamples - start)
        drawn = rng.integers(0, count, (width, count))
        # Filled by resample, counted by group: the numbers drawn do not depend on the chunk's size.
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
) -> dict[str, NDArray[np.float64]]:
    """Percentile intervals of many figures at once.

    Args:
        statistic: from (n, r) weights to named figures, each (..., r).
        n: images.
        groups: see `resample`.
        resamples: how many.
        seed: likewise.
        level: share of the resamples inside.

    Returns:
        For each figure (..., 2) float64, low and high. Resamples in which a figure is not defined (the label
        was not drawn) are left out of its interval; nan where it is defined in none.

    Example:
        >>> values = np.array([0.0, 0.0, 1.0, 1.0])
        >>> bounds = bootstrap(lambda w: {"mean": values @ w / w.sum(0)}, 4, resamples=200)["mean"]
        >>> bounds.tolist()
        [0.0, 1.0]
    """
    parts: dict[str, list[Array]] = {}
    for weights in resample(n, groups=groups, resamples=resamples, seed=seed):
        for name, values in statistic(weights).items():
            parts.setdefault(name, []).append(np.asarray(values, np.float64))
    return {name: percentile_interval(np.concatenate(p, axis=-1), level=level) for name, p in parts.items()}


def percentile_interval(values: Array, *, level: float = 0.95) -> NDArray[np.float64]:
    """The middle `level` of the last axis: (..., r) to (..., 2); nan values are left out."""
    values = np.asarray(values, np.float64)
    tail = (1 - level) / 2 * 100
    out = np.full((*values.shape[:-1], 2), np.nan)
    defined = np.isfinite(values).any(-1)
    if defined.any():
        out[defined] = np.moveaxis(np.nanpercentile(values[defined], [tail, 100 - tail], axis=-1), 0, -1)
    return out
