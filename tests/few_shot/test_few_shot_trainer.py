"""`train_few` from images to a model file, on a small random trunk."""

import json
import sys

import numpy as np
import pytest

from blemish import load
from blemish.data.synthetic import write_panels
from blemish.explanation.gradient_graph import GradientGraph, explanation_path
from blemish.few_shot import few_shot_trainer, train_few
from blemish.few_shot.explanation import POOLING_LAYER, grid_side, window_masks
from blemish.few_shot.features import MIN_VARIANCE, FeatureExtractor
from blemish.model_file import read_model_file
from blemish.structures import Task
from blemish.testing import raises


@pytest.fixture(scope="session")
def weights(small_state, tmp_path_factory):
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    tensors = {k: torch.from_numpy(v) for k, v in small_state.items()}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(weights, tmp_path):
    def train(task=Task.CLASSIFICATION, count=40, output="run", **options):
        data = write_panels(tmp_path / "data", count, 0, layout="images", task=task, size_hw=(64, 64))
        return train_few(data, output=tmp_path / output, weights=weights, input_size=64, **options)

    return train


def test_train_few_chooses_how_large_images_are_decoded(weights, tmp_path, monkeypatch):
    data = write_panels(
        tmp_path / "data", 24, 0, layout="images", task=Task.CLASSIFICATION, size_hw=(264, 264)
    )
    tried = []
    extract = FeatureExtractor.of_samples

    def note_and_extract(self, *samples, **options):
        tried.append(self.spec.decode)
        return extract(self, *samples, **options)

    monkeypatch.setattr(FeatureExtractor, "of_samples", note_and_extract)

    def train(name, **options):
        made = train_few(
            data, output=tmp_path / name, weights=weights, input_size=64, choose_explanation=False, **options
        )
        return read_model_file(made.model_file).contract

    auto = train("auto")
    record = auto.training["decode"]
    assert record["reduced"] == record["images"] > 0 and record["chosen"] == auto.inputs[0].decode
    assert tried == ["scaled"] if record["chosen"] == "scaled" else ["scaled", "full"]
    monkeypatch.setattr(few_shot_trainer, "choose_decode", refuse_scaled)
    tried.clear()
    whole = train("whole")
    assert whole.inputs[0].decode == "full" and whole.training["decode"]["chosen"] == "full"
    assert tried == ["scaled", "full"]
    assert whole.certificate.passed and train("full", decode="full").inputs == whole.inputs
    assert "decode" not in train("scaled", decode="scaled").training


def refuse_scaled(backend, contract, samples):
    training = {**contract.training, "decode": {"images": 5, "reduced": 5, "chosen": "full"}}
    return contract.model_copy(update={"training": training})


@pytest.mark.parametrize("task", [Task.CLASSIFICATION, Task.MULTILABEL])
def test_train_few_writes_an_ordinary_model_file(run, task):
    made = run(task)
    file = read_model_file(made.model_file)
    contract = file.contract
    assert contract.task is task and contract.architecture == "efficientnet-lite0"
    assert contract.certificate.passed and contract.certificate.images == made.dataset.splits["val"]
    assert contract.training["weights"] == "small.pth" and len(contract.training["weights_sha256"]) == 64
    assert set(file.fingerprints.split.tolist()) == {0, 1}
    assert bool(contract.thresholds) is task.has_label_set
    layers = {"", *GradientGraph(file).layers}
    assert contract.explanation and all(c.layer in layers for c in contract.explanation.values())
    predictor = load(made.model_file)
    paths = [sample.path for sample in made.dataset.of_split("val")]
    predictions = [result.prediction for result in predictor.stream(paths)]
    assert all(p.size_hw == (64, 64) for p in predictions)
    scores = np.array([p.label_scores for p in predictions])
    assert scores.std(0).min() > 1e-5  # the random trunk says little of the panels


def test_train_few_is_deterministic_and_uses_its_cache(run):
    one, two = run(output="one"), run(output="two")
    assert one.model_file.read_bytes() == two.model_file.read_bytes()
    stored = json.loads((two.folder / "run.json").read_text("utf-8"))
    assert stored["strength"] == two.strength


def test_train_few_explanation_graph_is_the_gradient_of_the_logits(run, small_state):
    torch = pytest.importorskip("torch")
    made = run()
    file = read_model_file(made.model_file)
    graph = GradientGraph(file)
    count = graph.output_count
    image = np.random.default_rng(0).normal(0, 1, (2, 3, 64, 64)).astype(np.float32)
    selector = np.eye(count, dtype=np.float32)[[0, count - 1]]
    features, gradients = graph.features_and_gradients({"image": image}, selector)
    assert [f.shape for f in features] == [g.shape for g in gradients]
    # The head alone is differentiated by torch: pooling both maps, then the linear layer of the model file.
    import onnx
    from onnx import numpy_helper

    constants = {c.name: numpy_helper.to_array(c) for c in onnx.load(made.model_file).graph.initializer}
    weight = torch.from_numpy(constants["head.weight"].copy())
    *maps, falls = [torch.from_numpy(f).requires_grad_() for f in features]
    pools = [
        (m.mean((2, 3)), m.amax((2, 3)), (m.var((2, 3), correction=0) + MIN_VARIANCE).sqrt()) for m in maps
    ]
    pooled = torch.cat([p for three in pools for p in three], 1)
    ((pooled @ weight) * torch.from_numpy(selector)).sum().backward()
    for m, gradient in zip(maps, gradients[:-1], strict=True):
        assert np.abs(gradient - m.grad.numpy()).max() <= 1e-5 * max(np.abs(gradient).max(), 1e-9)
    # The last layer: how far each logit falls when the cells of a window are left out of every pool, compared
    # with the mean over training images.
    explained = onnx.load(explanation_path(made.model_file)).graph.initializer
    (typical,) = [numpy_helper.to_array(c) for c in explained if c.name == f"{POOLING_LAYER}.typical"]
    assert np.abs(typical).max() > 0
    assert graph.layers[-1] == POOLING_LAYER and (gradients[-1] == 1).all()
    side = grid_side(64)
    for row in range(2):
        column = weight.numpy().astype(np.float64) @ selector[row]
        for window in range(side * side):
            fall, start = 0.0, 0
            for m in features[:-1]:
                cells = m[row].reshape(m.shape[1], -1).astype(np.float64)
                left = cells[:, ~window_masks(m.shape[-1], side)[window]]
                change = np.concatenate([p(cells, 1) - p(left, 1) for p in (np.mean, np.max, np.std)])
                fall += change @ column[start : start + len(change)]
                start += len(change)
            expected = fall - selector[row] @ typical[:, window]
            assert falls[row].detach().numpy().reshape(-1)[window] == pytest.approx(
                expected, rel=1e-3, abs=1e-4
            )


def test_train_few_model_is_explained(run):
    made = run()
    predictor = load(made.model_file)
    path = made.dataset.of_split("val").samples[0].path
    heatmaps = predictor.explain(path, method="grad-cam")
    assert heatmaps and all(h.values.shape == (64, 64) for h in heatmaps)


def test_train_few_refuses_boxes_and_rare_labels(run, weights, tmp_path):
    with raises("wrong-task.image-level-only"):
        run(Task.DETECTION)
    data = write_panels(tmp_path / "d", 8, 0, layout="images", task=Task.CLASSIFICATION, size_hw=(64, 64))
    split = data.with_splits({s.id: "train" if i < 2 else "val" for i, s in enumerate(data)})
    with raises("bad-dataset.few-images"):
        train_few(split, output=tmp_path / "r", weights=weights, input_size=64)


def test_train_few_missing_weights_file(run, tmp_path):
    data = write_panels(tmp_path / "d", 20, 0, layout="images", task=Task.CLASSIFICATION, size_hw=(64, 64))
    with raises("bad-weights.missing-file", "nowhere.pth"):
        train_few(data, output=tmp_path / "r", weights=tmp_path / "nowhere.pth")


def test_train_few_does_not_import_torch(run, weights, tmp_path):
    import subprocess

    data = tmp_path / "folders"
    write_panels(data, 20, 0, layout="images", task=Task.CLASSIFICATION, size_hw=(64, 64))
    code = (
        "import sys; from pathlib import Path; from blemish.data.synthetic import write_panels;"
        "from blemish.few_shot import train_few;"
        f"d = write_panels(Path({str(tmp_path / 'again')!r}), 20, 0, layout='images', task='classification',"
        "size_hw=(64, 64));"
        f"train_few(d, output={str(tmp_path / 'r')!r}, weights=Path({str(weights)!r}), input_size=64);"
        "assert not {'torch', 'lightning', 'timm'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_train_few_without_its_packages_names_the_extra(monkeypatch):
    from blemish import few_shot

    monkeypatch.setattr(few_shot, "find_spec", lambda name: None)
    with raises("missing-extra"):
        few_shot.require_packages()


def test_train_few_stores_the_distances_of_validation_images(run):
    made = run()
    file = read_model_file(made.model_file)
    spec = file.contract.familiarity
    validation = [s.path for s in made.dataset.of_split("val").samples]
    assert spec is not None and spec.train_images == made.dataset.splits["train"]
    assert 1 <= len(spec.distances) <= len(validation)
    predictor = load(file)
    found = [p.familiarity for p in predictor.predict(validation)]
    assert {round(f.distance, 3) for f in found} >= {round(d, 3) for d in spec.distances[:1]}
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    strange = predictor.predict(noise).familiarity
    assert strange.unfamiliar and strange.distance > spec.distances[-1]
    assert predictor.predict(noise).to_dict()["familiarity"]["unfamiliar"] is True
    objects = {s.group or s.id for s in made.dataset.of_split("train").samples}
    assert (file.contract.capture is None) == (len(objects) < 20)
