"""The logistic regression and its cross-validation."""

import numpy as np
import pytest

from blemish.few_shot.linear_head import assign_folds, balanced_loss, best_shift, fit_head
from blemish.structures import Task


@pytest.fixture
def blobs():
    rng = np.random.default_rng(0)
    index = rng.integers(0, 3, 240)
    centers = rng.normal(0, 1.2, (3, 12))
    return (centers[index] + rng.normal(0, 1, (240, 12))) * rng.uniform(0.1, 30, 12), index


def test_fit_head_equals_scikit_learn_on_standardized_features(blobs):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    features, index = blobs
    head = fit_head(features, index, np.arange(240), Task.CLASSIFICATION, 3, strengths=(0.1,))
    scaled = StandardScaler().fit_transform(features)
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=5000, tol=1e-8).fit(scaled, index)
    probabilities = np.exp(head.logits(features))
    probabilities /= probabilities.sum(1, keepdims=True)
    assert np.abs(probabilities - model.predict_proba(scaled)).max() < 5e-3


@pytest.mark.parametrize("labels", [2, 3])
def test_fit_head_learns_and_out_of_fold_scores_are_honest(labels):
    rng = np.random.default_rng(1)
    index = rng.integers(0, labels, 150)
    noise = rng.normal(0, 1, (150, 400))
    head = fit_head(noise, index, np.arange(150), Task.CLASSIFICATION, labels)
    inside = (head.logits(noise).argmax(1) == index).mean()
    outside = (head.out_of_fold.argmax(1) == index).mean()
    assert inside > 0.75 > 0.65 > outside


def test_fit_head_multilabel_is_one_regression_per_label(blobs):
    features, index = blobs
    ground_truth = np.stack([index == 0, index != 1, index == 2], 1)
    head = fit_head(features, ground_truth, np.arange(240), Task.MULTILABEL, 3)
    assert ((head.logits(features) > 0) == ground_truth).mean() > 0.85
    assert head.losses[head.strength] == min(head.losses.values())


def test_fit_head_is_deterministic(blobs):
    features, index = blobs
    one, two = (fit_head(features, index, np.arange(240), Task.CLASSIFICATION, 3, seed=5) for _ in range(2))
    assert np.array_equal(one.weight, two.weight) and np.array_equal(one.out_of_fold, two.out_of_fold)


def test_fit_head_never_decides_a_label_without_images():
    rng = np.random.default_rng(0)
    index = rng.integers(0, 2, 60) * 2  # label 1 is absent
    features = rng.normal(0, 1, (60, 5)) + index[:, None]
    head = fit_head(features, index, np.arange(60), Task.CLASSIFICATION, 3)
    assert set(head.logits(features).argmax(1)) == {0, 2}


def test_assign_folds_keeps_groups_together_and_spreads_labels():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(50), 3)
    index = np.repeat((np.arange(50) < 10).astype(int), 3)
    folds = assign_folds(index, groups, 2, 5, 0)
    assert all(len(set(folds[groups == g])) == 1 for g in range(50))
    positives = [int(index[folds == f].sum()) for f in range(5)]
    assert positives == [6] * 5
    assert not np.array_equal(folds, assign_folds(index, groups, 2, 5, int(rng.integers(1, 99))))


def test_assign_folds_are_no_more_than_the_rarest_label_has_groups():
    index = np.array([0] * 20 + [1] * 3)
    assert set(assign_folds(index, np.arange(23), 2, 5, 0)) == {0, 1, 2}


def test_balanced_loss_counts_every_label_alike():
    logits = np.array([[2.0, 0.0]] * 9 + [[0.0, 0.0]])
    index = np.array([0] * 9 + [1])
    expected = (np.log1p(np.exp(-2.0)) + np.log(2.0)) / 2
    assert balanced_loss(logits, index, Task.CLASSIFICATION, 2) == pytest.approx(expected)


def test_best_shift_moves_the_decision_to_the_highest_macro_f1():
    rng = np.random.default_rng(0)
    index = (rng.random(2000) < 0.3).astype(int)
    margin = rng.normal(0, 1, 2000) + 2 * index - 5  # the best threshold is far from 0
    logits = np.stack([np.zeros(2000), margin], 1)
    shift = best_shift(logits, index)
    plain = ((margin > 0) == index.astype(bool)).mean()
    moved = ((margin + shift > 0) == index.astype(bool)).mean()
    assert moved > plain + 0.1 and 3.2 < shift < 4.5


def test_best_shift_of_few_images_is_none():
    assert best_shift(np.random.default_rng(0).normal(0, 1, (40, 2)), np.arange(40) % 2) == 0
