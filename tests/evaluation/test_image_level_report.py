import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from blemish.evaluation import score_predictions
from blemish.evaluation.html_report import render
from blemish.evaluation.image_level_report import thin_curve
from blemish.metrics import METRICS, MetricSpec, register_metric
from blemish.metrics.rank_metrics import precision_recall_curve
from blemish.structures import GroundTruth, Labels, Prediction, Task
from blemish.testing import raises

NAMES = ("dent", "scratch", "chip")


def predicted(scores, task, names=NAMES, thresholds=0.5):
    scores = np.asarray(scores, float)
    thresholds = np.full(len(names), thresholds)
    index = [scores.argmax()] if task is Task.CLASSIFICATION else np.flatnonzero(scores >= thresholds)
    return Prediction(
        task=task,
        labels=Labels(names),
        label_index=np.array(index),
        scores=scores[index],
        label_scores=scores,
        thresholds=thresholds,
    )


def ground_truth(index, task, names=NAMES):
    return GroundTruth(task=task, labels=Labels(names), label_index=np.atleast_1d(index))


@pytest.fixture
def single():
    rng = np.random.default_rng(0)
    scores, index = rng.dirichlet(np.ones(3), 80), rng.integers(0, 3, 80)
    task = Task.CLASSIFICATION
    return scores, index, [predicted(s, task) for s in scores], [ground_truth(i, task) for i in index]


@pytest.fixture
def many():
    rng = np.random.default_rng(1)
    scores, holds = rng.random((90, 3)), rng.random((90, 3)) < 0.4
    task = Task.MULTILABEL
    predictions = [predicted(s, task, thresholds=0.6) for s in scores]
    return scores, holds, predictions, [ground_truth(np.flatnonzero(h), task) for h in holds]


def test_score_predictions_of_classification_equals_scikit_learn(single):
    scores, index, predictions, ground_truths = single
    report = score_predictions(predictions, ground_truths, intervals=False)
    predicted = scores.argmax(1)
    expected = {
        "macro_f1": reference.f1_score(index, predicted, average="macro"),
        "weighted_precision": reference.precision_score(index, predicted, average="weighted"),
        "micro_recall": reference.recall_score(index, predicted, average="micro"),
        "accuracy": reference.accuracy_score(index, predicted),
        "macro_auroc": reference.roc_auc_score(index, scores, multi_class="ovr"),
        "macro_ap": np.mean([reference.average_precision_score(index == i, scores[:, i]) for i in range(3)]),
        "log_loss": reference.log_loss(index, scores),
    }
    for name, value in expected.items():
        assert report.value(name) == pytest.approx(value, abs=1e-12), name
    assert report.primary_metric == "macro_f1"
    np.testing.assert_array_equal(
        report.confusion_matrix.counts, reference.confusion_matrix(index, predicted)
    )
    row = report.of_label("scratch")
    assert row.support == (index == 1).sum()
    assert row.true_positives == ((index == 1) & (predicted == 1)).sum()
    assert row.threshold is None


def test_score_predictions_of_multilabel_equals_scikit_learn(many):
    scores, holds, predictions, ground_truths = many
    report = score_predictions(predictions, ground_truths, intervals=False)
    predicted = scores >= 0.6
    expected = {
        "macro_f1": reference.f1_score(holds, predicted, average="macro"),
        "micro_f1": reference.f1_score(holds, predicted, average="micro"),
        "exact_match": reference.accuracy_score(holds, predicted),
        "macro_auroc": reference.roc_auc_score(holds, scores),
        "macro_ap": reference.average_precision_score(holds, scores),
    }
    for name, value in expected.items():
        assert report.value(name) == pytest.approx(value, abs=1e-12), name
    assert report.of_label("chip").threshold == 0.6


def test_score_predictions_intervals_contain_the_value(many):
    _, _, predictions, ground_truths = many
    plain = score_predictions(predictions, ground_truths, intervals=False)
    bounded = score_predictions(predictions, ground_truths, resamples=200)
    for name, metric in bounded.metrics.items():
        assert metric.value == plain.value(name)
        assert metric.low < metric.high
    # A biased metric such as the calibration error may be outside its interval; the others are not.
    for name in ("macro_f1", "exact_match", "macro_ap", "macro_auroc", "log_loss", "brier"):
        metric = bounded.metrics[name]
        assert metric.low <= metric.value <= metric.high
    assert plain.metrics["macro_f1"].low is None
    assert (
        score_predictions(predictions, ground_truths, resamples=200).to_dict() == bounded.to_dict()
    )  # seeded
    assert score_predictions(predictions, ground_truths, resamples=200, seed=1).to_dict() != bounded.to_dict()


def test_score_predictions_groups_widen_intervals(single):
    _, _, predictions, ground_truths = single
    twice, twice_ground_truths = predictions * 4, ground_truths * 4
    groups = [f"g{i}" for i in range(80)] * 4
    plain = score_predictions(twice, twice_ground_truths, resamples=300).metrics["accuracy"]
    grouped = score_predictions(twice, twice_ground_truths, groups=groups, resamples=300)
    assert grouped.groups == 80
    wide = grouped.metrics["accuracy"]
    assert wide.high - wide.low > 1.5 * (plain.high - plain.low)
    assert score_predictions(predictions, ground_truths, groups=[None] * 80, resamples=10).groups is None
    assert (
        score_predictions(predictions, ground_truths, groups=["a"] * 40 + [None] * 40, resamples=10).groups
        == 41
    )


def test_score_predictions_matches_labels_by_name(single):
    scores, index, predictions, _ = single
    turned = ("chip", "dent", "scratch")
    place = [turned.index(name) for name in NAMES]
    ground_truths = [ground_truth(place[i], Task.CLASSIFICATION, turned) for i in index]
    assert (
        score_predictions(predictions, ground_truths, intervals=False).value("accuracy")
        == (scores.argmax(1) == index).mean()
    )


def test_score_predictions_label_missing_from_the_model(many):
    _, holds, predictions, ground_truths = many
    german = ("dent", "Kratzer", "chip")
    others = [ground_truth(np.flatnonzero(h), Task.MULTILABEL, german) for h in holds]
    with raises("bad-input.label-not-in-model", "'Kratzer'", "--label-map Kratzer="):
        score_predictions(predictions, others)
    expected = score_predictions(predictions, ground_truths, intervals=False).metrics
    for mapping in ({"Kratzer": "scratch"}, {"scratch": "Kratzer"}):
        assert score_predictions(predictions, others, intervals=False, label_map=mapping).metrics == expected
    with raises("unknown-name.label", "'scrath'", "the model", "'scratch'"):
        score_predictions(predictions, others, label_map={"Kratzer": "scrath"})
    with raises("unknown-name.label", "'kratze'", "the data set"):
        score_predictions(predictions, others, label_map={"kratze": "scratch"})
    left_out = score_predictions(predictions, others, intervals=False, label_map={"Kratzer": ""})
    assert [row.label for row in left_out.label_rows] == ["dent", "chip"]


def test_score_predictions_label_missing_from_the_data_set(many):
    scores, holds, predictions, _ = many
    ground_truths = [ground_truth(np.flatnonzero(h[:2]), Task.MULTILABEL, NAMES[:2]) for h in holds]
    report = score_predictions(predictions, ground_truths, intervals=False)
    assert [row.label for row in report.label_rows] == ["dent", "scratch"]
    assert report.value("macro_f1") == pytest.approx(
        reference.f1_score(holds[:, :2], scores[:, :2] >= 0.6, average="macro"), abs=1e-12
    )
    assert report.warnings[0].kind == "note" and "label chip" in report.warnings[0].text


def test_score_predictions_label_map_leaves_out_images_of_a_label(single):
    scores, index, predictions, ground_truths = single
    report = score_predictions(predictions, ground_truths, intervals=False, label_map={"chip": ""})
    kept = index != 2
    assert report.images == kept.sum()
    assert report.value("accuracy") == pytest.approx((scores.argmax(1) == index)[kept].mean())
    assert any(f"{(index == 2).sum()} images" in warning.text for warning in report.warnings)


def test_top_errors_are_the_most_confident(single, many):
    scores, index, predictions, ground_truths = single
    top_errors = score_predictions(predictions, ground_truths, intervals=False).top_errors
    wrong = scores.argmax(1) != index
    assert top_errors[0].position == np.argmax(np.where(wrong, scores.max(1), 0))
    severities = [m.severity for m in top_errors]
    assert severities == sorted(severities, reverse=True)
    assert all(wrong[m.position] for m in top_errors)
    scores, holds, predictions, ground_truths = many
    (top_error, *_) = score_predictions(
        predictions, ground_truths, intervals=False, ids=[f"p{i}" for i in range(90)]
    ).top_errors
    predicted = scores >= 0.6
    share = np.where(predicted, (scores - 0.6) / 0.4, (0.6 - scores) / 0.6)
    assert top_error.severity == pytest.approx(np.where(predicted != holds, share, 0).max())
    assert top_error.id == f"p{top_error.position}"


def test_report_to_dict_undefined_metrics_are_null():
    task = Task.MULTILABEL
    predictions = [predicted([0.9, 0.1, 0.2], task), predicted([0.2, 0.1, 0.9], task)]
    ground_truths = [ground_truth([0], task), ground_truth([0], task)]
    report = score_predictions(predictions, ground_truths, resamples=20)
    assert report.of_label("dent").metrics["auroc"].value is None
    assert report.of_label("scratch").metrics["ap"].value is None
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert json.loads(text)["primary_metric"]["name"] == "macro_f1"
    assert score_predictions(predictions[:1], ground_truths[:1]).metrics["macro_f1"].low is None


def test_score_predictions_rejects_impossible_input():
    single, many = Task.CLASSIFICATION, Task.MULTILABEL
    one = [predicted([1, 0, 0], single)]
    with raises("bad-input.nothing-to-evaluate"):
        score_predictions([], [])
    with raises("bad-input.shape", 1, 0):
        score_predictions(one, [])
    with raises("wrong-task", "classification", "multilabel"):
        score_predictions(one, [ground_truth([0], many)])
    with raises("bad-input.nothing-to-evaluate"):
        score_predictions(one, [ground_truth(0, single)], label_map={"dent": ""})
    with raises("unknown-name.metric", "'macrof1'", "'macro_f1'"):
        score_predictions(one, [ground_truth(0, single)]).value("macrof1")


def test_thin_curve_keeps_its_ends():
    rng = np.random.default_rng(0)
    curve = precision_recall_curve(rng.random(5000), rng.random(5000) < 0.5)
    thin = thin_curve(curve, max_points=50)
    assert len(thin["x"]) <= 52
    assert thin["x"][0] == pytest.approx(curve.x[0], abs=1e-5)
    assert thin["x"][-1] == 1
    assert (np.diff(thin["x"]) >= 0).all()


def top_score(ground_truths, predictions):
    return np.mean([p.label_scores.max() for p in predictions])


def failing_metric(ground_truths, predictions):
    raise ValueError("three labels are one too many")


@pytest.fixture
def third_party_metrics():
    shared: dict[str, Any] = {
        "display_name": "Top score",
        "meaning": "the mean top score",
        "tasks": ("classification",),
    }
    register_metric(MetricSpec(name="top_score", direction="max", **shared))(top_score)
    register_metric(MetricSpec(name="top_score_once", direction="max", bootstrap=False, **shared))(top_score)
    register_metric(MetricSpec(name="failing_metric", direction="min", **shared))(failing_metric)
    yield
    for name in ("top_score", "top_score_once", "failing_metric"):
        METRICS.unregister(name)


def test_score_predictions_contains_third_party_metrics(single, third_party_metrics):
    scores, _, predictions, ground_truths = single
    report = score_predictions(predictions, ground_truths, resamples=50)
    metric = report.metrics["top_score"]
    assert metric.value == pytest.approx(scores.max(1).mean())
    assert metric.low < metric.value < metric.high
    assert report.metrics["top_score_once"].value == metric.value
    assert report.metrics["top_score_once"].low is None
    assert report.value("failing_metric") is None
    (warning,) = report.warnings
    assert warning.kind == "failed-metric" and "three labels are one too many" in warning.text
    assert report.to_dict()["metrics"]["top_score"]["value"] == metric.value
    page = render(report)
    assert "Top score" in page and "Failed metric" in page


def test_score_predictions_third_party_interval_draws_whole_groups(single, third_party_metrics):
    _, _, predictions, ground_truths = single
    groups = ["a", "b"] * 40
    metric = score_predictions(predictions, ground_truths, groups=groups, resamples=40).metrics["top_score"]
    halves = [np.mean([p.label_scores.max() for p in predictions[i::2]]) for i in range(2)]
    assert metric.low == pytest.approx(min(halves)) and metric.high == pytest.approx(max(halves))


def test_render_classification_and_multilabel(single, many):
    for fixture, matrices in ((single, 1), (many, 3)):
        _, _, predictions, ground_truths = fixture
        page = render(score_predictions(predictions, ground_truths, resamples=20))
        for heading in (
            "Results per label",
            "Confusion matrix",
            "Calibration",
            "Curves and scores per label",
        ):
            assert f"<h2>{heading}</h2>" in page
        assert page.count('class="cell correct"') == matrices * {1: 3, 3: 2}[matrices]
        assert page.count('aria-label="Reliability diagram"') == 1
        assert page.count("<dt>False negatives</dt>") == 3


@pytest.mark.parametrize("seed", range(6))
def test_calibration_error_is_inside_its_interval(seed):
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(3), 60)
    index = [rng.choice(3, p=row) for row in scores]  # perfectly calibrated, where the bias is largest
    task = Task.CLASSIFICATION
    report = score_predictions([predicted(s, task) for s in scores], [ground_truth(i, task) for i in index])
    metric = report.metrics["calibration_error"]
    assert 0 <= metric.low <= metric.value <= metric.high <= 1


def test_score_predictions_states_the_effect_of_a_label_without_images():
    scores = np.array([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    task, names = Task.CLASSIFICATION, ("dent", "scratch")
    expected = [ground_truth(i, task, names) for i in (0, 0, 1)]
    report = score_predictions([predicted(s, task) for s in scores], expected, intervals=False)
    (note,) = [w.text for w in report.warnings]
    assert "chip" in note and "counts as an error" in note
    assert report.of_label("chip").predicted == 1  # it is scored
    assert report.value("accuracy") == pytest.approx(2 / 3)
    many = Task.MULTILABEL
    expected = [ground_truth([i], many, names) for i in (0, 0, 1)]
    report = score_predictions([predicted(s, many) for s in scores], expected, intervals=False)
    (note,) = [w.text for w in report.warnings]
    assert "not evaluated" in note
    assert [row.label for row in report.label_rows] == ["dent", "scratch"]


@pytest.mark.parametrize(
    ("fitted_on", "text"),
    [
        ("val", "fitted on the validation images"),
        ("train (cross-validated)", "fitted to the training images by cross-validation"),
        ("", None),
    ],
)
def test_report_states_how_the_temperature_was_chosen(single, fitted_on, text):
    report = score_predictions(*single[2:], intervals=False)
    report = replace(report, model={"temperature": 1.3, "temperature_fitted_on": fitted_on})
    page = render(report)
    assert "at a temperature of 1.30" in page
    assert [t for t in ("fitted on", "fitted to") if t in page] == ([] if text is None else [text[:9]])
    assert text is None or text in page


def test_report_loads_its_images_at_once(single):
    """A printed page contains only the images that the browser has loaded."""
    report = score_predictions(*single[2:], intervals=False)
    page = render(replace(report, thumbnails={e.id: b"jpeg" for e in report.top_errors}))
    assert page.count("<img") == len(report.top_errors) > 0
    assert "lazy" not in page
