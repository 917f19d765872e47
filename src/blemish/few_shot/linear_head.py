"""A logistic regression on pooled features, its strength chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.structures import Task

STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2)  # scikit-learn's C on standardized features
FOLDS = 5
MIN_ROWS_OF_SHIFT = 500  # with 50 or 200 images, a chosen shift cost .02 of macro F1 on held-out cells
Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Logits = features @ weight + bias.

    Attributes:
        weight: (d, L) float64, on raw features: the standardization is folded in.
        bias: (L,) float64.
        strength: the chosen inverse regularization.
        losses: cross-validated log loss by strength, balanced over labels.
        out_of_fold: (n, L) float64 logits of every training row by a head that did not see it.
        shift: added to the logit of the second of two labels, so that the macro F1 of the out-of-fold
            decisions is highest; 0 for other tasks.
    """

    weight: Matrix
    bias: NDArray[np.float64]
    strength: float
    losses: dict[float, float]
    out_of_fold: Matrix
    shift: float = 0.0

    def logits(self, features: NDArray[np.floating]) -> Matrix:
        """Return (n, L) float64 logits of (n, d) features."""
        return np.asarray(features, np.float64) @ self.weight + self.bias


def fit_head(
    features: NDArray[np.floating],
    ground_truth: NDArray[np.integer] | NDArray[np.bool_],
    groups: NDArray[np.integer],
    task: Task,
    label_count: int,
    *,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = FOLDS,
    seed: int = 0,
) -> LinearHead:
    """Fit a balanced logistic regression: softmax for one label per image, one sigmoid per label otherwise.

    Args:
        features: (n, d) raw features.
        ground_truth: (n,) int label indices, or (n, L) bool.
        groups: (n,) int; rows of one group are never on both sides of a fold. Views of one image share a
            group.
        task: classification or multilabel.
        label_count: L.
        strengths: candidates of the inverse regularization, ascending.
        folds: the maximum number of folds; fewer if a label has fewer groups.
        seed: of the assignment of groups to folds.

    Returns:
        The head with the smallest cross-validated loss, fitted on all rows.
    """
    x = np.asarray(features, np.float32)
    fold_of = assign_folds(ground_truth, groups, label_count, folds, seed)
    held_out: dict[float, Matrix] = {s: np.zeros((len(x), label_count)) for s in strengths}
    for fold in np.unique(fold_of):
        inside, outside = fold_of != fold, fold_of == fold
        for strength, (weight, bias) in _path(x[inside], ground_truth[inside], task, label_count, strengths):
            held_out[strength][outside] = x[outside] @ weight + bias
    losses = {s: balanced_loss(held_out[s], ground_truth, task, label_count) for s in strengths}
    best = min(losses, key=lambda s: losses[s])
    *_, (_, (weight, bias)) = _path(x, ground_truth, task, label_count, (best,))
    out_of_fold = held_out[best]
    shift = best_shift(out_of_fold, ground_truth) if task.has_one_label and label_count == 2 else 0.0
    if shift:
        bias = bias + np.array([0.0, shift])
        out_of_fold = out_of_fold + np.array([0.0, shift])
    return LinearHead(weight, bias, best, losses, out_of_fold, shift)


def best_shift(logits: Matrix, index: NDArray[np.integer] | NDArray[np.bool_], *, window: int = 9) -> float:
    """Return the shift of the second logit at which the macro F1 of the decisions is highest.

    The F1 is averaged over neighboring candidates first, so that a lucky gap between two scores is not
    chosen.

    Args:
        logits: (n, 2) out-of-fold logits.
        index: (n,) labels.
        window: number of neighboring candidates to average.
    """
    margin = logits[:, 1] - logits[:, 0]
    if len(margin) < MIN_ROWS_OF_SHIFT or len(np.unique(index)) < 2:
        return 0.0
    candidates = np.quantile(margin, np.linspace(0.02, 0.98, 97))
    f1 = np.array([_macro_f1(index.astype(bool), margin > c) for c in candidates])
    smooth = np.convolve(f1, np.ones(window) / window, "valid")
    return float(-candidates[int(smooth.argmax()) + window // 2])


def _macro_f1(positive: NDArray[np.bool_], decided: NDArray[np.bool_]) -> float:
    values = []
    for actual, decision in ((positive, decided), (~positive, ~decided)):
        hits = int((actual & decision).sum())
        values.append(2 * hits / max(int(actual.sum() + decision.sum()), 1))
    return float(np.mean(values))


def assign_folds(
    ground_truth: NDArray[np.integer] | NDArray[np.bool_],
    groups: NDArray[np.integer],
    label_count: int,
    folds: int,
    seed: int,
) -> NDArray[np.int64]:
    """Return the fold of every row: whole groups, every label spread as evenly as possible.

    Groups are dealt in random order, those with the rarest label first, each to the fold with the fewest
    rows of that label.
    """
    presence = _presence(ground_truth, label_count)
    _, group_index = np.unique(groups, return_inverse=True)
    count = int(group_index.max()) + 1
    per_group = np.zeros((count, label_count))
    np.add.at(per_group, group_index, presence.astype(np.float64))
    frequency = np.maximum(presence.sum(0), 1)
    positive_groups = (per_group > 0).sum(0)
    number = int(np.clip(min([int(n) for n in positive_groups if n > 0], default=2), 2, folds))
    rarity = np.where(per_group > 0, 1 / frequency, 0).max(1)
    order = np.random.default_rng(seed).permutation(count)
    order = order[np.argsort(-rarity[order], kind="stable")]
    load = np.zeros((number, label_count + 1))
    sizes = np.bincount(group_index, minlength=count)
    fold_of_group = np.zeros(count, np.int64)
    for group in order:
        held = np.flatnonzero(per_group[group])
        rarest = int(held[np.argmin(frequency[held])]) if held.size else label_count
        fold = int(np.lexsort((load[:, label_count], load[:, rarest]))[0])
        fold_of_group[group] = fold
        load[fold, :label_count] += per_group[group]
        load[fold, label_count] += sizes[group]
    return fold_of_group[group_index]


def balanced_loss(
    logits: Matrix, ground_truth: NDArray[np.integer] | NDArray[np.bool_], task: Task, label_count: int
) -> float:
    """Return the log loss, each label (and each side of a sigmoid) counting the same."""
    presence = _presence(ground_truth, label_count)
    if task.has_one_label:
        shifted = logits - logits.max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        parts = [-log_p[presence[:, i], i].mean() for i in range(label_count) if presence[:, i].any()]
        return float(np.mean(parts))
    parts = []
    for i in range(label_count):
        margin = np.where(presence[:, i], logits[:, i], -logits[:, i])
        loss = np.logaddexp(0, -margin)
        parts += [loss[side].mean() for side in (presence[:, i], ~presence[:, i]) if side.any()]
    return float(np.mean(parts))


def _presence(ground_truth: NDArray[np.integer] | NDArray[np.bool_], label_count: int) -> NDArray[np.bool_]:
    """Return (n, L) bool: whether each row has each label."""
    if ground_truth.ndim == 2:
        return ground_truth.astype(bool)
    return np.asarray(np.eye(label_count, dtype=bool)[ground_truth.astype(np.int64)])


def _path(
    x: NDArray[np.float32],
    ground_truth: NDArray[np.integer] | NDArray[np.bool_],
    task: Task,
    label_count: int,
    strengths: Sequence[float],
) -> list[tuple[float, tuple[Matrix, NDArray[np.float64]]]]:
    """Return weight and bias on raw features for each strength."""
    mean = x.mean(0, dtype=np.float64)
    std = np.maximum(x.std(0, dtype=np.float64), 1e-6)
    scaled = ((x - mean) / std).astype(np.float32)
    out = []
    for strength in strengths:
        if task.has_one_label:
            weight, bias = _softmax_fit(scaled, ground_truth, label_count, strength)
        else:
            fits = [_sigmoid_fit(scaled, ground_truth[:, i], strength) for i in range(label_count)]
            weight = np.stack([w for w, _ in fits], 1)
            bias = np.array([b for _, b in fits])
        raw = weight / std[:, None]
        out.append((strength, (raw, bias - mean @ raw)))
    return out


def _softmax_fit(
    x: NDArray[np.float32], index: NDArray[np.integer] | NDArray[np.bool_], label_count: int, strength: float
) -> tuple[Matrix, NDArray[np.float64]]:
    from sklearn.linear_model import LogisticRegression

    present = np.unique(index)
    weight = np.zeros((x.shape[1], label_count))
    bias = np.full(label_count, -30.0)  # a label without a training image is never decided
    if len(present) == 1:
        bias[present] = 0.0
        return weight, bias
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=300, tol=1e-3).fit(x, index)
    if len(present) == 2:  # scikit-learn keeps one row: the logit of the second label against the first
        for label, sign in zip(present, (-0.5, 0.5), strict=True):  # halves, so that both can be explained
            weight[:, label] = sign * model.coef_[0]
            bias[label] = sign * float(model.intercept_[0])
    else:
        weight[:, present] = model.coef_.T
        bias[present] = model.intercept_
    return weight, bias


def _sigmoid_fit(
    x: NDArray[np.float32], positive: NDArray[np.bool_] | NDArray[np.integer], strength: float
) -> tuple[NDArray[np.float64], float]:
    from sklearn.linear_model import LogisticRegression

    if positive.all() or not positive.any():
        return np.zeros(x.shape[1]), 30.0 if positive.all() else -30.0
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=300, tol=1e-3).fit(x, positive)
    return model.coef_[0].astype(np.float64), float(model.intercept_[0])
