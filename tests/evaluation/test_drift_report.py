import numpy as np
import pytest
from tests.evaluation.brightness import brightness_predictor, images

from blemish.evaluation.drift_report import measure_drift, render_drift
from blemish.model_file import FamiliaritySpec
from blemish.model_file.familiarity_spec import encode_array
from blemish.testing import raises


@pytest.fixture
def predictor(tmp_path):
    """A model whose features are its two logits."""
    spread = np.random.default_rng(0).normal(size=60) * 0.5
    features = np.stack([-spread, spread], 1)
    p = 1 / (1 + np.exp(-2 * spread))
    spec = FamiliaritySpec(
        output="scores",
        dimensions=2,
        train_images=50,
        distances=tuple(np.sort((features**2).sum(1)).round(5)),
        reference=encode_array(features),
        reference_scores=encode_array(np.stack([1 - p, p], 1)),
    )
    return brightness_predictor(tmp_path / "model.onnx", familiarity=spec)


def test_measure_drift_finds_brighter_images(predictor, tmp_path):
    rng = np.random.default_rng(1)
    images(tmp_path / "same", np.clip(127.5 + 16 * rng.normal(size=40), 0, 255).astype(int))
    images(tmp_path / "bright", np.clip(200 + 16 * rng.normal(size=40), 0, 255).astype(int))
    (tmp_path / "bright" / "damaged.png").write_bytes(b"no image")
    same = measure_drift(predictor, [tmp_path / "same"], permutations=999)
    bright = measure_drift(predictor, [tmp_path / "bright"], permutations=999)
    assert not same.has_drift and bright.has_drift
    assert [t.quantity for t in bright.tests] == ["features", "log(1 + distance)", "dark", "bright"]
    assert bright.tests[0].effect > same.tests[0].effect and bright.tests[3].effect > 0.5
    assert bright.images == 40 and len(bright.unreadable) == 1 and bright.unfamiliar > 10
    assert bright.to_dict()["drift"] is True and bright.to_dict()["tests"][0]["found"] is True
    page = render_drift(bright)
    assert "damaged.png" in page and "<script" not in page and page.count("<tr>") > 5


def test_measure_drift_needs_features_and_images(predictor, tmp_path):
    images(tmp_path / "few", [10, 20])
    with raises("bad-input.few-images", "few"):
        measure_drift(predictor, [tmp_path / "few"])
    with raises("bad-model-file.no-familiarity", "old.onnx"):
        measure_drift(brightness_predictor(tmp_path / "old.onnx"), [tmp_path / "few"])
