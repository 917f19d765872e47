"""HeatmapService on its own."""

import pytest

from blemish.inference import load
from blemish.service.heatmaps import HeatmapService
from blemish.service.settings import Settings
from blemish.testing import raises


@pytest.fixture
def detector(model_folder):
    return load(model_folder / "yolo.onnx", threads=1)


def test_heatmap_service_refuses_a_slow_model(detector, tools):
    prediction = detector.predict(tools.image())
    service = HeatmapService(Settings(heatmap_seconds=1))
    with raises("heatmap-unavailable.too-slow", "1 seconds"):
        service.compute(detector, tools.image(), prediction, None, 1.0)


def test_heatmap_service_explains_the_best_detection_if_time_is_short(detector, tools):
    prediction = detector.predict(tools.image())
    heatmap = HeatmapService(Settings(heatmap_seconds=1)).compute(
        detector, tools.image(), prediction, None, 0.08
    )
    assert (heatmap.method, heatmap.label, heatmap.display_name) == ("occlusion", "dent", "Dent")


def test_heatmap_service_refuses_a_label_without_detections(detector, tools):
    prediction = detector.predict(tools.image()).filter_scores(0.5)  # only a dent
    with raises("heatmap-unavailable.nothing-found"):
        HeatmapService(Settings()).compute(detector, tools.image(), prediction, "lamp_broken", 1e-3)


def test_heatmap_service_works_without_a_usable_explanation_graph(tools, tmp_path, caplog):
    tools.write_classifier(tmp_path / "model.onnx")
    (tmp_path / "model.explain.onnx").write_bytes(b"broken")
    predictor = load(tmp_path / "model.onnx", threads=1)
    data = tools.image()
    heatmap = HeatmapService(Settings()).compute(predictor, data, predictor.predict(data), None, 0.001)
    assert heatmap.method == "occlusion"
    assert heatmap.values.shape == (30, 40)
    assert caplog.records


def test_heatmap_service_stops_after_the_next_forward_pass(detector, tools, monkeypatch):
    service = HeatmapService(Settings())
    passes = []

    class StoppingExplainer:
        def default_method(self):
            return "occlusion"

        def explain(self, image, *, progress, **_):
            for done in range(100):
                passes.append(done)
                if done == 2:
                    service.stop()
                progress(1)

    monkeypatch.setattr(service, "_explainer", lambda predictor: StoppingExplainer())
    with raises("heatmap-unavailable.stopped"):
        service.compute(None, b"", detector.predict(tools.image()), "dent", 1e-3)
    assert passes == [0, 1, 2]


def test_heatmap_method_of_a_plugin_reaches_the_service(detector, tools):
    import numpy as np

    from blemish.explanation import EXPLAINERS, ExplanationMethod, Requirement, register_method

    method = ExplanationMethod(
        "left-half", lambda request: np.array([[1.0, 0.0]]), Requirement.ANY_MODEL, default_max_evals=10
    )
    register_method(method, module=__name__)
    try:
        service = HeatmapService(Settings(heatmap_method="left-half"))
        data = tools.image()
        heatmap = service.compute(detector, data, detector.predict(data), None, 0.001)
    finally:
        EXPLAINERS.unregister("left-half")
    assert heatmap.method == "left-half"
    assert heatmap.values[:, 0].min() > heatmap.values[:, -1].max() == 0


def test_heatmap_service_refuses_an_unknown_method():
    with raises("unknown-name.explanation-method", "'oclusion'", "'occlusion'"):
        HeatmapService(Settings(heatmap_method="oclusion"))
