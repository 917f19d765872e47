"""Fetch model files from the Hugging Face Hub and publish them there, with the Hub's own client.

Every option that accepts a model file also accepts `hf://user/name`, `hf://user/name@revision` and
`hf://user/name@revision/file.onnx`. A fetched file is kept in the client's cache and works offline.
`HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_CACHE` have the same meaning as for the client.
"""

from blemish.hub.address import SCHEME, HubAddress, is_address
from blemish.hub.card import model_card
from blemish.hub.transfer import local_file, push

__all__ = ["SCHEME", "HubAddress", "is_address", "local_file", "model_card", "push"]
