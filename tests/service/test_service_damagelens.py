"""DamageLens' clients: requests as they send them, answers as they read them."""

import io
import re
import time

import httpx
import pytest
from PIL import Image

from blemish.service.app import create_app

LINK = re.compile(r"/static/(uploads|results)/[\w-]{43,}")

# Each pair as one of DamageLens' clients has it: the request, and the answer with `<link>` for an address
# of a picture and `<p>` for a probability. The tiny models say red, green, blue in the order of their labels.
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
    """A client of a server with the three models DamageLens has."""
    folder = tmp_path_factory.mktemp("lens")
    names, display_names = (
        ("F_Normal", "F_Crushed", "R_Crushed"),
        ("Front Normal", "Front Crushed", "Rear Crushed"),
    )
    tools.write_classifier(folder / "resnet.onnx", names, display_names)
    turned = (names[2:] + names[:2], display_names[2:] + display_names[:2])
    tools.write_classifier(folder / "fusion.onnx", *turned)
    tools.write_detector(folder / "yolo.onnx")
    models = {name: folder / f"{name}.onnx" for name in ("resnet", "fusion", "yolo")}
    with (
        tools.running(create_app(models, threads=1)) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        yield client


def masked(answer):
    """An answer with its probabilities and links replaced by what they are."""
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
def test_recorded_pairs(lens, tools, field, request_, expected):
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
            assert list(answer[key]) == list(expected[key])  # sorted by probability, the titles in order
            answer[key] = dict.fromkeys(answer[key], "<p>")
    assert answer == expected


def test_boxes_below_a_score_of_5_percent_are_not_listed(lens, tools, model_folder):
    from dataclasses import replace

    from blemish.contrib.damagelens.legacy_routes import detections
    from blemish.inference import load

    prediction = load(model_folder / "yolo.onnx", threads=1).predict(tools.image())
    assert len(detections(prediction)) == 3
    assert len(detections(replace(prediction, scores=prediction.scores / 5))) == 2  # .18, .08, .04


def test_titles_are_sorted_by_probability(lens, tools):
    for colour, first in (
        ((220, 60, 30), "Front Normal"),
        ((30, 60, 220), "Rear Crushed"),
        ((60, 220, 30), "Front Crushed"),
    ):
        answer = lens.post("/predict/resnet", files={"file": tools.image(colour)}).json()
        assert next(iter(answer["prediction"])) == first


def test_pictures_open_and_are_upright_without_metadata(lens, tools):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = tools.image(kind="JPEG", exif=exif)
    answer = lens.post("/predict/comprehensive", files={"image": data}).json()
    for link in (answer["original_image"], answer["yolo"]["image"], answer["gradcam"]):
        response = lens.get(link)
        assert response.status_code == 200, response.text
        picture = Image.open(io.BytesIO(response.content))
        assert picture.size == (30, 40)
        assert not picture.getexif()


def test_the_map_is_made_by_the_model_that_answered(lens, tools):
    image = Image.new("RGB", (64, 64), (60, 60, 60))
    image.paste((255, 60, 60), (40, 8, 56, 24))
    image.paste((60, 60, 255), (8, 40, 24, 56))
    with io.BytesIO() as buffer:
        image.save(buffer, "PNG")
        data = buffer.getvalue()
    views = [
        lens.post("/predict", params={"mode": mode}, files={"file": data}).json()
        for mode in ("resnet", "fusion")
    ]
    pictures = [lens.get(view["selected_viz"]).content for view in views]
    assert views[0]["selected_viz"] == views[0]["resnet_viz"]
    assert views[1]["selected_viz"] == views[1]["fusion_viz"]
    assert pictures[0] == lens.get(views[0]["resnet_viz"]).content
    # red is Front Normal for one and Rear Crushed for the other, blue likewise: both look at what they named
    assert len(pictures[0]) > 100


def test_refusals_are_a_detail(lens):
    for path in ("/predict/resnet", "/predict", "/predict/yolo", "/predict/comprehensive"):
        for files, status in (({"image": b"no photograph"}, 415), ({"other": b"x"}, 422)):
            response = lens.post(path, files=files)
            assert response.status_code == status
            assert list(response.json()) == ["detail"]
            assert isinstance(response.json()["detail"], str)
    assert lens.post("/predict", params={"mode": "vgg"}, files={"image": b""}).json().keys() == {"detail"}
    assert lens.get("/static/results/nothing").json().keys() == {"detail"}


def test_a_model_that_is_not_served_is_named(client, tmp_path, tools):
    tools.write_classifier(tmp_path / "resnet.onnx")
    with tools.running(create_app({"resnet": tmp_path / "resnet.onnx"}, threads=1)) as address:
        answer = httpx.post(f"{address}/predict/yolo", files={"image": tools.image()})
        assert answer.status_code == 404
        assert "'yolo'" in answer.json()["detail"]


def test_a_classifier_served_as_yolo_is_refused(tmp_path, tools):
    tools.write_classifier(tmp_path / "model.onnx")
    with tools.running(create_app({"yolo": tmp_path / "model.onnx"}, threads=1)) as address:
        answer = httpx.post(f"{address}/predict/yolo", files={"image": tools.image()})
        assert answer.status_code == 404


def test_the_sign_of_life(lens):
    assert lens.get("/").json() == {"status": "API is running"}


def test_what_the_first_model_took_is_no_reading_of_the_second(model_folder, tools):
    names = ("resnet", "yolo")
    app = create_app({name: model_folder / f"{name}.onnx" for name in names}, threads=1)
    served = app.state.desk.models["resnet"]
    look = served.look

    def slowly(batch):
        time.sleep(0.5)
        return look(batch)

    served.look = slowly
    with tools.running(app) as address:
        httpx.post(f"{address}/predict/comprehensive", files={"image": tools.image()}).raise_for_status()
        counted = httpx.get(f"{address}/metrics").text
    spent = {
        model: float(re.search(rf'stage_seconds_sum{{model="{model}",stage="reading"}} (\S+)', counted)[1])
        for model in names
    }
    assert spent["yolo"] == spent["resnet"] < 0.4
