"""Fetch and publish model files: the Hugging Face Hub and MLflow's registry, with their own clients.

Every option that accepts a model file also accepts `hf://user/name`, `hf://user/name@revision` and
`hf://user/name@revision/file.onnx`. A fetched file is kept in the client's cache and works offline.
`mlflow:NAME`, `mlflow:NAME/VERSION` and `mlflow:NAME@ALIAS` are models in MLflow's registry at
`MLFLOW_TRACKING_URI`.
`HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_CACHE` have the same meaning as for the client.
"""

from blemish.hub.address import MLFLOW_SCHEME, SCHEME, HubAddress, is_address
from blemish.hub.card import model_card
from blemish.hub.mlflow_registry import MlflowAddress, register
from blemish.hub.transfer import local_file, push

__all__ = [
    "MLFLOW_SCHEME",
    "SCHEME",
    "HubAddress",
    "MlflowAddress",
    "is_address",
    "local_file",
    "model_card",
    "push",
    "register",
]
