"""The registry of routes that plug-ins add to the service.

A plug-in registers a function that returns a FastAPI router; `create_app` mounts the routers of every plug-in
after the built-in routes:

    from fastapi import APIRouter
    from blemish.service.route_registry import register_routes

    @register_routes("hello")
    def hello_router(service):
        router = APIRouter()

        @router.get("/hello")
        async def hello() -> dict[str, list[str]]:
            return {"models": list(service.models)}

        return router

and names its module in an entry point:

    [project.entry-points."blemish.routes"]
    hello = "my_package.hello"

A refusal is a `blemish.service.problem_details.Problem`, which a route raises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from blemish.registry import Registry

if TYPE_CHECKING:  # so that a plug-in can be listed without the extra `serve`
    from fastapi import APIRouter

    from blemish.service.inference_service import InferenceService
    from blemish.service.problem_details import FormatProblem

BuildRouter: TypeAlias = "Callable[[InferenceService], APIRouter]"


@dataclass(frozen=True)
class RouteExtension:
    """The routes of one plug-in.

    Attributes:
        build_router: function that gets the application's inference service and returns a router.
        public_paths: beginnings of paths that need no API key, such as links that a browser opens.
        problem_paths: beginnings of paths whose refusals have a format of their own.
        format_problem: that format; None is RFC 9457, as for the built-in routes.
    """

    build_router: BuildRouter
    public_paths: tuple[str, ...] = ()
    problem_paths: tuple[str, ...] = ()
    format_problem: FormatProblem | None = None


ROUTES: Registry[RouteExtension] = Registry("routes", noun="route extension")


def register_routes(
    name: str,
    *,
    public_paths: tuple[str, ...] = (),
    problem_paths: tuple[str, ...] = (),
    format_problem: FormatProblem | None = None,
) -> Callable[[BuildRouter], BuildRouter]:
    """Return a decorator that registers a function as the routes of a plug-in.

    Args:
        name: the name of the plug-in.
        public_paths: see `RouteExtension`.
        problem_paths: see `RouteExtension`.
        format_problem: see `RouteExtension`.

    Raises:
        DuplicateName: another module has registered `name`.
    """

    def decorate(build_router: BuildRouter) -> BuildRouter:
        extension = RouteExtension(build_router, public_paths, problem_paths, format_problem)
        ROUTES.register(name, extension, module=build_router.__module__)
        return build_router

    return decorate
