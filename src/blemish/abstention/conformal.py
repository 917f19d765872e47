"""Split conformal prediction: which sides of a label a score leaves possible, and how often that is true."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.model_file import LabelScores

Array = NDArray[Any]
DECIMALS = 6  # of stored and of compared scores: rounding both keeps them exchangeable


def excluded_count(count: int, risk: float) -> int:
    """Return how many of n + 1 equally likely ranks are excluded: risk (n + 1), rounded down.

    Args:
        count: n, the number of calibration scores.
        risk: in (0, 1).

    Example:
        >>> excluded_count(18, 0.05), excluded_count(19, 0.05), excluded_count(99, 0.29)
        (0, 1, 29)
    """
    return math.floor(risk * (count + 1) + 1e-9)


def round_score(score: float) -> float:
    """Return a score as calibration scores are stored."""
    return round(float(score), DECIMALS)


def possible_sides(scores: LabelScores, score: float, risk: float) -> tuple[bool, bool]:
    """Return whether a label can be present, and whether it can be absent, at a risk.

    A side is excluded if its p-value is at most the risk: the share of calibration images of that side, this
    image included, whose score is at least as unusual for that side.

    Args:
        scores: of calibration images with and without the label.
        score: of the image, in [0, 1].
        risk: in (0, 1): of the images of one side, at most this share loses that side, on average over
            calibrations.

    Source:
        Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World, section 4.5
        (label-conditional inductive conformal predictors).

    Example:
        >>> known = LabelScores(present=(0.2, 0.6, 0.8, 0.9), absent=(0.1, 0.2, 0.3, 0.4))
        >>> possible_sides(known, 0.1, 0.2), possible_sides(known, 0.3, 0.2), possible_sides(known, 0.5, 0.2)
        ((False, True), (True, True), (True, False))
    """
    value = round_score(score)
    unusual_present = int(np.searchsorted(scores.present, value, side="right"))
    unusual_absent = len(scores.absent) - int(np.searchsorted(scores.absent, value, side="left"))
    return (
        1 + unusual_present > excluded_count(len(scores.present), risk),
        1 + unusual_absent > excluded_count(len(scores.absent), risk),
    )


def probability(scores: LabelScores, score: float) -> float:
    """Return the probability that the label is present: the fitted logistic function of the score's logit.

    Without a fit (every image, or no image, has the label), this is the score itself.
    """
    if scores.logistic is None:
        return float(score)
    slope, intercept = scores.logistic
    return float(0.5 + 0.5 * math.tanh((slope * score_logit(score) + intercept) / 2))


def score_logit(score: float) -> float:
    """Return log(s / (1 - s)), with s kept 1e-6 away from 0 and 1."""
    kept = min(max(float(score), 10.0**-DECIMALS), 1 - 10.0**-DECIMALS)
    return math.log(kept / (1 - kept))


def coverage_interval(count: int, risk: float, *, level: float = 0.95) -> tuple[float, float]:
    """Return the finite-sample interval of the coverage that one calibration reaches.

    The coverage of a set of n calibration images, over infinitely many exchangeable images, has the
    distribution Beta(n + 1 - l, l), l = `excluded_count`, if no two scores are equal.

    Args:
        count: n.
        risk: in (0, 1).
        level: probability of the interval, half of the rest on each side.

    Returns:
        Ends in [0, 1]; both 1 if n is too small to exclude anything.

    Source:
        Vovk 2012, Conditional Validity of Inductive Conformal Predictors, equation 4.

    Example:
        >>> [round(v, 3) for v in coverage_interval(106, 0.05)]
        [0.906, 0.985]
    """
    excluded = excluded_count(count, risk)
    if excluded == 0:
        return 1.0, 1.0
    kept, tail = count + 1 - excluded, (1 - level) / 2
    # P(Beta(a, b) <= x) = P(Binomial(a + b - 1, x) >= a) for whole a and b.
    return (
        _bisect(lambda x: _binomial_tail(count, x, kept), tail),
        _bisect(lambda x: _binomial_tail(count, x, kept), 1 - tail),
    )


def proportion_interval(successes: float, count: float, *, level: float = 0.95) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a proportion; [0, 1] without observations.

    Args:
        successes: in [0, count]; rounded to a whole number.
        count: number of independent observations; rounded.
        level: at least this probability.

    Example:
        >>> [round(v, 3) for v in proportion_interval(8, 10)]
        [0.444, 0.975]
    """
    total = round(count)
    hits = min(round(successes), total)
    if total == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else _bisect(lambda x: _binomial_tail(total, x, hits), tail)
    high = 1.0 if hits == total else _bisect(lambda x: _binomial_tail(total, x, hits + 1), 1 - tail)
    return low, high


def observed_band(count: int, risk: float, images: int, *, level: float = 0.99) -> tuple[float, float]:
    """Return the range of the coverage on new exchangeable images at probability `level`.

    The number of covered images is beta-binomial: both the calibration images and the new ones are a sample.

    Args:
        count: number of calibration images.
        risk: in (0, 1).
        images: number of new images, each of its own group.
        level: probability of the band.

    Returns:
        Ends in [0, 1]; [0, 1] without new images.

    Source:
        Angelopoulos and Bates 2023, Conformal Prediction: A Gentle Introduction, section 3.2.
    """
    excluded = excluded_count(count, risk)
    if images == 0:
        return 0.0, 1.0
    if excluded == 0:
        return 1.0, 1.0
    a, b = count + 1 - excluded, excluded
    k = np.arange(images + 1)
    lgamma = np.frompyfunc(math.lgamma, 1, 1)
    log_p = (
        (math.lgamma(images + 1) - lgamma(k + 1.0) - lgamma(images - k + 1.0)).astype(np.float64)
        + (lgamma(k + float(a)) + lgamma(images - k + float(b))).astype(np.float64)
        - math.lgamma(images + a + b)
        - (math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))
    )
    below = np.cumsum(np.exp(log_p))
    tail = (1 - level) / 2
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left"))
    return low / images, min(high, images) / images


def _binomial_tail(trials: int, p: float, at_least: int) -> float:
    """Return P(Binomial(trials, p) >= at_least)."""
    if at_least <= 0:
        return 1.0
    if p <= 0:
        return 0.0
    if p >= 1:
        return 1.0
    k = range(at_least, trials + 1)
    base = math.lgamma(trials + 1)
    log_p, log_q = math.log(p), math.log1p(-p)
    logs = [
        base - math.lgamma(i + 1) - math.lgamma(trials - i + 1) + i * log_p + (trials - i) * log_q for i in k
    ]
    return min(1.0, math.fsum(math.exp(v) for v in logs))


def _bisect(increasing: Callable[[float], float], target: float) -> float:
    """Return x in [0, 1] at which an increasing function reaches `target`."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if increasing(middle) < target else (low, middle)
    return 0.5 * (low + high)


def fit_logistic(
    scores: Sequence[float] | Array, present: Sequence[bool] | Array, weights: Sequence[float] | Array
) -> tuple[float, float] | None:
    """Return slope and intercept of the probability that a label is present, from the logit of its score.

    Args:
        scores: (n,) in [0, 1].
        present: (n,) whether the image has the label.
        weights: (n,) such as 1 / images of the group.

    Returns:
        None if the label is present in all images or in none.

    Source:
        Platt 1999, with its smoothed targets; Newton's method.
    """
    x = np.array([score_logit(s) for s in scores], np.float64)
    is_present, w = np.asarray(present, bool), np.asarray(weights, np.float64)
    positive, negative = float(w[is_present].sum()), float(w[~is_present].sum())
    if positive == 0 or negative == 0:
        return None
    target = np.where(is_present, (positive + 1) / (positive + 2), 1 / (negative + 2))
    design = np.stack([x, np.ones_like(x)], 1)
    found = np.array([1.0, math.log((positive + 1) / (negative + 1))])
    ridge = np.diag([1e-3, 1e-6])  # a slope for scores that are all equal

    def loss(at: np.ndarray) -> float:
        z = design @ at
        return float((w * (np.logaddexp(0, z) - target * z)).sum() + 0.5 * at @ ridge @ at)

    for _ in range(100):
        p = 0.5 + 0.5 * np.tanh(design @ found / 2)
        gradient = design.T @ (w * (p - target)) + ridge @ found
        hessian = (design * (w * p * (1 - p))[:, None]).T @ design + ridge
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while loss(found - size * step) > loss(found) and size > 1e-6:
            size /= 2
        found = found - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    return float(found[0]), float(found[1])
