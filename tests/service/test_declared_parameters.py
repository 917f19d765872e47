"""Query parameters and form fields that a route does not have."""

from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field

from blemish.service.declared_parameters import check_query, shown_name
from blemish.service.problem_details import Problem

PATHS = (
    "/",
    "/page/app.js",
    "/favicon.ico",
    "/docs",
    "/openapi.json",
    "/metrics",
    "/api/v1/health/live",
    "/api/v1/health/ready",
    "/api/v1/limits",
    "/api/v1/models",
    "/api/v1/models/resnet",
    "/api/v1/artifacts/x",
    "/static/uploads/x",
    "/static/results/x",
)
PREDICT = ("/api/v1/predict", "/api/v1/predict:batch")
DAMAGELENS = (
    "/predict",
    "/predict/resnet",
    "/predict/fusion",
    "/predict/yolo",
    "/predict/gradcam",
    "/predict/comprehensive",
)


def test_every_route_is_tried_here(app):
    tried = {path.rpartition("/")[0] for path in PATHS} | {*PATHS, *PREDICT, *DAMAGELENS}
    for path in app.openapi()["paths"]:
        assert path in tried or path.partition("/{")[0] in tried, path


@pytest.mark.parametrize("path", PATHS)
def test_unknown_query_parameter_of_a_get_route(client, path):
    response = client.get(path, params={"verbose": "1"})
    assert response.status_code == 422
    assert "'verbose'" in response.json()["detail"]


@pytest.mark.parametrize("path", [*PREDICT, *DAMAGELENS])
@pytest.mark.parametrize("name", ["conf", "thresh", "Model", "image"])
def test_unknown_query_parameter_of_a_post_route(client, tools, path, name):
    response = client.post(path, params={name: "0.5"}, files={"image": tools.image()})
    assert response.status_code == 422
    assert f"'{name}'" in response.json()["detail"]


@pytest.mark.parametrize("path", [*PREDICT, *DAMAGELENS])
@pytest.mark.parametrize("name", ["conf", "min_score", "model", "note"])
def test_unknown_form_field(client, tools, path, name):
    response = client.post(path, data={name: "0.5"}, files={"image": tools.image()})
    assert response.status_code == 422
    assert f"'{name}'" in response.json()["detail"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("conf", "min_score"), ("heatmap", "explain"), ("modle", "model"), ("lable", "label")],
)
def test_unknown_parameter_offers_the_nearest_name(client, tools, name, nearest):
    response = client.post("/api/v1/predict", params={name: "1"}, files={"image": tools.image()})
    assert response.json()["code"] == "bad-parameter.unknown"
    assert f"'{nearest}'" in response.json()["detail"]


def test_repeated_query_parameter(client, tools):
    response = client.post("/api/v1/predict?model=resnet&model=fusion", files={"image": tools.image()})
    assert response.json()["code"] == "bad-parameter.repeated"


def test_shown_name_hides_markup_and_control_characters():
    assert shown_name("<b>\n'x\\") == "'?b???x?'"


class Paging(BaseModel):
    page: int = 1
    size: int = Field(10, alias="page-size")


def depends(depth: int = 0) -> int:
    return depth


def test_check_query_reads_models_lists_and_dependencies():
    router = APIRouter()

    @router.get("/items")
    async def items(
        paging: Annotated[Paging, Query()],
        tag: Annotated[list[str] | None, Query()] = None,
        depth: int = Depends(depends),
    ) -> list[object]:
        return [paging.page, paging.size, tag, depth]

    app = FastAPI(dependencies=[Depends(check_query)])
    app.include_router(router)

    @app.exception_handler(Problem)
    async def on_problem(request, error):
        from starlette.responses import PlainTextResponse

        return PlainTextResponse(error.code, error.status)

    client = TestClient(app)
    assert client.get("/items?page-size=3&tag=a&tag=b&depth=2").json() == [1, 3, ["a", "b"], 2]
    assert client.get("/items?size=3").text == "bad-parameter.unknown"
    assert client.get("/items?depth=1&depth=2").text == "bad-parameter.repeated"
