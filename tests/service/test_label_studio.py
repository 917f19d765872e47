"""The machine learning backend of Label Studio, with requests as its server sends them."""

import http.server
import io
import json
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.service.conftest import get, image, post, running

from blemish.service.app import create_app
from blemish.service.label_studio import ImageSource, read_interface
from blemish.service.settings import Settings
from blemish.testing import raises

RECTANGLES = """<View><Image name="img" value="$photo"/><RectangleLabels name="box" toName="img">
<Label value="dent" background="red"/><Label value="lamp_broken"/></RectangleLabels></View>"""
BRUSH = RECTANGLES.replace("RectangleLabels", "BrushLabels")
POLYGONS = RECTANGLES.replace("RectangleLabels", "PolygonLabels")
CHOICES = """<View><Image name="img" value="$photo"/><Choices name="c" toName="img" choice="single">
<Choice value="F_Normal"/><Choice value="F_Crushed"/><Choice value="R_Crushed"/></Choices></View>"""


def request(config, *addresses):
    """Return the request of a prediction as `label_studio.ml.api_connector` makes it."""
    return {
        "tasks": [
            {"id": 11 + i, "data": {"photo": address}, "annotations": [], "predictions": [], "project": 1}
            for i, address in enumerate(addresses)
        ],
        "model_version": "",
        "project": "1.1767225600",
        "label_config": config,
        "params": {"login": None, "password": None, "context": None},
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("media")
    (root / "cars").mkdir()
    (root / "cars/a b.png").write_bytes(image((250, 0, 0)))
    (root / "cars/big.png").write_bytes(b"\0" * 5000)
    return root


@pytest.fixture(scope="module")
def address(model_folder, files):
    settings = Settings(label_studio_root=files)
    names = ("yolo", "masks", "resnet")
    models = {name: model_folder / f"{name}.onnx" for name in names}
    with running(create_app(models, settings, threads=1)) as address:
        yield f"{address}/label-studio"


PHOTO = "/data/local-files/?d=cars/a%20b.png"


def test_health_setup_and_versions(address):
    assert get(f"{address}/health").json()["status"] == "UP"
    sent = {
        "project": "1.1767225600",
        "schema": RECTANGLES,
        "hostname": "http://localhost:8080",
        "access_token": "t",
    }
    version = post(f"{address}/setup", json=sent).json()["model_version"]
    assert version.startswith("tiny-detector@")
    assert post(f"{address}/versions", json={"project": "1"}).json() == {"versions": [version]}
    assert get(f"{address}/models/resnet/health").json()["model_version"].startswith("tiny@")
    refused = post(f"{address}/setup", json={**sent, "schema": "<View/>"})
    assert (refused.status_code, refused.json()["code"]) == (400, "label-studio.interface")


def test_predict_rectangles_at_their_thresholds(address):
    answer = post(f"{address}/predict", json=request(RECTANGLES, PHOTO, PHOTO)).json()
    assert [entry["model_version"] for entry in answer["results"]] == [answer["model_version"]] * 2
    dent, lamp = answer["results"][0]["result"]  # the third box is below its threshold
    assert (dent["from_name"], dent["to_name"], dent["type"]) == ("box", "img", "rectanglelabels")
    value = dent["value"]
    assert value["rectanglelabels"] == ["dent"] and dent["score"] == pytest.approx(0.9)
    corner = [value[key] for key in ("x", "y", "width", "height")]
    np.testing.assert_allclose(corner, [12.5, 12.5, 50, 50], atol=0.01)
    assert (dent["original_width"], dent["original_height"]) == (40, 30)
    assert answer["results"][0]["score"] == lamp["score"] == pytest.approx(0.4)
    assert len({region["id"] for entry in answer["results"] for region in entry["result"]}) == 4


@pytest.mark.parametrize(
    ("config", "kind"), [(BRUSH, "brushlabels"), (POLYGONS, "polygonlabels"), (RECTANGLES, "rectanglelabels")]
)
def test_predict_masks_as_the_interface_shows_them(address, config, kind):
    answer = post(f"{address}/models/masks/predict", json=request(config, PHOTO)).json()
    assert {region["type"] for region in answer["results"][0]["result"]} == {kind}


def test_predict_choices_and_only_labels_of_the_interface(address):
    answer = post(f"{address}/models/resnet/predict", json=request(CHOICES, PHOTO)).json()
    (choice,) = answer["results"][0]["result"]
    assert (choice["type"], choice["value"]) == ("choices", {"choices": ["F_Normal"]})
    config = CHOICES.replace('<Choice value="F_Normal"/>', "")
    answer = post(f"{address}/models/resnet/predict", json=request(config, PHOTO)).json()
    assert answer["results"][0]["result"] == []


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (request(CHOICES, PHOTO), "label-studio.interface"),
        (request("<View>", PHOTO), "label-studio.interface"),
        (request('<!DOCTYPE x [<!ENTITY a "b">]><View/>', PHOTO), "label-studio.interface"),
        (request(RECTANGLES, "/data/local-files/?d=../secret.png"), "label-studio.image"),
        (request(RECTANGLES, "/data/local-files/?d=/etc/hostname"), "label-studio.image"),
        (request(RECTANGLES, "http://169.254.169.254/latest"), "label-studio.image"),
        (request(RECTANGLES, "file:///etc/hostname"), "label-studio.image"),
        (request(RECTANGLES, 3), "label-studio.image"),
        ({"tasks": 3}, "label-studio.tasks"),
        ([], "label-studio.json"),
    ],
)
def test_predict_refuses_by_name(address, content, code):
    response = post(f"{address}/predict", json=content)
    assert (response.status_code, response.json()["code"]) == (400, code)


def test_images_are_fetched_from_the_one_server_with_its_token(monkeypatch):
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers["Authorization"]))
            if "elsewhere" in self.path:
                self.send_response(302)
                self.send_header("Location", "/data/upload/1/a.png")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(image())

        def log_message(self, *_):
            pass

    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "secret")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        source = ImageSource(Settings(label_studio_url=url))
        for address in ("/data/upload/1/a b.png", f"{url}/data/upload/1/a.png"):
            with Image.open(io.BytesIO(source.read(address))) as found:
                assert found.size == (40, 30)
        assert seen[0] == ("/data/upload/1/a%20b.png", "Token secret")
        for address in ("//127.0.0.1/a.png", f"{url}.example/a.png", f"{url}/elsewhere"):
            with raises("label-studio.image"):
                source.read(address)
        with raises("upload-too-large"):
            ImageSource(Settings(label_studio_url=url, max_upload_bytes=10)).read("/data/upload/a.png")
        server.shutdown()


def test_a_large_local_file_is_refused(files):
    with raises("upload-too-large"):
        ImageSource(Settings(label_studio_root=files, max_upload_bytes=100)).read(
            "/data/local-files/?d=cars/big.png"
        )
    with raises("bad-input.label-studio-url"):
        Settings(label_studio_url="localhost")


def test_read_interface_reads_the_controls_of_the_first_image():
    found = read_interface(RECTANGLES)
    assert (found.image, found.key) == ("img", "photo")
    assert found.controls == {"rectanglelabels": ("box", frozenset({"dent", "lamp_broken"}))}


RECORDED = json.loads((Path(__file__).parent / "recordings" / "label_studio_1_23_2.json").read_text())


def test_requests_recorded_from_the_server_of_label_studio(model_folder):
    """Those that label-studio 1.23.2 sent when a user connected the service and retrieved predictions."""
    fetched = []

    class Media(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            fetched.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(image((250, 0, 0)))

        def log_message(self, *_):
            pass

    answers = {}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Media) as media:
        threading.Thread(target=media.serve_forever, args=(0.01,), daemon=True).start()
        settings = Settings(label_studio_url=f"http://127.0.0.1:{media.server_address[1]}")
        models = {name: model_folder / f"{name}.onnx" for name in ("yolo", "resnet")}
        with running(create_app(models, settings, threads=1)) as address:
            for sent in RECORDED:
                send = get if sent["method"] == "GET" else partial(post, json=sent["body"])
                response = send(f"{address}{sent['path']}", headers=sent["headers"])
                assert response.status_code == 200, (sent["path"], response.text)
                answers[sent["path"].removeprefix("/label-studio/models/")] = response.json()
        media.shutdown()
    kinds = {"yolo": "rectanglelabels", "resnet": "choices"}
    for name, kind in kinds.items():
        assert answers[f"{name}/health"]["status"] == "UP"
        version = answers[f"{name}/setup"]["model_version"]
        results = answers[f"{name}/predict"]["results"]
        assert [entry["model_version"] for entry in results] == [version] * 2
        assert {region["type"] for entry in results for region in entry["result"]} == {kind}
    assert len(fetched) == 4 and all(path.startswith("/data/upload/") for path in fetched)
