"""The examples of docs/rest.md, as they stand there."""

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
    whole = tools.image(size=(320, 240), kind="JPEG")
    (tmp_path / "photograph.jpg").write_bytes(whole)
    (tmp_path / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    return tmp_path


@pytest.mark.parametrize(("language", "code"), BLOCKS, ids=[f"{i}-{b[0]}" for i, b in enumerate(BLOCKS)])
def test_an_example(folder, address, language, code):
    code = code.replace("http://127.0.0.1:8000", address)
    assert address in code
    if language == "python":
        command = [sys.executable, "-c", code]
    else:
        if not shutil.which("curl"):
            pytest.skip("there is no curl here")
        command = ["bash", "-euc", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_route_has_an_example_in_both_languages():
    text = {
        language: "".join(code for kind, code in BLOCKS if kind == language)
        for language in ("bash", "python")
    }
    routes = ("predict", "predict:batch", "models", "health/live", "health/ready", "limits")
    for language, code in text.items():
        for route in (*(f"/api/v1/{route}" for route in routes), "/metrics"):
            assert route in code, (language, route)


def test_the_answer_shown_has_the_keys_that_are_answered(client, tools):
    import json

    shown = json.loads(re.search(r"```json\n(\{\n  \"request_id\": \"5b.*?)```", CONTRACT, re.DOTALL)[1])
    answer = client.post(
        "/api/v1/predict", files={"image": tools.image()}, params={"model": "masks", "explain": "map"}
    ).json()
    assert shown.keys() == answer.keys()
    for part in ("links", "map", "timing_ms", "verdict"):
        assert shown[part].keys() == answer[part].keys(), part
    assert shown["objects"][0].keys() == answer["objects"][0].keys()
    assert shown["labels"][0].keys() == answer["labels"][0].keys()
    model = json.loads(re.search(r"```json\n(\{\n  \"name\": \"car\".*?)```", CONTRACT, re.DOTALL)[1])
    assert model.keys() == client.get("/api/v1/models/masks").json().keys()
    limits = json.loads(re.search(r"```json\n(\{\n  \"max_upload.*?)```", CONTRACT, re.DOTALL)[1])
    assert limits.keys() == client.get("/api/v1/limits").json().keys()
