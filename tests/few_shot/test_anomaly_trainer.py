"""Training of anomaly models on drawn textures, with a trunk of few channels and random weights."""

import json

import numpy as np
import pytest
from PIL import Image

import blemish.few_shot.anomaly_trainer as trainer
from blemish.data import as_task, open_dataset
from blemish.drawing.heat_tint import tint_image
from blemish.evaluation import evaluate
from blemish.explanation import Explainer
from blemish.few_shot.false_alarms import choose_threshold, min_images
from blemish.few_shot.patch_scorer import (
    fit_gaussian,
    fit_memory,
    image_distances,
    k_center,
    to_scores,
)
from blemish.inference import load
from blemish.structures import Task
from blemish.testing import raises

SIZE = 96


def _texture(rng, *, defect):
    """A striped panel; a defect is a bright blot, returned with its mask."""
    rows = np.sin(np.arange(SIZE) / 3 + rng.uniform(0, 6))[:, None]
    image = 120 + 25 * rows + rng.normal(0, 6, (SIZE, SIZE))
    mask = np.zeros((SIZE, SIZE), bool)
    if defect:
        y, x = rng.integers(20, SIZE - 20, 2)
        mask[y - 10 : y + 10, x - 10 : x + 10] = True
        image = np.where(mask, rng.choice([20.0, 240.0], (SIZE, SIZE)), image)
    return Image.fromarray(image.clip(0, 255).astype(np.uint8)).convert("RGB"), mask


@pytest.fixture(scope="module")
def panels(tmp_path_factory):
    """MVTec's layout: good images to learn from, good and defective ones with masks to test."""
    root, rng = tmp_path_factory.mktemp("panels"), np.random.default_rng(0)
    for folder, count, defect in (("train/good", 60, False), ("test/good", 8, False), ("test/blot", 8, True)):
        (root / folder).mkdir(parents=True)
        for i in range(count):
            image, mask = _texture(rng, defect=defect)
            image.save(root / folder / f"{i:03}.png")
            if defect:
                (root / "ground_truth/blot").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * 255).save(root / f"ground_truth/blot/{i:03}_mask.png")
    return root


@pytest.fixture(scope="module", params=trainer.ARCHITECTURES)
def run(request, panels, small_state, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(trainer, "find_weights", lambda trunk, weights: (panels, _source()))
    patch.setattr(trainer, "read_legacy_pth", lambda path: small_state)
    yield trainer.train_anomaly(
        panels, output=tmp_path_factory.mktemp("run"), model=request.param, input_size=96, threads=1
    )
    patch.undo()


def _source():
    from blemish.pretrained import WeightsSource

    return WeightsSource("drawn", "", "CC0")


def test_train_anomaly_finds_drawn_defects(run, panels):
    report = evaluate(run.model_file, panels, split="test", intervals=False)
    assert report.primary_metric == "auroc"
    assert report.value("auroc") >= 0.95
    assert report.value("pixel_auroc") >= 0.9
    assert 0 < report.value("au_pro") <= 1
    assert report.value("recall_at_1_fpr") <= report.value("recall_at_5_fpr")


def test_train_anomaly_file_has_threshold_and_certificate(run):
    predictor = load(run.model_file)
    contract = predictor.contract
    assert contract.certificate.passed and contract.certificate.decisions_changed == 0
    assert contract.training["threshold"]["false_positive_rate"] == 0.05
    assert json.loads((run.folder / "run.json").read_text())["threshold"]["good_images"] >= 19


def test_train_anomaly_heatmap_points_at_the_defect(run, panels):
    predictor = load(run.model_file)
    path = panels / "test/blot/000.png"
    prediction = predictor.predict(path)
    mask = np.asarray(Image.open(panels / "ground_truth/blot/000_mask.png")) > 0
    assert prediction.decide().tolist() == [True]
    (heatmap,) = predictor.explain(path)
    explainer = Explainer(predictor.backend, predictor.model_file)
    assert heatmap.method == "model" and heatmap.is_faithful is None
    assert heatmap.forward_passes <= 1 == explainer.max_forward_passes("model")
    assert heatmap.values.shape == (SIZE, SIZE)
    x, y = heatmap.peak_xy
    rows, columns = np.nonzero(mask)
    assert abs(y - rows.mean()) < 24 and abs(x - columns.mean()) < 24
    drawn = np.asarray(prediction.plot())[:480].astype(int)
    red = drawn[..., 0] - drawn[..., 1]
    assert red[int(rows.mean() * 5), int(columns.mean() * 5)] > 20
    assert prediction.to_dict()["heatmap"]["peak"] == pytest.approx(prediction.heatmap.max())


def test_tint_image_only_above_the_threshold():
    gray = Image.new("RGB", (40, 20), (100, 100, 100))
    heatmap = np.zeros((2, 4))
    heatmap[0, 3] = 1
    tinted = np.asarray(tint_image(gray, heatmap, 0.5)).astype(int)
    assert tinted[2, 38, 0] > 140 and (tinted[:, :20] == 100).all()


def test_train_anomaly_is_deterministic(run, panels, small_state, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "find_weights", lambda trunk, weights: (panels, _source()))
    monkeypatch.setattr(trainer, "read_legacy_pth", lambda path: small_state)
    name = load(run.model_file).contract.architecture
    again = trainer.train_anomaly(panels, output=tmp_path, model=name, input_size=96, threads=1)
    assert load(again.model_file).model_file.graph_digest == load(run.model_file).model_file.graph_digest


def test_train_anomaly_refuses_a_file_with_other_decisions(panels, small_state, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "find_weights", lambda trunk, weights: (panels, _source()))
    monkeypatch.setattr(trainer, "read_legacy_pth", lambda path: small_state)
    monkeypatch.setattr(trainer, "to_scores", lambda *values: 1 - to_scores(*values))
    with raises("export-refused"):
        trainer.train_anomaly(panels, output=tmp_path, model="gaussian", input_size=96, threads=1)
    assert not (tmp_path / "model.onnx").exists()


def test_train_anomaly_refuses_too_few_good_images(panels, tmp_path):
    few = open_dataset(panels).subset(range(30))
    with raises("bad-dataset.few-images", "39"):
        trainer.train_anomaly(few, output=tmp_path)
    with raises("bad-input.false-alarms"):
        trainer.train_anomaly(few, output=tmp_path, false_alarms=0.0)
    with raises("bad-input.input-size"):
        trainer.train_anomaly(few, output=tmp_path, input_size=100)
    with raises("unknown-name.anomaly-architecture"):
        trainer.train_anomaly(few, output=tmp_path, model="patch-memry")


def test_train_anomaly_refuses_copies_of_one_image(tmp_path):
    image, _ = _texture(np.random.default_rng(0), defect=False)
    for i in range(40):
        image.save(tmp_path / f"{i}.png")
    with raises("bad-dataset.too-few-groups", "copies"):
        trainer.train_anomaly(tmp_path, output=tmp_path / "run")


def test_choose_threshold_keeps_its_rate():
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        scores = rng.normal(size=100)
        rates.append((rng.normal(size=200) >= choose_threshold(scores, 0.1).threshold).mean())
    assert 0.08 < np.mean(rates) <= 0.105
    with raises("bad-dataset.few-images"):
        choose_threshold(rng.normal(size=min_images(0.05) - 1), 0.05)


def test_k_center_covers_far_points():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(200, 3)), [[50.0, 0, 0]], [[0, 50.0, 0]]]).astype(np.float32)
    rows = k_center(points, 5)
    assert {200, 201} <= set(rows.tolist()) and len(set(rows.tolist())) == 5


def test_distances_equal_a_slow_loop():
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(40, 4, 6)).astype(np.float32)
    scorer = fit_memory(patches, np.random.default_rng(1))
    whitened = scorer.whiten(patches[:3])
    slow = [[min(np.linalg.norm(p - b) for b in scorer.bank) for p in image] for image in whitened]
    np.testing.assert_allclose(scorer.distances(patches[:3]), slow, atol=2e-3)
    gaussian = fit_gaussian(patches)
    assert np.abs(gaussian.whiten(patches).mean(0)).max() < 1e-3
    assert np.array_equal(gaussian.whitening, gaussian.whitening.transpose(0, 2, 1))
    assert np.array_equal(gaussian.whitening, gaussian.whitening.astype(np.float16))


def test_image_distances_is_the_mean_of_the_worst():
    distances = np.arange(1, 101, dtype=np.float32)[None]
    assert image_distances(distances).tolist() == [98.5]


def test_excess_subtracts_what_good_images_have_and_no_more():
    rng = np.random.default_rng(0)
    good = rng.normal(size=(200, 16, 4)) * rng.uniform(0.5, 1, (200, 1, 1))
    scorer = fit_gaussian(good.astype(np.float32)).with_common(good.astype(np.float32))
    calm = np.ones((1, 16, 4), np.float32)
    spot = calm.copy()
    spot[0, 3] += 20
    everywhere = calm + 20
    values = [image_distances(scorer.excess(x))[0] for x in (calm, spot, everywhere)]
    assert values[0] < image_distances(scorer.distances(calm))[0] / 2
    assert min(values[1:]) > 10 * values[0]


def test_to_scores_never_saturates():
    scores = to_scores(np.array([1e3, 1e4, 1e5]), 1.0, 1.0)
    assert (np.diff(scores) > 0).all() and scores.max() < 1


def test_good_images_plain_folder_and_labels(panels, tmp_path):
    plain = open_dataset(panels / "train/good", task="anomaly")
    assert len(plain) == 60 and not any(len(s.ground_truth) for s in plain)
    with raises("bad-dataset.no-labels"):
        open_dataset(panels / "train/good")
    full = open_dataset(panels)
    assert full.task is Task.ANOMALY and full.splits == {"train": 60, "test": 16}
    assert sum(s.ground_truth.masks is not None and len(s.ground_truth) for s in full) == 8
    labeled = open_dataset(panels / "test", format="folders")
    converted = as_task(labeled, "anomaly")
    assert sum(len(s.ground_truth) for s in converted) == 8 and converted.labels.names == ("anomaly",)
    (tmp_path / "blot").mkdir()
    (tmp_path / "dent").mkdir()
    for name in ("blot", "dent"):
        Image.new("RGB", (8, 8)).save(tmp_path / name / "a.png")
    with raises("wrong-task.no-good-label"):
        open_dataset(tmp_path, task="anomaly")


def test_good_images_round_trip(panels, tmp_path):
    from blemish.data.write_dataset import write_dataset

    data = open_dataset(panels)
    write_dataset(data, tmp_path / "copy", format="good-images")
    again = open_dataset(tmp_path / "copy")
    assert again.splits == data.splits
    area = [s.ground_truth.masks[0].area for s in data if len(s.ground_truth)]
    assert sorted(area) == sorted(s.ground_truth.masks[0].area for s in again if len(s.ground_truth))
