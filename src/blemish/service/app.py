"""The service as an ASGI application."""

from __future__ import annotations

import asyncio
import logging
import re
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from blemish._version import __version__
from blemish.abstention import require_scores
from blemish.errors import BadInput, BlemishError
from blemish.model_file import read_model_file
from blemish.registry import PluginWarning
from blemish.service import openapi
from blemish.service.allocator import HeapTrimmer
from blemish.service.api_docs import docs_router
from blemish.service.api_keys import ApiKeys
from blemish.service.declared_parameters import check_query
from blemish.service.inference_service import InferenceService
from blemish.service.label_studio_routes import (
    LABEL_STUDIO_PREFIX,
    format_label_studio_problem,
    label_studio_router,
)
from blemish.service.middleware import ProblemResponder, RequestMiddleware
from blemish.service.model_reload import ModelReloader
from blemish.service.open_inference_routes import (
    OPEN_INFERENCE_PREFIX,
    format_open_inference_problem,
    open_inference_router,
)
from blemish.service.problem_details import Problem
from blemish.service.route_registry import ROUTES, RouteExtension
from blemish.service.routes import api_router, metrics_router
from blemish.service.served_model import ServedModel
from blemish.service.service_metrics import ServiceMetrics
from blemish.service.settings import Settings
from blemish.service.static_files import page_router

if TYPE_CHECKING:
    from blemish.inspections.store import InspectionStore

log = logging.getLogger("blemish.service")

_SWEEP_SECONDS = 30.0
_TRIM_SECONDS = 5.0
_MODEL_NAME = re.compile(r"[\w.-]{1,100}")


def create_app(
    models: Mapping[str, Path | str],
    settings: Settings | None = None,
    *,
    keys: ApiKeys | None = None,
    inspections: InspectionStore | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> FastAPI:
    """Return the service for model files as an ASGI application.

    The contracts are read here, so that a file that is not a model file is refused at once; the networks are
    loaded when the application starts, and `/api/v1/health/ready` answers 200 once each has answered an
    image.

    Args:
        models: path of a model file by the name it is served under; the first is the default.
        settings: the limits and options; default: those of `Settings`.
        keys: the accepted API keys; None accepts every request.
        inspections: the store whose resources are added below `/api/v1`; None adds none.
        backend: the backend, as for `blemish.inference.load`.
        threads: number of threads for each network; None uses one for each core.

    Raises:
        BadInput: there is no model, or a name contains other characters than letters, digits, `-`, `_` and
            `.`.
        BadModelFile: one of the files is not a model file.
    """
    settings = settings or Settings()
    metrics = ServiceMetrics()
    served = {}
    for name, path in models.items():
        if not _MODEL_NAME.fullmatch(name):
            raise BadInput(
                f"--model: expected a name of at most 100 letters, digits, '-', '_' and '.', got {name!r}",
                reason="model-name",
            )
        served[name] = ServedModel(name, read_model_file(path), settings, metrics)
        if settings.risk is not None:
            require_scores(served[name].model_file.contract, path)
    if not served:
        raise BadInput("there is no model to serve. Add --model FILE.", reason="no-model")
    service = InferenceService(served, settings, metrics)
    return build_app(service, keys=keys, inspections=inspections, backend=backend, threads=threads)


def build_app(
    service: InferenceService,
    *,
    keys: ApiKeys | None = None,
    inspections: InspectionStore | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> FastAPI:
    """Return the application around an inference service; `create_app` describes the arguments."""
    settings = service.settings
    reloader = ModelReloader(service, backend=backend, threads=threads)
    app = FastAPI(
        title="Blemish",
        version=__version__,
        summary="Finds damage and defects in images: what, where, how sure, and why.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(check_query)],
        generate_unique_id_function=lambda route: route.name,
        lifespan=_lifespan(service, reloader, backend=backend, threads=threads),
    )
    app.state.service = service
    app.include_router(page_router(settings))
    app.include_router(api_router(service, reloader, inspections=inspections is not None))
    app.include_router(open_inference_router(service, reloader))
    app.include_router(label_studio_router(service))
    app.include_router(metrics_router(service))
    if inspections is not None:
        from blemish.service.inspection_routes import inspection_router

        app.include_router(inspection_router(service, inspections, keys))
    extensions = _mount_extensions(app, service)
    app.include_router(docs_router(app))
    responder = ProblemResponder(
        {
            OPEN_INFERENCE_PREFIX: format_open_inference_problem,
            LABEL_STUDIO_PREFIX: format_label_studio_problem,
        }
        | {
            path: extension.format_problem
            for extension in extensions
            if extension.format_problem is not None
            for path in extension.problem_paths
        }
    )
    _add_error_handlers(app, responder)
    app.add_middleware(
        RequestMiddleware,
        keys=keys or ApiKeys({}),
        metrics=service.metrics,
        responder=responder,
        public_paths=tuple(path for extension in extensions for path in extension.public_paths),
        cross_origin=bool(settings.cors_origins),
        framed=bool(settings.frame_ancestors),
    )
    if settings.cors_origins:
        from starlette.middleware.cors import CORSMiddleware

        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PATCH"],
            allow_headers=["Authorization", "X-API-Key", "X-Request-ID", "If-Match", "Idempotency-Key"],
            expose_headers=["X-Request-ID", "Retry-After", "ETag", "Idempotent-Replayed"],
        )
    original_openapi = app.openapi
    app.openapi = lambda: openapi.complete(original_openapi())  # type: ignore[method-assign]
    return app


def _mount_extensions(app: FastAPI, service: InferenceService) -> list[RouteExtension]:
    """Mount the routes of every plug-in; one whose router cannot be built is left out with a warning."""
    mounted = []
    for name, extension in ROUTES.items():
        try:
            router = extension.build_router(service)
        except Exception as error:  # the code of a third party may raise anything
            warnings.warn(
                f"the routes of plug-in {name!r} ({ROUTES.module_of(name)}) cannot be built: "
                f"{type(error).__name__}: {error}. They are left out. Update or uninstall the package.",
                PluginWarning,
                stacklevel=2,
            )
            continue
        app.include_router(router, generate_unique_id_function=partial(_operation_id, name))
        mounted.append(extension)
    return mounted


def _operation_id(plugin: str, route: APIRoute) -> str:
    return f"{plugin}_{route.name}"


def _lifespan(
    service: InferenceService, reloader: ModelReloader, *, backend: str, threads: int | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # In the background: the process is alive, and answers so, while its models warm up.
        tasks = [
            asyncio.create_task(_start_models(service, backend=backend, threads=threads)),
            asyncio.create_task(_sweep(service)),
            asyncio.create_task(_trim_heaps()),
            asyncio.create_task(reloader.close_retired()),
        ]
        if service.settings.watch_seconds is not None:
            tasks.append(asyncio.create_task(reloader.watch(service.settings.watch_seconds)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(reloader.close)
            await asyncio.to_thread(service.close)

    return lifespan


async def _start_models(service: InferenceService, *, backend: str, threads: int | None) -> None:
    for model in service.models.values():
        try:
            await asyncio.to_thread(model.start, backend=backend, threads=threads)
        except BlemishError as error:
            # The log may contain paths; what clients read may not.
            model.failure = "its file cannot be run here; the server's log has the cause."
            log.error("the model %s could not be loaded: %s", model.name, error)
        except Exception:
            model.failure = "the server's log has the cause."
            log.exception("the model %s could not be loaded", model.name)


async def _sweep(service: InferenceService) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        service.links.remove_expired()
        await asyncio.to_thread(service.retention.delete_expired)
        await asyncio.to_thread(service.retention.test_writing)


async def _trim_heaps() -> None:
    trimmer = HeapTrimmer()
    while True:
        await asyncio.sleep(_TRIM_SECONDS)
        await asyncio.to_thread(trimmer.trim)


def _add_error_handlers(app: FastAPI, responder: ProblemResponder) -> None:
    async def on_http_exception(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        if error.status_code == 405:
            problem = Problem("method-not-allowed", "This address does not accept that method.")
        elif error.status_code == 404:
            problem = Problem("not-found", "There is nothing at this address; /docs lists the addresses.")
        else:
            problem = Problem("bad-upload", "The request cannot be read.")
        problem.headers |= dict(error.headers or {})
        return responder.respond(request.scope, problem)

    async def on_validation_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        first = error.errors()[0]
        name = str(first["loc"][-1]) if first.get("loc") else "?"
        expected = str(first.get("msg", "is not valid"))
        problem = Problem("bad-parameter", f"The parameter {name!r} is not valid: {expected}.")
        return responder.respond(request.scope, problem)

    app.add_exception_handler(Problem, responder.on_problem)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_validation_error)
