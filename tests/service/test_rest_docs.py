"""The examples of docs/rest.md, exactly as printed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONTRACT = (Path(__file__).parents[2] / "docs" / "rest.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", CONTRACT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, tools):
    data = tools.image(size=(320, 240), kind="JPEG")
    (tmp_path / "image.jpg").write_bytes(data)
    (tmp_path / "broken.jpg").write_bytes(data[: len(data) // 2])
    return tmp_path


@pytest.mark.parametrize(("language", "code"), BLOCKS, ids=[f"{i}-{b[0]}" for i, b in enumerate(BLOCKS)])
def test_rest_docs_example(folder, address, tools, language, code):
    code = code.replace("http://127.0.0.1:8000", address)
    assert address in code
    if language == "python":
        command = [sys.executable, "-c", code]
    else:
        if not shutil.which("curl"):
            pytest.skip("curl is not installed")
        command = ["bash", "-euc", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=tools.timeout_seconds)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_rest_docs_have_examples_of_every_route():
    text = {
        language: "".join(code for kind, code in BLOCKS if kind == language)
        for language in ("bash", "python")
    }
    routes = ("predict", "predict:batch", "models", "health/live", "health/ready", "limits")
    for language, code in text.items():
        for route in (*(f"/api/v1/{route}" for route in routes), "/metrics"):
            assert route in code, (language, route)


def printed_answer(first_key):
    """Return the JSON of the document whose first key after `schema_version` is `first_key`."""
    pattern = r'```json\n(\{\n  "schema_version": 1,\n  "' + first_key + '": .*?)```'
    return json.loads(re.search(pattern, CONTRACT, re.DOTALL)[1])


def test_rest_docs_answers_have_the_keys_of_real_answers(client, tools):
    printed = printed_answer('request_id": "5b1f0c2e9a7d4e11",\n  "model')
    answer = client.post(
        "/api/v1/predict", files={"image": tools.image()}, params={"model": "masks", "explain": "heatmap"}
    ).json()
    assert printed.keys() == answer.keys()
    for part in ("links", "heatmap", "timing_ms", "decision"):
        assert printed[part].keys() == answer[part].keys(), part
    assert printed["detections"][0].keys() == answer["detections"][0].keys()
    assert printed["labels"][0].keys() == answer["labels"][0].keys()
    assert printed_answer("name").keys() == client.get("/api/v1/models/masks").json().keys()
    assert printed_answer("max_upload_bytes").keys() == client.get("/api/v1/limits").json().keys()
    assert printed_answer("type").keys() == client.get("/api/v1/models/unknown").json().keys()
