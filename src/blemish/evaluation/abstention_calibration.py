"""Collect the scores of labeled images from which a model file later decides at a risk or cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.abstention.conformal import DECIMALS, fit_logistic, proportion_interval
from blemish.evaluation.matched_objects import match_objects
from blemish.metrics.coco_matches import IGNORED, TRUE_POSITIVE
from blemish.model_file import AbstentionScores, BoxScoreBin, LabelScores
from blemish.model_file.abstention_scores import MAX_SCORES
from blemish.structures import GroundTruth, Prediction, Sample

BOX_BINS = 10
MIN_BIN_DETECTIONS = 20
Array = NDArray[Any]


def collect_scores(
    predictions: Sequence[Prediction], samples: Sequence[Sample], *, split: str, seed: int = 0
) -> AbstentionScores | None:
    """Return the calibration scores of a model, or None if its task has no abstention.

    Of each group, one image per label and side is drawn: the images of one vehicle are alike, and only whole
    groups are exchangeable with the groups to come.

    Args:
        predictions: one per sample.
        samples: with ground truth in the labels of the model, not used for training.
        split: where they are from.
        seed: of the draw.
    """
    if not predictions or "abstention" not in predictions[0].task.fields.hooks:
        return None
    ground_truths = [s.ground_truth for s in samples if s.ground_truth is not None]
    names = [f"image:{s.id}" if s.group is None else f"group:{s.group}" for s in samples]
    _, groups = np.unique(np.array(names), return_inverse=True)
    parts = predictions[0].task.hook("abstention")(predictions, ground_truths, groups, seed)
    return AbstentionScores(
        split=split,
        images=len(predictions),
        groups=int(groups.max()) + 1,
        grouped=any(s.group is not None for s in samples),
        seed=seed,
        **parts,
    )


def collect_label_scores(
    predictions: Sequence[Prediction], ground_truths: Sequence[GroundTruth], groups: Array, seed: int
) -> dict[str, Any]:
    """Return the scores of each label of a task with one probability per label.

    Args:
        predictions: one per image.
        ground_truths: one per image, in the labels of the model.
        groups: (n,) int, the group of each image.
        seed: of the draw of one image per group.
    """
    scores = np.array([p.label_scores for p in predictions], np.float64)
    present = np.array([t.presence_mask() for t in ground_truths], bool)
    names = predictions[0].labels.names
    return {
        "labels": {name: _of_label(scores[:, i], present[:, i], groups, seed) for i, name in enumerate(names)}
    }


def collect_object_scores(
    predictions: Sequence[Prediction], ground_truths: Sequence[GroundTruth], groups: Array, seed: int
) -> dict[str, Any]:
    """Return the highest scores of images with and without objects, and the ranges of detection scores.

    Args:
        predictions: one per image.
        ground_truths: one per image, in the labels of the model.
        groups: (n,) int, the group of each image.
        seed: of the draw of one image per group.
    """
    highest = np.array([p.scores.max(initial=0.0) for p in predictions], np.float64)
    present = np.array([len(t) > 0 for t in ground_truths], bool)
    return {
        "any_object": _of_label(highest, present, groups, seed),
        "boxes": _box_bins(predictions, ground_truths, groups),
    }


def _of_label(scores: Array, present: Array, groups: Array, seed: int) -> LabelScores:
    counts = np.bincount(groups)
    return LabelScores(
        present=_one_per_group(scores[present], groups[present], seed),
        absent=_one_per_group(scores[~present], groups[~present], seed),
        logistic=fit_logistic(scores.tolist(), present.tolist(), (1 / counts[groups]).tolist()),
    )


def _one_per_group(scores: Array, groups: Array, seed: int) -> tuple[float, ...]:
    """Return the ascending scores of one random image of each group, of at most `MAX_SCORES` groups."""
    order = np.random.default_rng(seed).permutation(len(scores))
    _, first = np.unique(groups[order], return_index=True)
    drawn = np.sort(first)[:MAX_SCORES]  # in the random order, so that a random part of the groups is kept
    return tuple(sorted(round(float(s), DECIMALS) for s in scores[order][drawn]))


def _box_bins(
    predictions: Sequence[Prediction], ground_truths: Sequence[GroundTruth], groups: Array
) -> tuple[BoxScoreBin, ...]:
    """Return ranges of scores with about equally many detections, and how many of them were correct.

    Detections of one group are alike: the interval counts as many observations as there are groups in the
    range.
    """
    matches = match_objects(predictions, ground_truths)
    outcome = matches.outcome[:, 0, 0]
    counted = outcome != IGNORED
    scores, group = matches.detections.score[counted], groups[matches.detections.image[counted]]
    correct = outcome[counted] == TRUE_POSITIVE
    if not len(scores):
        return ()
    number = int(np.clip(len(scores) // MIN_BIN_DETECTIONS, 1, BOX_BINS))
    edges = np.unique(np.round(np.quantile(scores, np.linspace(0, 1, number + 1)[:-1]), DECIMALS))
    edges[0] = 0.0
    place = np.searchsorted(edges, scores, side="right") - 1
    bins = []
    for i, start in enumerate(edges):
        inside = place == i
        if not inside.any():
            continue
        units, share = len(np.unique(group[inside])), float(correct[inside].mean())
        low, high = proportion_interval(share * units, units)
        bins.append(
            BoxScoreBin(
                min_score=float(start),
                detections=int(inside.sum()),
                groups=units,
                correct=share,
                low=min(low, share),
                high=max(high, share),
            )
        )
    return tuple(bins)
