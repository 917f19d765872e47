"""Predictions on a Ray cluster: `predict` for datasets of Ray Data, and the engine of `--engine ray`.

Each worker is an actor with the model file loaded once. Ray Data repeats the work of a node that is lost.
Needs the extra `ray`; Blemish has to be installed on every machine, and the model file and the images have
to be there under the same path or URL. See `docs/archives.md`.
"""

from blemish.ray.dataset import predict
from blemish.ray.engine import RayEngine

__all__ = ["RayEngine", "predict"]
