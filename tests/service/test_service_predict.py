"""What is answered, held against the shapes that are promised and against the model itself."""

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
    """An image of 40 x 30 stored, red above blue as stored, with an orientation and a place."""
    image = Image.new("RGB", (40, 30), (220, 20, 20))
    image.paste((20, 20, 220), (0, 15, 40, 30))
    exif = Image.Exif()
    exif[0x0112] = orientation
    if gps:
        exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 36.0)})
    with io.BytesIO() as buffer:
        image.save(buffer, "JPEG", quality=95, exif=exif)
        return buffer.getvalue()


@pytest.mark.parametrize("model", ["resnet", "several", "yolo", "masks"])
def test_the_answer_is_the_model_s_own(client, tools, model_folder, model):
    data = tools.image((180, 60, 90))
    answer = ask(client, data, model=model)
    ground_truth = load(model_folder / f"{model}.onnx", threads=1).predict(data)
    said = ground_truth.to_dict()
    assert answer["labels"] == said["labels"]
    assert answer["size_hw"] == [30, 40]
    assert answer["sha256"] == hashlib.sha256(data).hexdigest()
    assert answer["model"] == model
    assert answer["model_digest"] == ground_truth.model_digest
    assert answer["model_version"].endswith(ground_truth.model_digest[:12])
    assert answer["verdict"]["labels"] == [
        n for n, v in zip(ground_truth.labels, ground_truth.decide(), strict=True) if v
    ]
    if ground_truth.boxes_xyxy is None:
        assert answer["objects"] is None
    else:
        np.testing.assert_allclose(
            [o["box_xyxy"] for o in answer["objects"]], ground_truth.boxes_xyxy, atol=0.005
        )
        assert [o["score"] for o in answer["objects"]] == ground_truth.scores.tolist()


def test_objects_are_numbered_judged_and_measured(client, tools):
    answer = ask(client, tools.image(), model="masks")
    assert [o["id"] for o in answer["objects"]] == [1, 2, 3]
    # dent .9 and .2 against .5, lamp .4 against .3
    assert [o["verdict"] for o in answer["objects"]] == [True, True, False]
    assert answer["verdict"] == {"labels": ["dent", "lamp_broken"], "objects": [1, 2]}
    assert answer["objects"][1]["title"] == "Lamp Broken"
    for found in answer["objects"]:
        assert found["area_percent"] == pytest.approx(100 * found["area"] / 1200, abs=1e-3)


def test_outlines_filled_by_the_even_odd_rule_are_the_mask_with_its_hole(client, tools, model_folder):
    from matplotlib.path import Path as Outline

    data = tools.image(size=(400, 300))
    answer = ask(client, data, model="masks")
    ground_truth = load(model_folder / "masks.onnx", threads=1).predict(data)
    from blemish.geometry import mask_to_array

    mask = mask_to_array(ground_truth.masks[0])
    rows, columns = np.mgrid[0:300, 0:400] + 0.5
    points = np.stack([columns.ravel(), rows.ravel()], 1)
    inside = np.zeros(len(points), bool)
    for ring in answer["objects"][0]["polygons"]:
        inside ^= Outline(ring).contains_points(points)
    assert len(answer["objects"][0]["polygons"]) == 2
    both = (inside.reshape(300, 400) & mask).sum()
    assert both / (inside.reshape(300, 400) | mask).sum() > 0.99


def test_boxes_without_masks_have_no_outline_and_the_area_of_the_box(client, tools):
    found = ask(client, tools.image(), model="yolo")["objects"][0]
    assert found["polygons"] is None
    assert found["area"] == pytest.approx(20 * 15, abs=0.5)  # 4 x 4 of 8 x 8 on 40 x 30


def test_min_score_leaves_out_objects_and_never_goes_below_the_floor(client, tools):
    answer = ask(client, tools.image(), model="yolo", min_score=0.3)
    assert [o["score"] for o in answer["objects"]] == pytest.approx([0.9, 0.4])
    assert answer["min_score"] == 0.3
    low = ask(client, tools.image(), model="yolo", min_score=0.01)
    assert low["min_score"] == low["score_floor"] == 0.05


def test_pictures_show_what_holds_or_what_was_asked_for(model_folder, tools):
    prediction = load(model_folder / "masks.onnx", threads=1).predict(tools.image())
    assert prediction.scores.tolist() == pytest.approx([0.9, 0.4, 0.2])
    assert prediction.filter_scores().scores.tolist() == pytest.approx([0.9, 0.4])
    assert len(prediction.filter_scores(0.1)) == len(prediction.filter_scores(0.1).masks) == 3
    assert len(prediction.filter_scores(0.95)) == 0


def test_the_floor_is_the_decoder_s_where_it_has_one(model_folder):
    from blemish.model_file import DecoderSpec, read_model_file
    from blemish.service.serializers import min_available_score

    contract = read_model_file(model_folder / "yolo.onnx").contract
    assert min_available_score(contract) == 0.05
    decoder = DecoderSpec(name="final", settings={"min_score": 0.01})
    assert min_available_score(contract.model_copy(update={"decoder": decoder})) == 0.01


def test_the_first_model_answers_where_none_is_named(client, tools):
    assert ask(client, tools.image())["model"] == "resnet"


def test_both_fields_are_read(client, tools):
    response = client.post("/api/v1/predict", files={"file": tools.image()})
    assert response.status_code == 200


def test_the_upright_image_is_judged_and_shown_and_its_place_is_not(client):
    data = with_exif(orientation=6)
    answer = ask(client, data)
    assert answer["size_hw"] == [40, 30]
    shown = client.get(answer["links"]["photograph"])
    assert shown.headers["content-type"] == "image/jpeg"
    picture = Image.open(io.BytesIO(shown.content))
    assert picture.size == (30, 40)
    assert not picture.getexif()
    assert b"Exif" not in shown.content
    # stored red above blue, turned by 90 degrees clockwise: blue on the left
    assert picture.getpixel((4, 20))[2] > 150
    assert picture.getpixel((26, 20))[0] > 150
    overlay = Image.open(io.BytesIO(client.get(answer["links"]["overlay"]).content))
    assert overlay.height > overlay.width  # upright, and a strip with the scores below
    assert not overlay.getexif()
    boxes = Image.open(io.BytesIO(client.get(ask(client, data, model="yolo")["links"]["overlay"]).content))
    assert boxes.size == (30, 40)


def test_links_are_private_and_unguessable(client, tools):
    data = tools.image()
    first, second = ask(client, data)["links"], ask(client, data)["links"]
    tokens = {
        link.rpartition("/")[2]
        for links in (first, second)
        for link in (links["photograph"], links["overlay"])
    }
    assert len(tokens) == 4
    assert min(map(len, tokens)) >= 43  # 256 bits in base 64
    headers = client.get(first["overlay"]).headers
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    gone = client.get(first["overlay"][:-1] + ("A" if first["overlay"][-1] != "A" else "B"))
    assert (gone.status_code, gone.json()["code"]) == (404, "link_expired")


def test_a_map_is_the_image_s_size_and_made_by_the_model_that_answered(client, tools):
    for model in ("resnet", "fusion"):
        answer = ask(client, tools.image(size=(64, 48)), model=model, explain="map")
        assert answer["map"]["model"] == model
        assert answer["map"]["label"] == answer["verdict"]["labels"][0]
        grey = Image.open(io.BytesIO(client.get(answer["map"]["map"]).content))
        assert (grey.mode, grey.size) == ("L", (64, 48))
        assert Image.open(io.BytesIO(client.get(answer["map"]["overlay"]).content)).size == (64, 48)
        assert answer["timing_ms"]["explaining"] > 0


def test_a_map_is_white_where_it_matters(client):
    image = Image.new("RGB", (64, 64), (60, 60, 60))
    image.paste((255, 60, 60), (40, 8, 56, 24))  # red is the first label, and only here
    with io.BytesIO() as buffer:
        image.save(buffer, "PNG")
        data = buffer.getvalue()
    answer = ask(client, data, explain="map", label="F_Normal")
    grey = np.asarray(Image.open(io.BytesIO(client.get(answer["map"]["map"]).content)))
    assert answer["map"]["empty"] is False
    row, column = np.unravel_index(int(grey.argmax()), grey.shape)
    assert 32 <= column < 64
    assert row < 32


def test_a_map_of_nothing_says_that_it_is_empty(client, tools):
    grey = ask(client, tools.image((100, 100, 100)), explain="map")
    assert grey["map"]["empty"] is True
    assert not np.asarray(Image.open(io.BytesIO(client.get(grey["map"]["map"]).content))).any()


def test_a_map_of_what_was_not_found_says_so(client, tools, model_folder):
    answer = ask(client, tools.image(), model="yolo", explain="map")
    assert answer["map"]["label"] == "dent"
    from blemish.service.heatmaps import HeatmapService, HeatmapUnavailable
    from blemish.service.settings import Settings

    predictor = load(model_folder / "yolo.onnx", threads=1)
    prediction = predictor.predict(tools.image())
    with pytest.raises(HeatmapUnavailable, match="longer than"):
        HeatmapService(Settings(explain_seconds=1)).make(predictor, tools.image(), prediction, None, 1.0)
    # with little time the best object alone is explained, and coarsely
    heat = HeatmapService(Settings(explain_seconds=1)).make(predictor, tools.image(), prediction, None, 0.08)
    assert (heat.method, heat.label, heat.title) == ("occlusion", "dent", "Dent")


def test_a_broken_explanation_graph_is_no_reason_to_fail(tools, tmp_path, caplog):
    from blemish.service.heatmaps import HeatmapService
    from blemish.service.settings import Settings

    tools.write_classifier(tmp_path / "model.onnx")
    (tmp_path / "model.explain.onnx").write_bytes(b"broken")
    predictor = load(tmp_path / "model.onnx", threads=1)
    data = tools.image()
    heat = HeatmapService(Settings()).make(predictor, data, predictor.predict(data), None, 0.001)
    assert heat.method == "occlusion"
    assert heat.map.shape == (30, 40)
    assert "cannot be used" in caplog.text


def test_timing_adds_up(client, tools):
    timing = ask(client, tools.image())["timing_ms"]
    parts = sum(timing[stage] for stage in ("reading", "decoding", "waiting", "inferring", "explaining"))
    assert parts <= timing["total"] + 0.01


def test_stages_come_from_the_server_in_their_order(client, tools):
    with client.stream(
        "POST",
        "/api/v1/predict",
        files={"image": tools.image()},
        params={"stream": True, "explain": "map"},
    ) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in response.iter_lines()]
    assert [line["stage"] for line in lines] == ["decoding", "queued", "inferring", "explaining", "done"]
    elapsed = [line["elapsed_ms"] for line in lines]
    assert elapsed == sorted(elapsed)
    assert lines[2]["batch"] == 1
    for line in lines:
        schemas.StageLine.model_validate(line)


def test_a_stream_ends_with_the_problem(client):
    response = client.post(
        "/api/v1/predict", files={"image": b"\xff\xd8\xff nothing"}, params={"stream": True}
    )
    assert response.status_code == 200
    last = json.loads(response.text.splitlines()[-1])
    assert last["stage"] == "failed"
    assert last["problem"]["status"] == 422


def test_what_can_be_refused_before_a_stream_begins_is_refused_with_its_status(client):
    response = client.post("/api/v1/predict", data={"other": "x"}, params={"stream": True})
    assert response.status_code in (415, 422)


def test_one_bad_image_of_a_batch_does_not_stop_the_rest(client, tools):
    good = [tools.image((10 * i, 99, 250 - 10 * i)) for i in range(5)]
    files = [("image", good[0]), ("file", b"no photograph"), *(("image", data) for data in good[1:])]
    response = client.post("/api/v1/predict:batch", files=files)
    assert response.status_code == 200
    schemas.BatchResponse.model_validate(response.json())
    items = response.json()["items"]
    assert [item["status"] for item in items] == [200, 415, 200, 200, 200, 200]
    hashes = [item["result"]["sha256"] for item in items if item["result"]]
    assert hashes == [hashlib.sha256(data).hexdigest() for data in good]


def test_a_request_s_id_comes_back(client, tools):
    response = client.post(
        "/api/v1/predict", files={"image": tools.image()}, headers={"X-Request-ID": "claim-17.b_2"}
    )
    assert response.headers["x-request-id"] == response.json()["request_id"] == "claim-17.b_2"
    other = client.get("/api/v1/limits", headers={"X-Request-ID": "x" * 65})
    assert other.headers["x-request-id"] != "x" * 65


def test_models_tell_what_was_promised_and_no_path(client):
    answer = client.get("/api/v1/models")
    schemas.ModelList.model_validate(answer.json())
    assert answer.json()["default"] == "resnet"
    assert "/home/" not in answer.text
    one = client.get("/api/v1/models/yolo").json()
    schemas.ModelInfo.model_validate(one)
    assert one["certificate"] is None
    assert one["labels"][1] == {"label": "lamp_broken", "title": "Lamp Broken", "threshold": 0.3}
    first = answer.json()["models"][0]
    assert first["certificate"]["passed"] is True
    assert first["created"] == "2026-01-30"


def test_health_limits_and_metrics(client, tools):
    assert client.get("/api/v1/health/live").json() == {"status": "live"}
    assert set(client.get("/api/v1/health/ready").json()["models"]) >= {"resnet", "yolo"}
    schemas.Limits.model_validate(client.get("/api/v1/limits").json())
    ask(client, tools.image())
    text = client.get("/metrics").text
    assert 'blemish_requests_total{route="/api/v1/predict",status="200"}' in text
    assert 'blemish_batch_size_count{model="resnet"}' in text
    assert "blemish_upload_bytes 0" in text


def test_the_start_is_the_page_for_browsers_and_json_for_the_rest(client):
    assert client.get("/").json() == {"status": "API is running"}
    page = client.get("/", headers={"Accept": "text/html,application/xhtml+xml"})
    assert page.headers["vary"] == "Accept"
    if page.headers["content-type"].startswith("text/html"):  # the page's files are there
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]


def test_files_of_the_page_cannot_be_left(client, address):
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/page/..%2fapp.py"):
        request = httpx.Request("GET", address + path)
        assert client.send(request).status_code == 404


def test_every_answer_has_safe_headers(client):
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
def test_head_says_what_get_would_without_the_body(client, path):
    whole, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length", "content-security-policy"):
        assert head.headers[name] == whole.headers[name]
    assert client.head("/api/v1/predict").status_code == 405


def test_a_redirect_leads_nowhere_else(client):
    for headers in ({}, {"Host": "elsewhere.example"}):
        redirect = client.get("/docs/?a=1", headers=headers)
        assert (redirect.status_code, redirect.headers["location"]) == (307, "/docs?a=1")
