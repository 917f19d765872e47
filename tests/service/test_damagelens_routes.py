"""The routes of the DamageLens plug-in: requests and answers of its existing clients."""

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from PIL import Image

from blemish.contrib.damagelens import damagelens_routes
from blemish.service.app import create_app

LINK = re.compile(r"/static/(uploads|results)/[\w-]{43,}")

# Requests of DamageLens' clients with their answers, in which `<link>` is the link of an image and `<p>` a
# probability. The labels of the tiny models stand for red, green and blue, in this order.
PAIRS = [
    (
        ("/predict/resnet", {}),
        {
            "status": "success",
            "prediction": {"Front Normal": "<p>", "Front Crushed": "<p>", "Rear Crushed": "<p>"},
        },
    ),
    (
        ("/predict/fusion", {}),
        {
            "status": "success",
            "prediction": {"Rear Crushed": "<p>", "Front Normal": "<p>", "Front Crushed": "<p>"},
        },
    ),
    (
        ("/predict", {"mode": "resnet"}),
        {
            "status": "success",
            "mode": "resnet",
            "original_image": "<link>",
            "selected_viz": "<link>",
            "resnet_viz": "<link>",
            "fusion_viz": None,
        },
    ),
    (
        ("/predict", {"mode": "fusion"}),
        {
            "status": "success",
            "mode": "fusion",
            "original_image": "<link>",
            "selected_viz": "<link>",
            "resnet_viz": None,
            "fusion_viz": "<link>",
        },
    ),
    (
        ("/predict/yolo", {}),
        {
            "status": "success",
            "original_image": "<link>",
            "yolo_image": "<link>",
            "detections": [
                {"label": "Dent", "confidence": 0.9, "box": [5, 4, 25, 19]},
                {"label": "Lamp Broken", "confidence": 0.4, "box": [20, 15, 40, 30]},
                {"label": "Dent", "confidence": 0.2, "box": [0, 0, 10, 8]},
            ],
            "total_detections": 3,
            "message": "Detections found",
        },
    ),
    (
        ("/predict/gradcam", {"mode": "fusion"}),
        {"status": "success", "original_image": "<link>", "gradcam_image": "<link>"},
    ),
    (
        ("/predict/comprehensive", {"mode": "resnet"}),
        {
            "status": "success",
            "mode": "resnet",
            "original_image": "<link>",
            "classification": {"Front Normal": "<p>", "Front Crushed": "<p>", "Rear Crushed": "<p>"},
            "yolo": {
                "image": "<link>",
                "detections": [
                    {"label": "Dent", "confidence": 0.9, "box": [5, 4, 25, 19]},
                    {"label": "Lamp Broken", "confidence": 0.4, "box": [20, 15, 40, 30]},
                    {"label": "Dent", "confidence": 0.2, "box": [0, 0, 10, 8]},
                ],
                "total_detections": 3,
            },
            "gradcam": "<link>",
        },
    ),
]


@pytest.fixture(scope="module")
def lens(tmp_path_factory, tools):
    """A client of a server with the three models of DamageLens."""
    folder = tmp_path_factory.mktemp("lens")
    names, display_names = (
        ("F_Normal", "F_Crushed", "R_Crushed"),
        ("Front Normal", "Front Crushed", "Rear Crushed"),
    )
    tools.write_classifier(folder / "resnet.onnx", names, display_names)
    rotated = (names[2:] + names[:2], display_names[2:] + display_names[:2])
    tools.write_classifier(folder / "fusion.onnx", *rotated)
    tools.write_detector(folder / "yolo.onnx")
    models = {name: folder / f"{name}.onnx" for name in ("resnet", "fusion", "yolo")}
    with (
        tools.running(create_app(models, threads=1)) as address,
        httpx.Client(base_url=address, timeout=tools.timeout_seconds) as client,
    ):
        yield client


def masked(answer):
    """Return an answer with its links replaced by `<link>`."""
    if isinstance(answer, dict):
        return {key: masked(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [masked(value) for value in answer]
    if isinstance(answer, str) and LINK.fullmatch(answer):
        return "<link>"
    return answer


@pytest.mark.parametrize("field", ["image", "file"])
@pytest.mark.parametrize(
    ("request_", "expected"), PAIRS, ids=[f"{path}-{p.get('mode', '')}" for (path, p), _ in PAIRS]
)
def test_damagelens_answers_are_as_recorded(lens, tools, field, request_, expected):
    path, parameters = request_
    response = lens.post(
        path, params=parameters, files={field: ("car.jpg", tools.image((220, 120, 30)), "image/jpeg")}
    )
    assert response.status_code == 200
    answer = masked(response.json())
    for key in ("prediction", "classification"):
        if key in answer:
            scores = list(answer[key].values())
            assert scores == sorted(scores, reverse=True)
            assert sum(scores) == pytest.approx(1, abs=2e-4)
            assert all(score == round(score, 4) for score in scores)
            assert list(answer[key]) == list(expected[key])  # sorted by probability
            answer[key] = dict.fromkeys(answer[key], "<p>")
    assert answer == expected


def test_detections_leaves_out_scores_below_5_percent(lens, tools, model_folder):
    from dataclasses import replace

    from blemish.contrib.damagelens.damagelens_routes import detections
    from blemish.inference import load

    prediction = load(model_folder / "yolo.onnx", threads=1).predict(tools.image())
    assert len(detections(prediction)) == 3
    assert len(detections(replace(prediction, scores=prediction.scores / 5))) == 2  # .18, .08, .04


def test_probabilities_are_sorted(lens, tools):
    for color, first in (
        ((220, 60, 30), "Front Normal"),
        ((30, 60, 220), "Rear Crushed"),
        ((60, 220, 30), "Front Crushed"),
    ):
        answer = lens.post("/predict/resnet", files={"file": tools.image(color)}).json()
        assert next(iter(answer["prediction"])) == first


def test_damagelens_images_are_upright_and_without_metadata(lens, tools):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = tools.image(kind="JPEG", exif=exif)
    answer = lens.post("/predict/comprehensive", files={"image": data}).json()
    for link in (answer["original_image"], answer["yolo"]["image"], answer["gradcam"]):
        response = lens.get(link)
        assert response.status_code == 200, response.text
        image = Image.open(io.BytesIO(response.content))
        assert image.size == (30, 40)
        assert not image.getexif()


def test_damagelens_heatmap_is_of_the_selected_model(model_folder, tools, monkeypatch):
    names = ("resnet", "fusion")
    app = create_app({name: model_folder / f"{name}.onnx" for name in names}, threads=1)
    service = app.state.service
    compute, predictors = service._heatmaps.compute, []

    def recording_compute(predictor, *args):
        predictors.append(predictor)
        return compute(predictor, *args)

    monkeypatch.setattr(service._heatmaps, "compute", recording_compute)
    with tools.running(app) as address:
        for mode in names:
            answer = tools.post(
                f"{address}/predict", params={"mode": mode}, files={"file": tools.image()}
            ).json()
            assert answer["selected_viz"] == answer[f"{mode}_viz"]
            assert Image.open(io.BytesIO(tools.get(address + answer["selected_viz"]).content)).size == (
                40,
                30,
            )
            assert predictors.pop() is service.models[mode].predictor


def test_damagelens_refusals_have_a_detail(lens):
    for path in ("/predict/resnet", "/predict", "/predict/yolo", "/predict/comprehensive"):
        for files, status in (({"image": b"not an image"}, 415), ({"other": b"x"}, 422)):
            response = lens.post(path, files=files)
            assert response.status_code == status
            assert list(response.json()) == ["detail"]
            assert isinstance(response.json()["detail"], str)
    assert lens.post("/predict", params={"mode": "vgg"}, files={"image": b""}).json().keys() == {"detail"}
    assert lens.get("/static/results/nothing").json().keys() == {"detail"}


def test_damagelens_missing_model_is_named(client, tmp_path, tools):
    tools.write_classifier(tmp_path / "resnet.onnx")
    with tools.running(create_app({"resnet": tmp_path / "resnet.onnx"}, threads=1)) as address:
        answer = tools.post(f"{address}/predict/yolo", files={"image": tools.image()})
        assert answer.status_code == 404
        assert "'yolo'" in answer.json()["detail"]


def test_damagelens_classifier_served_as_yolo_is_refused(tmp_path, tools):
    tools.write_classifier(tmp_path / "model.onnx")
    with tools.running(create_app({"yolo": tmp_path / "model.onnx"}, threads=1)) as address:
        answer = tools.post(f"{address}/predict/yolo", files={"image": tools.image()})
        assert answer.status_code == 404


def test_damagelens_status(lens):
    assert lens.get("/").json() == {"status": "API is running"}


def test_damagelens_upload_time_excludes_the_first_model(model_folder, tools, monkeypatch):
    names = ("resnet", "yolo")
    app = create_app({name: model_folder / f"{name}.onnx" for name in names}, threads=1)
    offset = [0.0]  # seconds that the clock of the routes is ahead
    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + offset[0])
    monkeypatch.setattr(damagelens_routes, "time", clock)
    served = app.state.service.models["resnet"]
    predict_batch = served.predict_batch

    def slow_batch(batch):
        offset[0] += 1000
        return predict_batch(batch)

    served.predict_batch = slow_batch
    with tools.running(app) as address:
        tools.post(f"{address}/predict/comprehensive", files={"image": tools.image()}).raise_for_status()
        metrics = tools.get(f"{address}/metrics").text
    pattern = r'blemish_stage_seconds_sum{{model="{}",stage="reading"}} (\S+)'
    seconds = {model: float(re.search(pattern.format(model), metrics)[1]) for model in names}
    assert offset[0] >= 1000
    assert seconds["yolo"] == seconds["resnet"] < 1000


def test_damagelens_plugin_is_declared_as_an_entry_point(tmp_path):
    """The container runs from source code, with the metadata that tools/write_metadata.py writes."""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, root / "tools" / "write_metadata.py", tmp_path], check=True)
    code = (
        "from blemish.registry import installed_plugins as f; import sys; "
        "print([(p.kind, p.name, p.error) for p in f()], 'fastapi' in sys.modules)"
    )
    path = os.pathsep.join([str(tmp_path), str(root / "src")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "('routes', 'damagelens', '')" in done.stdout
    assert done.stdout.strip().endswith("False")  # listing plug-ins does not need the extra `serve`


@pytest.mark.parametrize("path", ["/predict", "/predict/comprehensive", "/predict/gradcam"])
def test_mode_as_a_form_field(client, tools, path):
    files = {"image": tools.image()}
    answer = client.post(path, data={"mode": "fusion"}, files=files)
    assert answer.status_code == 200
    assert answer.json().get("mode", "fusion") == "fusion"
    assert client.post(path, params={"mode": "fusion"}, data={"mode": "fusion"}, files=files).is_success
    for query, field in (({}, "vgg"), ({"mode": "resnet"}, "fusion")):
        refused = client.post(path, params=query, data={"mode": field}, files=files)
        assert (refused.status_code, list(refused.json())) == (422, ["detail"])
