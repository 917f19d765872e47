"""A model file behind Ray Serve: `serve run blemish_ray_serve:app model=/models/model.onnx`."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

import blemish
from blemish.errors import BadInput
from ray import serve


@serve.deployment(
    max_ongoing_requests=32,
    max_queued_requests=64,
    ray_actor_options={"num_cpus": 1},
    autoscaling_config={"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 2},
)
class Blemish:
    """One replica: a predictor with as many threads as the actor has processors."""

    def __init__(self, model: str, threads: int = 1) -> None:
        self.predictor = blemish.load(model, threads=threads)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0)
    async def predict(self, images: list[bytes]) -> list[dict[str, Any]]:
        """Return the prediction of each image; an image that cannot be used does not affect the others."""
        return await asyncio.to_thread(self._predict, images)

    def _predict(self, images: list[bytes]) -> list[dict[str, Any]]:
        out = []
        for outcome in self.predictor.stream(images):
            if outcome.error is not None:
                out.append({"error": {"code": outcome.error.code, "message": str(outcome.error)}})
            else:
                out.append(outcome.prediction.to_dict())
        return out

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer the bytes of an image file with its prediction."""
        answer = await self.predict(await request.body())
        return JSONResponse(answer, status_code=422 if "error" in answer else 200)


def app(arguments: dict[str, str]) -> serve.Application:
    """Return the application for `serve run`.

    Args:
        arguments: `model`, a path or an address such as `mlflow:cars`; `threads` of each replica.
    """
    if "model" not in arguments:
        raise BadInput("expected model=FILE", reason="no-model")
    return Blemish.bind(arguments["model"], int(arguments.get("threads", 1)))
