import json

import numpy as np
import pytest
from sklearn import metrics as reference

from blemish.errors import BadInput, UnknownName, WrongTask
from blemish.evaluation import score
from blemish.evaluation.image_level_report import thinned
from blemish.metrics.ranking import precision_recall_curve
from blemish.structures import GroundTruth, Labels, Prediction, Task

NAMES = ("dent", "scratch", "chip")


def predicted(scores, task, names=NAMES, thresholds=0.5):
    scores = np.asarray(scores, float)
    thresholds = np.full(len(names), thresholds)
    index = [scores.argmax()] if task is Task.CLASSIFICATION else np.flatnonzero(scores >= thresholds)
    return Prediction(
        task=task,
        labels=Labels(names),
        label_index=index,
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


def test_classification_report_equals_scikit_learn(single):
    scores, index, predictions, ground_truths = single
    report = score(predictions, ground_truths, intervals=False)
    said = scores.argmax(1)
    expected = {
        "macro_f1": reference.f1_score(index, said, average="macro"),
        "weighted_precision": reference.precision_score(index, said, average="weighted"),
        "micro_recall": reference.recall_score(index, said, average="micro"),
        "accuracy": reference.accuracy_score(index, said),
        "macro_auroc": reference.roc_auc_score(index, scores, multi_class="ovr"),
        "macro_ap": np.mean([reference.average_precision_score(index == i, scores[:, i]) for i in range(3)]),
        "log_loss": reference.log_loss(index, scores),
    }
    for name, value in expected.items():
        assert report.value(name) == pytest.approx(value, abs=1e-12), name
    assert report.headline == "macro_f1"
    np.testing.assert_array_equal(report.confusion.counts, reference.confusion_matrix(index, said))
    row = report.of_label("scratch")
    assert row.support == (index == 1).sum()
    assert row.hits == ((index == 1) & (said == 1)).sum()
    assert row.threshold is None


def test_multilabel_report_equals_scikit_learn(many):
    scores, holds, predictions, ground_truths = many
    report = score(predictions, ground_truths, intervals=False)
    said = scores >= 0.6
    expected = {
        "macro_f1": reference.f1_score(holds, said, average="macro"),
        "micro_f1": reference.f1_score(holds, said, average="micro"),
        "exact_match": reference.accuracy_score(holds, said),
        "macro_auroc": reference.roc_auc_score(holds, scores),
        "macro_ap": reference.average_precision_score(holds, scores),
    }
    for name, value in expected.items():
        assert report.value(name) == pytest.approx(value, abs=1e-12), name
    assert report.of_label("chip").threshold == 0.6


def test_intervals_hold_the_value_and_do_not_change_it(many):
    _, _, predictions, ground_truths = many
    plain = score(predictions, ground_truths, intervals=False)
    bounded = score(predictions, ground_truths, resamples=200)
    for name, figure in bounded.figures.items():
        assert figure.value == plain.value(name)
        assert figure.low < figure.high
    # A biased figure such as the calibration error may lie outside; the others do not.
    for name in ("macro_f1", "exact_match", "macro_ap", "macro_auroc", "log_loss", "brier"):
        figure = bounded.figures[name]
        assert figure.low <= figure.value <= figure.high
    assert plain.figures["macro_f1"].low is None
    assert score(predictions, ground_truths, resamples=200).to_dict() == bounded.to_dict()  # seeded
    assert score(predictions, ground_truths, resamples=200, seed=1).to_dict() != bounded.to_dict()


def test_groups_widen_intervals_and_unknown_groups_stand_alone(single):
    _, _, predictions, ground_truths = single
    twice, twice_ground_truths = predictions * 4, ground_truths * 4
    groups = [f"g{i}" for i in range(80)] * 4
    plain = score(twice, twice_ground_truths, resamples=300).figures["accuracy"]
    grouped = score(twice, twice_ground_truths, groups=groups, resamples=300)
    assert grouped.groups == 80
    wide = grouped.figures["accuracy"]
    assert wide.high - wide.low > 1.5 * (plain.high - plain.low)
    assert score(predictions, ground_truths, groups=[None] * 80, resamples=10).groups is None
    assert score(predictions, ground_truths, groups=["a"] * 40 + [None] * 40, resamples=10).groups == 41


def test_labels_are_matched_by_name_and_never_by_index(single):
    scores, index, predictions, _ = single
    turned = ("chip", "dent", "scratch")
    place = [turned.index(name) for name in NAMES]
    ground_truths = [ground_truth(place[i], Task.CLASSIFICATION, turned) for i in index]
    assert (
        score(predictions, ground_truths, intervals=False).value("accuracy")
        == (scores.argmax(1) == index).mean()
    )


def test_a_label_the_model_does_not_know_is_an_error_unless_mapped(many):
    _, holds, predictions, ground_truths = many
    german = ("dent", "Kratzer", "chip")
    others = [ground_truth(np.flatnonzero(h), Task.MULTILABEL, german) for h in holds]
    with pytest.raises(BadInput, match=r"does not know the data's label 'Kratzer'.*--label-map Kratzer="):
        score(predictions, others)
    expected = score(predictions, ground_truths, intervals=False).figures
    for mapping in ({"Kratzer": "scratch"}, {"scratch": "Kratzer"}):
        assert score(predictions, others, intervals=False, map_labels=mapping).figures == expected
    with pytest.raises(UnknownName, match="unknown label 'scrath' in the model; did you mean 'scratch'"):
        score(predictions, others, map_labels={"Kratzer": "scrath"})
    with pytest.raises(UnknownName, match="unknown label 'kratze' in the data"):
        score(predictions, others, map_labels={"kratze": "scratch"})
    left_out = score(predictions, others, intervals=False, map_labels={"Kratzer": ""})
    assert [row.label for row in left_out.label_rows] == ["dent", "chip"]


def test_a_label_the_data_do_not_know_is_not_scored_and_said(many):
    scores, holds, predictions, _ = many
    ground_truths = [ground_truth(np.flatnonzero(h[:2]), Task.MULTILABEL, NAMES[:2]) for h in holds]
    report = score(predictions, ground_truths, intervals=False)
    assert [row.label for row in report.label_rows] == ["dent", "scratch"]
    assert report.value("macro_f1") == pytest.approx(
        reference.f1_score(holds[:, :2], scores[:, :2] >= 0.6, average="macro"), abs=1e-12
    )
    assert "the data do not know the model's label chip" in report.stamps[0].text


def test_with_one_label_an_image_a_label_left_out_takes_its_images_along(single):
    scores, index, predictions, ground_truths = single
    report = score(predictions, ground_truths, intervals=False, map_labels={"chip": ""})
    kept = index != 2
    assert report.images == kept.sum()
    assert report.value("accuracy") == pytest.approx((scores.argmax(1) == index)[kept].mean())
    assert any("left out" in stamp.text for stamp in report.stamps)


def test_worst_are_the_most_confident_mistakes(single, many):
    scores, index, predictions, ground_truths = single
    worst = score(predictions, ground_truths, intervals=False).worst
    wrong = scores.argmax(1) != index
    assert worst[0].position == np.argmax(np.where(wrong, scores.max(1), 0))
    severities = [m.severity for m in worst]
    assert severities == sorted(severities, reverse=True)
    assert all(wrong[m.position] for m in worst)
    scores, holds, predictions, ground_truths = many
    worst = score(predictions, ground_truths, intervals=False, ids=[f"p{i}" for i in range(90)]).worst[0]
    said = scores >= 0.6
    share = np.where(said, (scores - 0.6) / 0.4, (0.6 - scores) / 0.6)
    assert worst.severity == pytest.approx(np.where(said != holds, share, 0).max())
    assert worst.id == f"p{worst.position}"


def test_figures_that_are_not_defined_are_null_in_json():
    task = Task.MULTILABEL
    predictions = [predicted([0.9, 0.1, 0.2], task), predicted([0.2, 0.1, 0.9], task)]
    ground_truths = [ground_truth([0], task), ground_truth([0], task)]
    report = score(predictions, ground_truths, resamples=20)
    assert report.of_label("dent").figures["auroc"].value is None
    assert report.of_label("scratch").figures["ap"].value is None
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert json.loads(text)["headline"]["name"] == "macro_f1"
    assert score(predictions[:1], ground_truths[:1]).figures["macro_f1"].low is None


def test_what_cannot_be_scored():
    single, many = Task.CLASSIFICATION, Task.MULTILABEL
    one = [predicted([1, 0, 0], single)]
    with pytest.raises(BadInput, match="nothing to score"):
        score([], [])
    with pytest.raises(BadInput, match="1 predictions for 0 truths"):
        score(one, [])
    with pytest.raises(WrongTask, match="classification cannot be scored on truths of multilabel"):
        score(one, [ground_truth([0], many)])
    with pytest.raises(BadInput, match="every image's label was left out"):
        score(one, [ground_truth(0, single)], map_labels={"dent": ""})
    with pytest.raises(UnknownName, match="did you mean 'macro_f1'"):
        score(one, [ground_truth(0, single)]).value("macrof1")


def test_thinned_curves_keep_their_ends():
    rng = np.random.default_rng(0)
    curve = precision_recall_curve(rng.random(5000), rng.random(5000) < 0.5)
    thin = thinned(curve, most=50)
    assert len(thin["x"]) <= 52
    assert thin["x"][0] == pytest.approx(curve.x[0], abs=1e-5)
    assert thin["x"][-1] == 1
    assert (np.diff(thin["x"]) >= 0).all()
