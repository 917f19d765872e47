"""HeatmapService on its own."""

import numpy as np
import pytest

from blemish.inference import load, open_backend
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.service import heatmaps
from blemish.service.fair_executor import StopSignal
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
        service.compute(detector, tools.image(), prediction, None, 1.0, StopSignal(1))


def test_heatmap_service_explains_the_best_detection_if_time_is_short(detector, tools, monkeypatch):
    monkeypatch.setattr(heatmaps, "available_cores", lambda: 2)
    prediction = detector.predict(tools.image())
    heatmap = HeatmapService(Settings(heatmap_seconds=60)).compute(
        detector, tools.image(), prediction, None, 1.5, StopSignal(60)
    )
    assert (heatmap.method, heatmap.label, heatmap.display_name) == ("occlusion", "dent", "Dent")


def test_heatmap_service_refuses_a_label_without_detections(detector, tools):
    prediction = detector.predict(tools.image()).filter_scores(0.5)  # only a dent
    with raises("heatmap-unavailable.nothing-found"):
        HeatmapService(Settings()).compute(
            detector, tools.image(), prediction, "lamp_broken", 1e-3, StopSignal(60)
        )


def test_heatmap_service_works_without_a_usable_explanation_graph(tools, tmp_path, caplog):
    tools.write_classifier(tmp_path / "model.onnx")
    (tmp_path / "model.explain.onnx").write_bytes(b"broken")
    predictor = load(tmp_path / "model.onnx", threads=1)
    data = tools.image()
    heatmap = HeatmapService(Settings()).compute(
        predictor, data, predictor.predict(data), None, 0.001, StopSignal(60)
    )
    assert heatmap.method == "occlusion"
    assert heatmap.values.shape == (30, 40)
    assert caplog.records


@pytest.mark.parametrize("stopped_by", ["the client", "the time"])
def test_heatmap_service_stops_after_the_next_forward_pass(detector, tools, monkeypatch, stopped_by):
    passes = []
    stop = StopSignal(60)
    backend_run = OnnxRuntimeBackend.run

    def run(self, feeds):
        passes.append(len(feeds["image"]))
        if len(passes) == 3 and stopped_by == "the client":
            stop.set()
        elif len(passes) == 3:
            stop.deadline = 0.0
        return backend_run(self, feeds)

    prediction = detector.predict(tools.image())
    monkeypatch.setattr(OnnxRuntimeBackend, "run", run)
    code = "work-stopped.canceled" if stopped_by == "the client" else "heatmap-unavailable.too-slow"
    with raises(code):
        HeatmapService(Settings()).compute(detector, tools.image(), prediction, "dent", 1e-3, stop)
    assert passes == [1, 1, 4]


def test_heatmap_service_computes_with_a_network_of_its_own_and_half_of_the_cores(
    detector, tools, monkeypatch
):
    monkeypatch.setattr(heatmaps, "available_cores", lambda: 8)
    opened = []

    def record(*args, **options):
        opened.append(options)
        return open_backend(*args, **options)

    monkeypatch.setattr(heatmaps, "open_backend", record)
    monkeypatch.setattr(detector.backend, "run", None)  # the session of the predictions is not used
    service = HeatmapService(Settings())
    prediction = load(detector.model_file, threads=1).predict(tools.image())
    for _ in range(2):
        service.compute(detector, tools.image(), prediction, None, 1e-3, StopSignal(60))
    assert opened == [{"backend": "onnxruntime", "threads": 4}]


@pytest.mark.parametrize(
    ("seconds", "gradients", "offered"),
    [(0, True, False), (0.15, True, True), (0.15, False, False), (20, False, True)],
)
def test_heatmaps_are_offered_if_the_smallest_one_is_fast_enough(monkeypatch, seconds, gradients, offered):
    monkeypatch.setattr(heatmaps, "available_cores", lambda: 2)
    service = HeatmapService(Settings(heatmap_seconds=seconds))
    assert service.is_offered(0.05, gradients=gradients) is offered


def test_heatmap_of_a_large_image_is_computed_on_a_reduced_one(tmp_path, tools, monkeypatch):
    tools.write_classifier(tmp_path / "model.onnx")
    predictor = load(tmp_path / "model.onnx", threads=1)
    data = tools.image(size=(600, 400))
    prediction = predictor.predict(data)
    whole = HeatmapService(Settings()).compute(predictor, data, prediction, None, 1e-3, StopSignal(60))
    monkeypatch.setattr(heatmaps, "_MAX_PIXELS", 100_000)
    reduced = HeatmapService(Settings()).compute(predictor, data, prediction, None, 1e-3, StopSignal(60))
    assert (whole.values.shape, reduced.values.shape) == ((400, 600), (200, 300))
    difference = np.abs(whole.values[::2, ::2].astype(int) - reduced.values)
    assert difference.max() <= 12


def test_heatmap_method_of_a_plugin_reaches_the_service(detector, tools):
    from blemish.explanation import EXPLAINERS, ExplanationMethod, Requirement, register_method

    method = ExplanationMethod(
        "left-half", lambda request: np.array([[1.0, 0.0]]), Requirement.ANY_MODEL, default_max_evals=10
    )
    register_method(method, module=__name__)
    try:
        service = HeatmapService(Settings(heatmap_method="left-half"))
        data = tools.image()
        heatmap = service.compute(detector, data, detector.predict(data), None, 0.001, StopSignal(60))
    finally:
        EXPLAINERS.unregister("left-half")
    assert heatmap.method == "left-half"
    assert heatmap.values[:, 0].min() > heatmap.values[:, -1].max() == 0


def test_heatmap_service_refuses_an_unknown_method():
    with raises("unknown-name.explanation-method", "'oclusion'", "'occlusion'"):
        HeatmapService(Settings(heatmap_method="oclusion"))
