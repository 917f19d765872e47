"""Entry point `blemish.routes`: register DamageLens' routes, without importing the web framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blemish.service.route_registry import register_routes

if TYPE_CHECKING:
    from fastapi import APIRouter

    from blemish.service.inference_service import InferenceService
    from blemish.service.problem_details import Problem


def format_problem(problem: Problem) -> tuple[dict[str, Any], str]:
    """Return a refusal as DamageLens' clients read it, and its media type."""
    return {"detail": problem.detail}, "application/json"


@register_routes(
    "damagelens",
    public_paths=("/static/",),
    problem_paths=("/predict", "/static/"),
    format_problem=format_problem,
)
def damagelens_router(service: InferenceService) -> APIRouter:
    """Return DamageLens' routes, answered by `service`."""
    from blemish.contrib.damagelens.damagelens_routes import build_router

    return build_router(service)
