"""The store of inspections as resources of the REST service."""

import hashlib

import httpx
import pytest

pytest.importorskip("sqlalchemy")

from tests.inspections.conftest import image_bytes

from blemish.inspections.maintenance import verify_store
from blemish.inspections.store import InspectionStore
from blemish.service.api_keys import ApiKeys
from blemish.service.app import create_app
from blemish.service.inspection_requests import MAX_JSON_BYTES

KEYS = {"ada": None, "bob": None, "viewer": frozenset({"read"}), "root": frozenset({"admin"})}


@pytest.fixture(scope="module")
def address(model_folder, tmp_path_factory, tools):
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in KEYS}
    keys = ApiKeys(digests, {name: scopes for name, scopes in KEYS.items() if scopes})
    with InspectionStore.open(tmp_path_factory.mktemp("rest") / "store", create=True) as store:
        models = {name: model_folder / f"{name}.onnx" for name in ("yolo", "resnet")}
        with tools.running(create_app(models, keys=keys, inspections=store, threads=1)) as address:
            yield address
        assert verify_store(store).is_intact


@pytest.fixture
def ada(address):
    with httpx.Client(base_url=f"{address}/api/v1", headers={"X-API-Key": "ada"}, timeout=60) as client:
        yield client


def as_key(address, key):
    return httpx.Client(base_url=f"{address}/api/v1", headers={"X-API-Key": key}, timeout=60)


def created(response):
    assert response.status_code == 201, response.text
    assert response.json()["schema_version"] == 1
    return response.json()


def make_inspection(client, reference, **fields):
    asset = created(client.post("/assets", json={"kind": "vehicle", "reference": reference}))
    return created(client.post("/inspections", json={"asset_id": asset["id"], **fields}))


def add_image(client, inspection, seed=0, **options):
    files = {"image": (f"{seed}.png", image_bytes(seed), "image/png")}
    return client.post(f"/inspections/{inspection['id']}/images", files=files, **options)


def code(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()["code"]


def test_a_whole_inspection(ada):
    inspection = make_inspection(ada, "whole", severity="vehicle", required_views=["front"])
    url = f"/inspections/{inspection['id']}"
    image = created(add_image(ada, inspection, data={"view": "front", "file_name": "a.png"}))
    assert image["view"] == "front" and image["file_name"] == "a.png"
    assert ada.get(f"/images/{image['id']}/content").content == image_bytes(0)
    run = created(ada.post(f"{url}/runs", json={"model": "yolo", "min_score": 0.0}))
    assert run["model_name"] == "yolo" and len(run["images"]) == 1
    new = {"image_id": image["id"], "label": "dent", "box_xyxy": [1, 1, 30, 30]}
    finding = created(ada.post(f"{url}/findings", json=new))
    for item in ada.get("/findings", params={"inspection_id": inspection["id"], "state": "open"}).json()[
        "items"
    ]:
        created(
            ada.post(f"/findings/{item['id']}/reviews", json={"action": "reject", "reason": "reflection"})
        )
    answer = ada.get(url)
    assert answer.headers["etag"] == f'"{answer.json()["version"]}"'
    summary = answer.json()["summary"]
    assert summary["decision"] == "findings" and summary["counts"] == {"dent": 1}
    assert ada.get(f"/findings/{finding['id']}").json()["reviews"][0]["reviewer"] == "ada"
    assert ada.get(f"{url}/reviews").json()["items"]
    report = created(ada.post(f"{url}/reports", json={"format": "csv", "options": {"claim": "1"}}))
    content = ada.get(f"/reports/{report['id']}/content")
    assert hashlib.sha256(content.content).hexdigest() == report["sha256"]
    assert ada.get(f"{url}/reports").json()["items"][0]["id"] == report["id"]
    assert ada.get(f"{url}/images").json()["items"][0]["id"] == image["id"]
    assert (
        ada.get("/inspections", params={"needs_review": False}).json()["items"][0]["id"] == inspection["id"]
    )


def test_before_and_after(ada):
    before = make_inspection(ada, "changes")
    after = created(
        ada.post(
            "/inspections",
            json={"asset_id": before["asset_id"], "previous_id": before["id"], "phase": "after"},
        )
    )
    result = created(ada.post(f"/inspections/{after['id']}/comparison", json={}))
    assert result["previous_id"] == before["id"] and result["changes"] == []
    assert code(ada.post(f"/inspections/{before['id']}/comparison", json={}), 422) == "bad-input.no-previous"


def test_if_match_refuses_what_has_changed(ada):
    inspection = make_inspection(ada, "versions")
    url, etag = f"/inspections/{inspection['id']}", '"1"'
    assert ada.patch(url, json={"status": "closed"}, headers={"If-Match": etag}).status_code == 200
    stale = ada.patch(url, json={"status": "open"}, headers={"If-Match": etag})
    assert code(stale, 412) == "conflict.version"
    assert (
        code(ada.patch(url, json={"status": "open"}, headers={"If-Match": "x"}), 422) == "bad-input.if-match"
    )
    assert code(add_image(ada, inspection), 409) == "conflict.closed"
    asset = ada.get(f"/assets/{inspection['asset_id']}")
    changed = ada.patch(
        f"/assets/{inspection['asset_id']}",
        json={"attributes": {"color": "red"}},
        headers={"If-Match": asset.headers["etag"]},
    )
    assert changed.json()["attributes"] == {"color": "red"} and changed.headers["etag"] == '"2"'


def test_an_idempotency_key_writes_once(ada):
    inspection = make_inspection(ada, "once")
    first = add_image(ada, inspection, headers={"Idempotency-Key": "k-1"})
    again = add_image(ada, inspection, headers={"Idempotency-Key": "k-1"})
    # The boundary of a form differs, and its content counts.
    assert created(first) == created(again) and again.headers["idempotent-replayed"] == "true"
    assert (
        code(add_image(ada, inspection, 1, headers={"Idempotency-Key": "k-1"}), 409)
        == "conflict.idempotency-key"
    )
    assert len(ada.get(f"/inspections/{inspection['id']}/images").json()["items"]) == 1
    url = f"/inspections/{inspection['id']}/runs"
    refused = ada.post(url, json={}, headers={"Idempotency-Key": "k-2"})
    assert code(refused, 422) == "bad-input.idempotency-key"


def test_the_reviewer_is_the_name_of_the_key(ada):
    inspection = make_inspection(ada, "reviewer")
    image = created(add_image(ada, inspection))
    body = {"image_id": image["id"], "label": "dent", "box_xyxy": [1, 1, 9, 9], "reviewer": "Bob"}
    url = f"/inspections/{inspection['id']}"
    assert code(ada.post(f"{url}/findings", json=body), 422) == "bad-input.reviewer"
    settings = ada.get("/inspection-settings").json()
    assert (settings["reviewer"], settings["scopes"]) == ("ada", ["read", "review", "write"])


def test_objects_of_other_keys_are_not_found(ada, address):
    inspection = make_inspection(ada, "mine")
    image = created(add_image(ada, inspection))
    with as_key(address, "bob") as bob:
        for path in (
            f"/inspections/{inspection['id']}",
            f"/assets/{inspection['asset_id']}",
            f"/images/{image['id']}/content",
            f"/inspections/{inspection['id']}/reviews",
        ):
            assert code(bob.get(path), 404) == "not-found"
        assert code(add_image(bob, inspection, 5), 404) == "not-found"
        assert bob.get("/inspections").json()["items"] == []
    with as_key(address, "root") as root:
        assert root.get(f"/inspections/{inspection['id']}").status_code == 200


def test_a_scope_that_a_key_lacks_is_refused(address):
    with as_key(address, "viewer") as viewer:
        assert viewer.get("/inspections").status_code == 200
        assert code(viewer.post("/assets", json={"reference": "x"}), 403) == "scope-missing"
        assert code(viewer.post("/findings/x/reviews", json={"action": "accept"}), 403) == "scope-missing"
    with as_key(address, "nobody") as unknown:
        assert code(unknown.get("/inspections"), 401) == "api-key-unknown"


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/assets", {"reference": ""}, "bad-input.text"),
        ("/assets", {"reference": "x", "kind": "boat"}, "unknown-name.asset-kind"),
        ("/assets", {"reference": "x", "price": 3}, "bad-parameter"),
        ("/inspections", {"asset_id": "x"}, "not-found"),
        ("/inspections/x/runs", {}, "not-found"),
        ("/inspections/x/runs", {"model": "other"}, "unknown-model"),
        ("/inspections/x/reports", {"format": "pdf"}, "not-found"),
    ],
)
def test_bad_requests_are_problems(ada, path, body, expected):
    response = ada.post(path, json=body)
    assert response.json()["code"] == expected and 400 <= response.status_code < 500


def test_severity_rules_are_not_read_from_files_of_the_server(ada):
    asset = created(ada.post("/assets", json={"reference": "files"}))
    body = {"asset_id": asset["id"], "severity": "/etc/passwd"}
    assert code(ada.post("/inspections", json=body), 422) == "unknown-name.severity-rules"


def test_lists_have_cursors(ada):
    inspection = make_inspection(ada, "pages")
    for _ in range(3):
        created(ada.post("/inspections", json={"asset_id": inspection["asset_id"]}))
    seen, cursor = [], None
    while True:
        query = {"asset_id": inspection["asset_id"], "limit": 3, **({"cursor": cursor} if cursor else {})}
        page = ada.get("/inspections", params=query).json()
        seen += [item["id"] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert len(seen) == len(set(seen)) == 4
    assert code(ada.get("/inspections", params={"cursor": "x"}), 422) == "bad-input.cursor"


def test_a_full_disk_is_507_and_stores_nothing(ada, monkeypatch):
    from blemish.errors import StorageFull

    inspection = make_inspection(ada, "full")

    def full(path, *parts):
        raise StorageFull("full")

    with monkeypatch.context() as patch:
        patch.setattr("blemish.inspections.file_store.write_atomically", full)
        assert code(add_image(ada, inspection, 77), 507) == "storage-full"
    assert ada.get(f"/inspections/{inspection['id']}/images").json()["items"] == []
    created(add_image(ada, inspection, 77))


@pytest.mark.parametrize("chunked", [False, True])
def test_json_above_the_limit_is_refused(ada, chunked):
    body = b'{"kind": "free", "reference": "' + b"x" * MAX_JSON_BYTES + b'"}'
    content = iter([body[:1000], body[1000:]]) if chunked else body
    answer = ada.post("/assets", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "upload-too-large")
    assert answer.json()["limit"] == {"name": "max_json_bytes", "value": MAX_JSON_BYTES}
    created(ada.post("/assets", json={"kind": "free", "reference": f"after {chunked}"}))
