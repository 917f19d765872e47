"""The answers of the routes, compared with their schemas and with the predictions of the model itself."""

import hashlib
import io
import json

import httpx
import numpy as np
import pytest
from PIL import Image

from blemish.inference import load
from blemish.service import schemas


def ask(client, data, **params):
    response = client.post("/api/v1/predict", files={"image": data}, params=params)
    assert response.status_code == 200, response.text
    schemas.PredictionResponse.model_validate(response.json())
    return response.json()


def with_exif(orientation=6, gps=True):
    """Return an image of 40 x 30, stored as red above blue, with an orientation and a location."""
    image = Image.new("RGB", (40, 30), (220, 20, 20))
    image.paste((20, 20, 220), (0, 15, 40, 30))
    exif = Image.Exif()
    exif[0x0112] = orientation
    if gps:
        exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 36.0)})
    with io.BytesIO() as buffer:
        image.save(buffer, "JPEG", quality=95, exif=exif)
        return buffer.getvalue()


@pytest.mark.parametrize("model", ["resnet", "multilabel", "yolo", "masks"])
def test_predict_answer_equals_the_prediction(client, tools, model_folder, model):
    data = tools.image((180, 60, 90))
    answer = ask(client, data, model=model)
    expected = load(model_folder / f"{model}.onnx", threads=1).predict(data)
    assert answer["labels"] == expected.to_dict()["labels"]
    assert answer["size_hw"] == [30, 40]
    assert answer["sha256"] == hashlib.sha256(data).hexdigest()
    assert answer["model"] == model
    assert answer["model_digest"] == expected.model_digest
    assert answer["model_version"].endswith(expected.model_digest[:12])
    assert answer["decision"]["labels"] == [
        n for n, v in zip(expected.labels, expected.decide(), strict=True) if v
    ]
    if expected.boxes_xyxy is None:
        assert answer["detections"] is None
    else:
        np.testing.assert_allclose(
            [d["box_xyxy"] for d in answer["detections"]], expected.boxes_xyxy, atol=0.005
        )
        assert [d["score"] for d in answer["detections"]] == expected.scores.tolist()


def test_predict_detections_have_ids_decisions_and_areas(client, tools):
    answer = ask(client, tools.image(), model="masks")
    assert [d["id"] for d in answer["detections"]] == [1, 2, 3]
    # dent: .9 and .2, threshold .5; lamp: .4, threshold .3
    assert [d["positive"] for d in answer["detections"]] == [True, True, False]
    assert answer["decision"] == {"labels": ["dent", "lamp_broken"], "detections": [1, 2]}
    assert answer["detections"][1]["display_name"] == "Lamp Broken"
    for detection in answer["detections"]:
        assert detection["area_percent"] == pytest.approx(100 * detection["area"] / 1200, abs=1e-3)


def test_predict_polygons_equal_the_mask_with_its_hole(client, tools, model_folder):
    from matplotlib.path import Path as Outline

    data = tools.image(size=(400, 300))
    answer = ask(client, data, model="masks")
    expected = load(model_folder / "masks.onnx", threads=1).predict(data)
    from blemish.geometry import mask_to_array

    mask = mask_to_array(expected.masks[0])
    rows, columns = np.mgrid[0:300, 0:400] + 0.5
    points = np.stack([columns.ravel(), rows.ravel()], 1)
    inside = np.zeros(len(points), bool)
    for ring in answer["detections"][0]["polygons"]:
        inside ^= Outline(ring).contains_points(points)
    assert len(answer["detections"][0]["polygons"]) == 2
    both = (inside.reshape(300, 400) & mask).sum()
    assert both / (inside.reshape(300, 400) | mask).sum() > 0.99


def test_predict_boxes_without_masks(client, tools):
    detection = ask(client, tools.image(), model="yolo")["detections"][0]
    assert detection["polygons"] is None
    assert detection["area"] == pytest.approx(20 * 15, abs=0.5)  # 4 x 4 of 8 x 8 on 40 x 30


def test_predict_min_score(client, tools):
    answer = ask(client, tools.image(), model="yolo", min_score=0.3)
    assert [d["score"] for d in answer["detections"]] == pytest.approx([0.9, 0.4])
    assert answer["min_score"] == 0.3
    low = ask(client, tools.image(), model="yolo", min_score=0.01)
    assert low["min_score"] == low["min_score_available"] == 0.05


def test_filter_scores_selects_the_drawn_detections(model_folder, tools):
    prediction = load(model_folder / "masks.onnx", threads=1).predict(tools.image())
    assert prediction.scores.tolist() == pytest.approx([0.9, 0.4, 0.2])
    assert prediction.filter_scores().scores.tolist() == pytest.approx([0.9, 0.4])
    assert len(prediction.filter_scores(0.1)) == len(prediction.filter_scores(0.1).masks) == 3
    assert len(prediction.filter_scores(0.95)) == 0


def test_min_score_available_is_the_decoder_s(model_folder):
    from blemish.model_file import DecoderSpec, read_model_file
    from blemish.service.serializers import min_score_available

    contract = read_model_file(model_folder / "yolo.onnx").contract
    assert min_score_available(contract) == 0.05
    decoder = DecoderSpec(name="final", settings={"min_score": 0.01})
    assert min_score_available(contract.model_copy(update={"decoder": decoder})) == 0.01


def test_predict_default_model_is_the_first(client, tools):
    assert ask(client, tools.image())["model"] == "resnet"


def test_predict_accepts_the_field_file(client, tools):
    response = client.post("/api/v1/predict", files={"file": tools.image()})
    assert response.status_code == 200


def test_artifact_images_are_upright_and_without_location(client):
    data = with_exif(orientation=6)
    answer = ask(client, data)
    assert answer["size_hw"] == [40, 30]
    shown = client.get(answer["links"]["image"])
    assert shown.headers["content-type"] == "image/jpeg"
    image = Image.open(io.BytesIO(shown.content))
    assert image.size == (30, 40)
    assert not image.getexif()
    assert b"Exif" not in shown.content
    # stored as red above blue, rotated by 90 degrees clockwise: blue on the left
    pixels = np.asarray(image)
    assert pixels[20, 4, 2] > 150
    assert pixels[20, 26, 0] > 150
    overlay = Image.open(io.BytesIO(client.get(answer["links"]["overlay"]).content))
    assert overlay.height > overlay.width  # upright, and a strip with the scores below
    assert not overlay.getexif()
    boxes = Image.open(io.BytesIO(client.get(ask(client, data, model="yolo")["links"]["overlay"]).content))
    assert boxes.size == (30, 40)


def test_artifact_links_are_random(client, tools):
    data = tools.image()
    first, second = ask(client, data)["links"], ask(client, data)["links"]
    tokens = {
        link.rpartition("/")[2] for links in (first, second) for link in (links["image"], links["overlay"])
    }
    assert len(tokens) == 4
    assert min(map(len, tokens)) >= 43  # 256 bits in base 64
    headers = client.get(first["overlay"]).headers
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    other = client.get(first["overlay"][:-1] + ("A" if first["overlay"][-1] != "A" else "B"))
    assert (other.status_code, other.json()["code"]) == (404, "link-expired")


def test_heatmap_has_the_size_of_the_image_and_names_its_model(client, tools):
    for model in ("resnet", "fusion"):
        answer = ask(client, tools.image(size=(64, 48)), model=model, explain="heatmap")
        assert answer["heatmap"]["model"] == model
        assert answer["heatmap"]["label"] == answer["decision"]["labels"][0]
        gray = Image.open(io.BytesIO(client.get(answer["heatmap"]["grayscale"]).content))
        assert (gray.mode, gray.size) == ("L", (64, 48))
        assert Image.open(io.BytesIO(client.get(answer["heatmap"]["overlay"]).content)).size == (64, 48)
        assert answer["timing_ms"]["explaining"] > 0


def test_heatmap_is_white_at_the_highest_influence(client):
    image = Image.new("RGB", (64, 64), (60, 60, 60))
    image.paste((255, 60, 60), (40, 8, 56, 24))  # red is the first label, and only here
    with io.BytesIO() as buffer:
        image.save(buffer, "PNG")
        data = buffer.getvalue()
    answer = ask(client, data, explain="heatmap", label="F_Normal")
    gray = np.asarray(Image.open(io.BytesIO(client.get(answer["heatmap"]["grayscale"]).content)))
    assert answer["heatmap"]["empty"] is False
    row, column = np.unravel_index(int(gray.argmax()), gray.shape)
    assert 32 <= column < 64
    assert row < 32


def test_heatmap_without_influence_is_empty(client, tools):
    answer = ask(client, tools.image((100, 100, 100)), explain="heatmap")
    assert answer["heatmap"]["empty"] is True
    assert not np.asarray(Image.open(io.BytesIO(client.get(answer["heatmap"]["grayscale"]).content))).any()


def test_heatmap_of_a_detector_explains_the_best_label(client, tools):
    answer = ask(client, tools.image(), model="yolo", explain="heatmap")
    assert answer["heatmap"]["label"] == "dent"


def test_timing_stages_add_up_to_the_total(client, tools):
    timing = ask(client, tools.image())["timing_ms"]
    parts = sum(timing[stage] for stage in ("reading", "decoding", "waiting", "inferring", "explaining"))
    assert parts <= timing["total"] + 0.01


def test_stream_stages_are_in_order(client, tools):
    with client.stream(
        "POST",
        "/api/v1/predict",
        files={"image": tools.image()},
        params={"stream": True, "explain": "heatmap"},
    ) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in response.iter_lines()]
    assert [line["stage"] for line in lines] == ["decoding", "queued", "inferring", "explaining", "done"]
    elapsed = [line["elapsed_ms"] for line in lines]
    assert elapsed == sorted(elapsed)
    assert lines[2]["batch"] == 1
    for line in lines:
        schemas.StageLine.model_validate(line)


def test_stream_ends_with_the_problem(client):
    response = client.post(
        "/api/v1/predict", files={"image": b"\xff\xd8\xff nothing"}, params={"stream": True}
    )
    assert response.status_code == 200
    last = json.loads(response.text.splitlines()[-1])
    assert last["stage"] == "failed"
    assert last["problem"]["status"] == 422


def test_stream_refused_before_it_starts_has_the_status(client):
    response = client.post("/api/v1/predict", data={"other": "x"}, params={"stream": True})
    assert (response.status_code, response.json()["code"]) == (415, "not-multipart")


def test_batch_with_one_bad_image(client, tools):
    good = [tools.image((10 * i, 99, 250 - 10 * i)) for i in range(5)]
    files = [("image", good[0]), ("file", b"not an image"), *(("image", data) for data in good[1:])]
    response = client.post("/api/v1/predict:batch", files=files)
    assert response.status_code == 200
    schemas.BatchResponse.model_validate(response.json())
    items = response.json()["items"]
    assert [item["status"] for item in items] == [200, 415, 200, 200, 200, 200]
    hashes = [item["result"]["sha256"] for item in items if item["result"]]
    assert hashes == [hashlib.sha256(data).hexdigest() for data in good]


def test_request_id_is_returned(client, tools):
    response = client.post(
        "/api/v1/predict", files={"image": tools.image()}, headers={"X-Request-ID": "claim-17.b_2"}
    )
    assert response.headers["x-request-id"] == response.json()["request_id"] == "claim-17.b_2"
    other = client.get("/api/v1/limits", headers={"X-Request-ID": "x" * 65})
    assert other.headers["x-request-id"] != "x" * 65


def test_models_description_contains_no_path(client):
    answer = client.get("/api/v1/models")
    schemas.ModelList.model_validate(answer.json())
    assert answer.json()["default"] == "resnet"
    assert "/home/" not in answer.text
    one = client.get("/api/v1/models/yolo").json()
    schemas.ModelInfo.model_validate(one)
    assert one["certificate"] is None
    assert one["labels"][1] == {
        "label": "lamp_broken",
        "display_name": "Lamp Broken",
        "threshold": 0.3,
        "reliable": True,
    }
    assert {"schema_version": 1, **answer.json()["models"][3]} == one
    first = answer.json()["models"][0]
    assert first["certificate"]["passed"] is True
    assert first["created"] == "2026-01-30"


def test_health_limits_and_metrics_routes(client, tools):
    assert client.get("/api/v1/health/live").json() == {"schema_version": 1, "status": "live"}
    assert set(client.get("/api/v1/health/ready").json()["models"]) >= {"resnet", "yolo"}
    schemas.Limits.model_validate(client.get("/api/v1/limits").json())
    ask(client, tools.image())
    text = client.get("/metrics").text
    assert 'blemish_requests_total{route="/api/v1/predict",status="200"}' in text
    assert 'blemish_batch_size_count{model="resnet"}' in text
    assert "blemish_upload_bytes 0.0" in text
    assert "_created" not in text


def test_start_page_for_browsers_and_json_for_others(client):
    assert client.get("/").json() == {"status": "API is running"}
    page = client.get("/", headers={"Accept": "text/html,application/xhtml+xml"})
    assert page.headers["vary"] == "Accept"
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]


def test_page_files_outside_of_the_folder_are_refused(client, address):
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/page/..%2fapp.py"):
        request = httpx.Request("GET", address + path)
        assert client.send(request).status_code == 404


def test_middleware_adds_security_headers(client):
    for path in ("/", "/docs", "/api/v1/models", "/nothing", "/openapi.json"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/health/live", "/api/v1/health/ready", "/docs", "/openapi.json"]
)
def test_middleware_answers_head_like_get_without_the_body(client, path):
    get, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length", "content-security-policy"):
        assert head.headers[name] == get.headers[name]
    assert client.head("/api/v1/predict").status_code == 405


def test_middleware_redirects_to_this_server_only(client):
    for headers in ({}, {"Host": "elsewhere.example"}):
        redirect = client.get("/docs/?a=1", headers=headers)
        assert (redirect.status_code, redirect.headers["location"]) == (307, "/docs?a=1")


def test_predict_warns_of_unused_bits(client, tools):
    assert ask(client, tools.image())["warnings"] == []
    with io.BytesIO() as buffer:
        Image.fromarray(np.linspace(0, 4095, 1200).astype(np.uint16).reshape(30, 40)).save(buffer, "PNG")
        answer = ask(client, buffer.getvalue())
    assert "white is 4095" in answer["warnings"][0]
