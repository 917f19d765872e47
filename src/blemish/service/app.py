"""The service as an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from blemish._version import __version__
from blemish.contrib.damagelens import legacy_routes
from blemish.errors import BadInput, BlemishError
from blemish.model_file import read_model_file
from blemish.service import api_docs, openapi, routes, static_files
from blemish.service.api_keys import ApiKeys
from blemish.service.inference_service import InferenceService
from blemish.service.middleware import RequestMiddleware, on_problem, respond
from blemish.service.problem_details import Problem
from blemish.service.served_model import ServedModel
from blemish.service.service_metrics import ServiceMetrics
from blemish.service.settings import Settings

log = logging.getLogger("blemish.service")

_SWEEP_SECONDS = 30.0


def create_app(
    models: Mapping[str, Path | str],
    settings: Settings | None = None,
    *,
    keys: ApiKeys | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> FastAPI:
    """The service for model files.

    The contracts are read here, so that a file that is none is refused at once; networks are loaded when
    the application starts, and `/api/v1/health/ready` tells when they have answered an image.

    Args:
        models: path of a model file by the name it is served under; the first is the default.
        settings: limits and habits.
        keys: of the clients that are let in; everybody where not given.
        backend: as `blemish.inference.load` takes it.
        threads: for each network; every core where not given.

    Raises:
        BadInput: no model, or a name that cannot stand in an address.
        BadModelFile: one of the files is none.
    """
    settings = settings or Settings()
    telemetry = ServiceMetrics()
    served = {}
    for name, path in models.items():
        if not name or len(name) > 100 or not all(c.isalnum() or c in "-_." for c in name):
            raise BadInput(f"{name!r} is no name for a model: take letters, digits, '-', '_' and '.'")
        served[name] = ServedModel(name, read_model_file(path), settings, telemetry)
    if not served:
        raise BadInput("there is no model to serve; give one with --model FILE")
    return assemble(
        InferenceService(served, settings, telemetry), keys=keys, backend=backend, threads=threads
    )


def assemble(
    desk: InferenceService, *, keys: ApiKeys | None = None, backend: str = "auto", threads: int | None = None
) -> FastAPI:
    """The application around a desk."""
    settings = desk.settings
    app = FastAPI(
        title="Blemish",
        version=__version__,
        summary="Finds damage and defects in photographs: what, where, how sure, and why.",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        lifespan=_lifespan(desk, backend=backend, threads=threads),
    )
    app.state.desk = desk
    app.include_router(static_files.build(settings))
    app.include_router(routes.build(desk))
    app.include_router(routes.build_metrics(desk))
    app.include_router(legacy_routes.build(desk))
    app.include_router(api_docs.build(app))
    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_parameter)
    app.add_middleware(
        RequestMiddleware,
        keys=keys or ApiKeys({}),
        telemetry=desk.telemetry,
        shared_with_origins=bool(settings.cors_origins),
        framed=bool(settings.frame_ancestors),
    )
    if settings.cors_origins:
        from starlette.middleware.cors import CORSMiddleware

        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "X-API-Key", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    plain = app.openapi
    app.openapi = lambda: openapi.complete(plain())  # type: ignore[method-assign]
    return app


def _lifespan(desk: InferenceService, *, backend: str, threads: int | None) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # In the background: the process is alive, and says so, while its models warm up.
        tasks = [
            asyncio.create_task(_start(desk, backend=backend, threads=threads)),
            asyncio.create_task(_sweep(desk)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(desk.close)

    return lifespan


async def _start(desk: InferenceService, *, backend: str, threads: int | None) -> None:
    for served in desk.models.values():
        try:
            await asyncio.to_thread(served.start, backend=backend, threads=threads)
        except BlemishError as error:
            # The log may have paths; what clients read may not.
            served.failure = "its file cannot be run here; the server's log says why."
            log.error("the model %s could not be loaded: %s", served.name, error)
        except Exception:
            served.failure = "the server's log says why."
            log.exception("the model %s could not be loaded", served.name)


async def _sweep(desk: InferenceService) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        desk.shelf.sweep()
        await asyncio.to_thread(desk.keeper.sweep)


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 405:
        problem = Problem("method_not_allowed", "This address does not take that method.")
    elif error.status_code == 404:
        problem = Problem("not_found", "There is nothing at this address; /docs lists what there is.")
    else:
        problem = Problem("bad_upload", "The request cannot be read.")
    problem.headers |= dict(error.headers or {})
    return respond(request.scope, problem)


async def _on_parameter(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    name = str(first["loc"][-1]) if first.get("loc") else "a parameter"
    said = str(first.get("msg", "is not valid"))
    return respond(request.scope, Problem("bad_parameter", f"The parameter {name!r} cannot be so: {said}."))
