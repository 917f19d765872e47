"""Settings, plug-in routes, the files of the page, and what the service imports."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import APIRouter

from blemish.registry import PluginWarning
from blemish.service.app import create_app
from blemish.service.problem_details import Problem
from blemish.service.route_registry import ROUTES, register_routes
from blemish.service.settings import Settings
from blemish.service.static_files import read_page_files
from blemish.testing import raises

ROOT = Path(__file__).parents[2]


def test_settings_need_both_options_of_retention(tmp_path):
    with raises("bad-input.retention-hours", "--store-dir", "--retention-hours"):
        Settings(store_dir=tmp_path)
    with raises("bad-input.store-dir", "--store-dir", "--retention-hours"):
        Settings(retention_hours=3)


def test_settings_need_positive_limits():
    with raises("bad-input.not-positive", "queue_size", "0"):
        Settings(queue_size=0)


@pytest.fixture
def plugin():
    """The name of a route extension that is removed after the test."""
    ROUTES.load()
    yield "test-plugin"
    ROUTES.unregister("test-plugin")


def test_create_app_mounts_the_routes_of_a_plugin(plugin, model_folder, tools):
    @register_routes(
        plugin,
        problem_paths=("/plugin/",),
        format_problem=lambda problem: ({"reason": problem.code}, "application/json"),
    )
    def router(service):
        router = APIRouter()

        @router.get("/plugin/models")
        async def models() -> list[str]:
            return list(service.models)

        @router.get("/plugin/refused")
        async def refused() -> None:
            raise Problem("not-found", "There is nothing here.")

        return router

    with tools.running(create_app({"a": model_folder / "resnet.onnx"}, threads=1)) as address:
        assert tools.get(f"{address}/plugin/models").json() == ["a"]
        answer = tools.get(f"{address}/plugin/refused")
        assert (answer.status_code, answer.json()) == (404, {"reason": "not-found"})
        assert tools.get(f"{address}/api/v1/unknown").json()["code"] == "not-found"
        assert "/plugin/models" in tools.get(f"{address}/openapi.json").json()["paths"]


def test_problem_with_a_code_of_a_plugin():
    document = Problem("quota-used", "The quota is used up.", status=402, title="No quota").to_dict("id")
    assert (document["code"], document["status"], document["title"]) == ("quota-used", 402, "No quota")
    assert document["type"] == "about:blank"


def test_create_app_leaves_out_a_plugin_that_fails(plugin, model_folder, tools):
    @register_routes(plugin)
    def router(service):
        raise RuntimeError("broken plug-in")

    with pytest.warns(PluginWarning, match="test-plugin.*broken plug-in"):
        app = create_app({"a": model_folder / "resnet.onnx"}, threads=1)
    with tools.running(app) as address:
        assert tools.get(f"{address}/api/v1/models").status_code == 200


def test_read_page_files_sets_the_media_types_itself(tmp_path):
    (tmp_path / "parts").mkdir()
    for name in ("index.html", "parts/app.js", "secret.py", "style.css"):
        (tmp_path / name).write_text("x")
    files = read_page_files(tmp_path)
    assert set(files) == {"index.html", "parts/app.js", "style.css"}
    assert files["parts/app.js"].media_type.startswith("text/javascript")
    assert read_page_files(Path("nowhere")) == {}


def test_service_does_not_import_torch():
    code = "import sys, blemish.service.app, blemish.service.server; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_dockerfile_compiles_the_modules_of_the_service():
    recipe = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (names,) = re.findall(r'"import (blemish[^"]+)"', recipe)
    for name in names.split(", "):
        importlib.import_module(name)
    assert {"blemish.service.app", "blemish.service.server"} <= set(names.split(", "))
    assert "USER 1000" in recipe
    assert "--require-hashes" in recipe
    assert "HEALTHCHECK" in recipe
