"""What the page of inspections asks of the store beside the resources: previews, lists, labels, reviewers."""

import io
import zipfile

import httpx
import pytest
from PIL import Image

pytest.importorskip("sqlalchemy")

from tests.inspections.conftest import image_bytes

from blemish.inspections.store import InspectionStore
from blemish.service.app import create_app


@pytest.fixture(scope="module")
def client(model_folder, tmp_path_factory, tools):
    with InspectionStore.open(tmp_path_factory.mktemp("page-rest") / "store", create=True) as store:
        app = create_app({"yolo": model_folder / "yolo.onnx"}, inspections=store, threads=1)
        with (
            tools.running(app) as address,
            httpx.Client(base_url=f"{address}/api/v1", timeout=60) as client,
        ):
            yield client


def created(response):
    assert response.status_code == 201, response.text
    return response.json()


def make_inspection(client, reference, kind="vehicle", **fields):
    asset = created(client.post("/assets", json={"kind": kind, "reference": reference}))
    return created(client.post("/inspections", json={"asset_id": asset["id"], **fields}))


def add_image(client, inspection, data, **fields):
    files = {"image": ("a.png", data, "image/png")}
    return created(client.post(f"/inspections/{inspection['id']}/images", files=files, data=fields))


def test_limits_state_that_there_is_a_store(client):
    assert client.get("/limits").json()["inspections"] is True


def test_settings_list_what_may_be_chosen(client):
    settings = client.get("/inspection-settings").json()
    assert settings["reviewer"] is None
    assert "vehicle" in settings["asset_kinds"] and "vehicle" in settings["severities"]
    assert {"coco", "yolo", "voc"} <= set(settings["label_formats"])


def test_list_inspections_has_assets_and_can_be_searched(client):
    car = make_inspection(client, "B-XY 12%")
    make_inspection(client, "SN-1", "pv_module")
    image = add_image(client, car, image_bytes(1))
    found = client.get("/inspections", params={"reference": "xy 12%"}).json()["items"]
    assert [item["id"] for item in found] == [car["id"]]
    assert found[0]["asset"] == {"kind": "vehicle", "reference": "B-XY 12%"}
    assert found[0]["images"] == 1 and found[0]["cover_image_id"] == image["id"]
    assert client.get("/inspections", params={"reference": "xy_12"}).json()["items"] == []
    of_kind = client.get("/inspections", params={"kind": "pv_module"}).json()["items"]
    assert {item["asset"]["kind"] for item in of_kind} == {"pv_module"}
    assets = client.get("/assets", params={"reference": "sn-"}).json()["items"]
    assert [asset["reference"] for asset in assets] == ["SN-1"]


def test_preview_is_small_and_upright(client):
    inspection = make_inspection(client, "preview")
    stored = Image.new("RGB", (400, 100), (200, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    with io.BytesIO() as buffer:
        stored.save(buffer, "JPEG", exif=exif)
        image = add_image(client, inspection, buffer.getvalue())
    answer = client.get(f"/images/{image['id']}/content", params={"max_side": 64})
    assert answer.headers["content-type"] == "image/jpeg" and "immutable" in answer.headers["cache-control"]
    with Image.open(io.BytesIO(answer.content)) as preview:
        assert preview.size == (16, 64) and not preview.getexif()


def test_view_of_an_image_can_be_changed(client):
    inspection = make_inspection(client, "views", required_views=["front"])
    image = add_image(client, inspection, image_bytes(2))
    changed = client.patch(f"/images/{image['id']}", json={"view": "front"})
    assert changed.json()["view"] == "front"
    summary = client.get(f"/inspections/{inspection['id']}").json()["summary"]
    assert summary["coverage"]["missing"] == []


def test_runs_of_a_few_images_each_inspect_all(client):
    inspection = make_inspection(client, "parts of runs")
    for seed in range(3, 6):
        add_image(client, inspection, image_bytes(seed))
    url = f"/inspections/{inspection['id']}/runs"
    runs = [created(client.post(url, json={"max_images": 2})) for _ in range(2)]
    assert [len(run["images"]) for run in runs] == [2, 1]
    assert client.get(f"/inspections/{inspection['id']}").json()["summary"]["not_inspected"] == []


def test_reviewer_is_a_name_without_api_keys(client):
    inspection = make_inspection(client, "reviewer")
    image = add_image(client, inspection, image_bytes(6))
    body = {"image_id": image["id"], "label": "dent", "box_xyxy": [1, 1, 9, 9], "reviewer": "Ada"}
    finding = created(client.post(f"/inspections/{inspection['id']}/findings", json=body))
    review = created(
        client.post(f"/findings/{finding['id']}/reviews", json={"action": "accept", "reviewer": "Bob"})
    )
    assert review["reviewer"] == "Bob"
    reviews = client.get(f"/inspections/{inspection['id']}/reviews").json()["items"]
    assert [entry["reviewer"] for entry in reviews] == ["Ada", "Bob"]


def test_labels_come_as_a_zip_file(client):
    inspection = make_inspection(client, "labels")
    refused = client.get(f"/inspections/{inspection['id']}/labels")
    assert refused.status_code == 422 and refused.json()["code"] == "bad-input.nothing-reviewed"
    image = add_image(client, inspection, image_bytes(7))
    body = {"image_id": image["id"], "label": "dent", "box_xyxy": [1, 1, 9, 9]}
    created(client.post(f"/inspections/{inspection['id']}/findings", json=body))
    answer = client.get(f"/inspections/{inspection['id']}/labels", params={"format": "yolo"})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/zip"
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert any(name.endswith(".txt") for name in names)
    assert any(name.endswith(".png") for name in names)


def test_comparison_pairs_images_of_one_view(client):
    before = make_inspection(client, "pairs")
    fields = {"asset_id": before["asset_id"], "previous_id": before["id"], "phase": "after"}
    after = created(client.post("/inspections", json=fields))
    images = []
    for number, inspection in enumerate((before, after)):
        image = add_image(client, inspection, image_bytes(10 + number), view="front")
        body = {"image_id": image["id"], "label": "dent", "box_xyxy": [1, 1, 9, 9]}
        created(client.post(f"/inspections/{inspection['id']}/findings", json=body))
        images.append(image["id"])
    result = created(client.post(f"/inspections/{after['id']}/comparison", json={}))
    pair = result["pairs"][0]
    assert (pair["previous_image_id"], pair["image_id"]) == (images[0], images[1])
