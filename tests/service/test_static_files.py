"""The page's sample images, which `blemish demo` opens."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from blemish.service.settings import Settings
from blemish.service.static_files import page_router


@pytest.fixture
def client(tmp_path):
    files = [tmp_path / "one.png", tmp_path / "two & three.png"]
    for number, path in enumerate(files):
        path.write_bytes(bytes([number]) * 5)

    def make(*samples):
        app = FastAPI()
        app.include_router(page_router(Settings(sample_images=samples)))
        return TestClient(app, raise_server_exceptions=False)

    return make, files


def test_samples_are_listed_and_sent_as_files(client):
    make, files = client
    page = make(*files)
    samples = page.get("/page/samples.json").json()["samples"]
    assert [s["name"] for s in samples] == ["one.png", "two & three.png"]
    assert [page.get(s["path"]).content for s in samples] == [b"\0" * 5, b"\1" * 5]
    assert page.get(samples[0]["path"]).headers["content-type"] == "application/octet-stream"


def test_samples_are_empty_by_default(client):
    make, _ = client
    assert make().get("/page/samples.json").json() == {"samples": []}


@pytest.mark.parametrize("path", ["/page/samples/2", "/page/samples/-1", "/page/samples/..%2Fone.png"])
def test_samples_refuse_other_files(client, path):
    make, files = client
    assert make(*files).get(path).status_code >= 400
