"""Solar modules as resources of the REST service."""

import io

import httpx
import pytest
from PIL import Image

pytest.importorskip("sqlalchemy")

from blemish.data.synthetic import modules
from blemish.inspections.store import InspectionStore
from blemish.service.app import create_app
from blemish.structures import Task


@pytest.fixture(scope="module")
def client(tmp_path_factory, tools, tiny):
    folder = tmp_path_factory.mktemp("modules")
    tiny.write_scores_model(folder / "cells.onnx", task=Task.MULTILABEL, labels=("crack", "inactive"))
    with InspectionStore.open(folder / "store", create=True) as store:
        app = create_app({"cells": folder / "cells.onnx"}, inspections=store, threads=1)
        with tools.running(app) as address, httpx.Client(base_url=f"{address}/api/v1", timeout=60) as client:
            yield client


def test_modules_are_judged_listed_and_drawn(client):
    asset = client.post("/assets", json={"kind": "pv_module", "reference": "M-1"}).json()
    inspection = client.post("/inspections", json={"asset_id": asset["id"]}).json()
    url = f"/inspections/{inspection['id']}"
    content = io.BytesIO()
    next(modules(1, 6, size=700)).image.to_pil().save(content, "PNG")
    image = client.post(f"{url}/images", files={"image": ("m.png", content.getvalue(), "image/png")}).json()
    assert client.get(f"{url}/modules").json()["items"] == []
    assert client.get(f"/images/{image['id']}/module-sheet").status_code == 404
    answer = client.post(f"{url}/module-runs", json={"model": "cells", "grid": "6x12"})
    assert answer.status_code == 422 and answer.json()["code"] == "bad-input.grid"
    run = client.post(f"{url}/module-runs", json={"model": "cells", "grid": "6x10"})
    assert run.status_code == 201 and run.json()["left_out"] == [], run.text
    (sheet,) = client.get(f"{url}/modules").json()["items"]
    assert sheet["image_id"] == image["id"] and sheet["run_id"] == run.json()["id"]
    assert len(sheet["cells"]) == 60 and (sheet["grid"]["rows"], sheet["grid"]["columns"]) == (6, 10)
    drawn = client.get(f"/images/{image['id']}/module-sheet")
    assert drawn.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(drawn.content)).width > 1000
    findings = client.get("/findings", params={"inspection_id": inspection["id"], "limit": 500}).json()[
        "items"
    ]
    assert {f["part"] for f in findings} == {c["name"] for c in sheet["cells"] if c["labels"]}
