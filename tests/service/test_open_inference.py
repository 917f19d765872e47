"""The routes of the Open Inference Protocol, with the bytes that its clients send."""

import base64
import io
import json
import struct

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.service.conftest import get, image, post

from blemish.service.open_inference import HEADER_LENGTH, read_call
from blemish.service.settings import Settings
from blemish.testing import raises

OUTPUTS = ["label_scores", "positive", "num_detections", "boxes", "scores", "label_index", "json"]


def binary(inputs, data, outputs=(), **fields):
    """Return body and headers as tritonclient sends them: JSON, and the bytes of the tensors behind it."""
    content = {
        "id": "7",
        "inputs": [{**inputs, "parameters": {"binary_data_size": len(data)}}],
        "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
        **fields,
    }
    head = json.dumps(content).encode()
    return {"content": head + data, "headers": {HEADER_LENGTH: str(len(head))}}


def element(data):
    return struct.pack("<I", len(data)) + data


def tensors(response):
    """Return the outputs of an answer by name, binary ones from behind the JSON."""
    length = int(response.headers.get(HEADER_LENGTH, len(response.content)))
    answer, rest = json.loads(response.content[:length]), response.content[length:]
    found, position = {}, 0
    for tensor in answer["outputs"]:
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[tensor["name"]] = tensor["data"]
            continue
        raw, position = rest[position : position + size], position + size
        if tensor["datatype"] == "BYTES":
            found[tensor["name"]] = raw
        else:
            kind = {"FP32": "<f4", "INT32": "<i4", "BOOL": "?"}[tensor["datatype"]]
            found[tensor["name"]] = np.frombuffer(raw, kind).reshape(tensor["shape"])
    assert position == len(rest)
    return answer, found


def test_v2_describes_server_and_models(address):
    assert get(f"{address}/v2").json()["name"] == "blemish"
    for path in ("health/live", "health/ready", "models/yolo/ready"):
        assert get(f"{address}/v2/{path}").status_code == 200
    described = get(f"{address}/v2/models/yolo").json()
    assert [output["name"] for output in described["outputs"]] == OUTPUTS
    (version,) = described["versions"]
    assert get(f"{address}/v2/models/yolo/versions/{version}").json() == described
    assert get(f"{address}/v2/models/yolo/versions/{version}/ready").status_code == 200
    index = post(f"{address}/v2/repository/index").json()
    assert {"name": "yolo", "version": version, "state": "READY", "reason": ""} in index


def test_v2_infer_equals_predict(address):
    photo = image((200, 40, 30))
    expected = post(f"{address}/api/v1/predict?model=yolo", files={"image": photo}).json()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2]}
    sent = binary(tensor, element(photo) * 2, OUTPUTS)
    answer, found = tensors(post(f"{address}/v2/models/yolo/infer", **sent))
    assert answer["id"] == "7" and answer["parameters"]["model_digest"] == expected["model_digest"]
    assert expected["model_digest"].startswith(answer["model_version"])
    assert found["num_detections"].tolist() == [3, 3]
    np.testing.assert_allclose(found["boxes"][1], [d["box_xyxy"] for d in expected["detections"]], atol=0.01)
    np.testing.assert_allclose(found["scores"][0], [d["score"] for d in expected["detections"]], rtol=1e-6)
    assert found["label_index"].tolist() == [[0, 1, 0]] * 2
    body = json.loads(found["json"][4 : 4 + struct.unpack("<I", found["json"][:4])[0]])
    assert body["detections"] == expected["detections"]


def test_v2_infer_in_json_equals_binary(address):
    photo = image((20, 200, 30))
    in_json = {
        "inputs": [
            {
                "name": "image",
                "datatype": "BYTES",
                "shape": [1],
                "data": [base64.b64encode(photo).decode()],
            }
        ]
    }
    response = post(f"{address}/v2/models/resnet/infer", json=in_json)
    assert response.headers["content-type"] == "application/json"
    _, first = tensors(response)
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1, 1]}
    head = {
        "inputs": [{**tensor, "parameters": {"binary_data_size": len(photo) + 4}}],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    response = post(
        f"{address}/v2/models/resnet/infer",
        content=text + element(photo),
        headers={HEADER_LENGTH: str(len(text))},
    )
    _, second = tensors(response)
    np.testing.assert_allclose(second["label_scores"].reshape(-1), first["label_scores"], rtol=1e-6)
    assert second["positive"].reshape(-1).tolist() == first["positive"] == [False, True, False]


@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
@pytest.mark.parametrize("in_json", [True, False])
def test_v2_pixels_equal_the_file(address, datatype, in_json):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 9, 11, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels[1]).save(buffer, "PNG")
    expected = post(f"{address}/api/v1/predict?model=resnet", files={"image": buffer.getvalue()}).json()
    values = pixels if datatype == "UINT8" else (pixels / 255).astype(np.float32)
    tensor = {"name": "image", "datatype": datatype, "shape": list(pixels.shape)}
    if in_json:
        sent = {"json": {"inputs": [{**tensor, "data": values.tolist()}]}}
    else:
        sent = binary(tensor, values.tobytes(), ["label_scores"])
    _, found = tensors(post(f"{address}/v2/models/resnet/infer", **sent))
    scores = np.reshape(found["label_scores"], (2, 3))
    np.testing.assert_allclose(scores[1], [row["score"] for row in expected["labels"]], rtol=1e-6)


def test_v2_min_score_and_requested_outputs(address):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
    sent = binary(tensor, element(image()), ["scores"], parameters={"min_score": 0.5})
    answer, found = tensors(post(f"{address}/v2/models/yolo/infer", **sent))
    assert [output["name"] for output in answer["outputs"]] == ["scores"]
    np.testing.assert_allclose(found["scores"], [[0.9]])
    sent = binary(tensor, element(image()), ["boxes"], parameters={"min_score": 0.99})
    _, found = tensors(post(f"{address}/v2/models/yolo/infer", **sent))
    assert found["boxes"].shape == (1, 0, 4)


BYTES = {"name": "image", "datatype": "BYTES", "shape": [1]}
GOOD = {**BYTES, "data": ["aGk="]}
PIXELS = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 3]}


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("bad-tensor.json", []),
        ("bad-tensor.json", {"inputs": 3}),
        ("bad-tensor.json", {"id": 3, "inputs": [GOOD]}),
        ("bad-tensor.input", {}),
        ("bad-tensor.input", {"inputs": [{**GOOD, "name": "photo"}]}),
        ("bad-tensor.datatype", {"inputs": [{**GOOD, "datatype": "FP64"}]}),
        ("bad-tensor.shape", {"inputs": [{**GOOD, "shape": [-1]}]}),
        ("bad-tensor.shape", {"inputs": [{**PIXELS, "shape": [2, 2], "data": [1] * 4}]}),
        ("bad-tensor.data", {"inputs": [BYTES]}),
        ("bad-tensor.data", {"inputs": [{**BYTES, "data": ["not base64!"]}]}),
        ("bad-tensor.data", {"inputs": [{**GOOD, "shape": [2]}]}),
        ("bad-tensor.data", {"inputs": [{**PIXELS, "data": [256] * 6}]}),
        ("bad-tensor.data", {"inputs": [{**PIXELS, "data": [True] * 6}]}),
        ("bad-tensor.data", {"inputs": [{**PIXELS, "data": [1] * 5}]}),
        ("bad-tensor.output", {"inputs": [GOOD], "outputs": [{"name": "box"}]}),
        ("bad-tensor.parameter", {"inputs": [GOOD], "parameters": {"sequence_id": 3}}),
        ("bad-tensor.parameter", {"inputs": [GOOD], "parameters": {"min_score": 2}}),
        ("too-many-images", {"inputs": [{**GOOD, "shape": [33]}]}),
        ("image-too-large.max-pixels", {"inputs": [{**PIXELS, "shape": [100000, 100000, 3], "data": []}]}),
    ],
)
def test_read_call_refuses_by_name(code, content):
    with raises(code):
        read_call(json.dumps(content).encode(), None, Settings(), ["boxes"])


def test_read_call_refuses_bytes_that_do_not_fit():
    sent = binary(BYTES, element(b"abc") + b"\1")
    with raises("bad-tensor.data"):
        read_call(sent["content"], sent["headers"][HEADER_LENGTH], Settings(), [])
    for length in ("-1", "x", "99999"):
        with raises("bad-tensor"):
            read_call(b"{}", length, Settings(), [])
    with raises("upload-too-large"):
        read_call(
            binary(BYTES, element(b"abcd"))["content"],
            binary(BYTES, element(b"abcd"))["headers"][HEADER_LENGTH],
            Settings(max_upload_bytes=3),
            [],
        )


def test_v2_refusals_have_the_protocols_format(address):
    answers = {
        404: get(f"{address}/v2/models/none"),
        400: post(f"{address}/v2/models/yolo/infer", content=b"{"),
        415: post(f"{address}/v2/models/yolo/infer", content=b"{}", headers={"content-encoding": "gzip"}),
        422: post(f"{address}/v2/models/yolo/infer", **binary(BYTES, element(image()[:-30]))),
    }
    for status, response in answers.items():
        assert (response.status_code, set(response.json())) == (status, {"error", "code"}), response.text
    assert get(f"{address}/v2/models/yolo/versions/abc").json()["code"] == "unknown-model.version"
    assert httpx.get(f"{address}/api/v1/models/none").json()["code"] == "unknown-model"
