"""The route `GET /boards`: the models that the service has loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blemish.service.route_registry import register_routes

if TYPE_CHECKING:
    from blemish.service.inference_service import InferenceService


@register_routes("boards")
def boards_router(service: InferenceService) -> Any:
    """Return the router of this plug-in."""
    from fastapi import APIRouter

    router = APIRouter()

    @router.get("/boards")
    async def boards() -> dict[str, list[str]]:
        return {"models": sorted(service.models)}

    return router
