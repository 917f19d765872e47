"""Read the tensors of a weights file by name, without executing anything that the file contains."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blemish.errors import BadWeights

CONTAINER_KEYS = ("state_dict", "model_state_dict", "model", "network", "weights")
MAX_NESTING = 3  # containers around the state dict


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` or `.pth` file by name.

    Raises:
        BadWeights: the file does not exist ("bad-weights.missing-file"), contains objects other than tensors
            ("bad-weights.unsafe-pickle"), contains no state dict ("bad-weights.no-state-dict"), or cannot be
            read ("bad-weights.unreadable").
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BadWeights(f"{path}: this weights file does not exist", reason="missing-file") from None
    except pickle.UnpicklingError:
        raise BadWeights(
            f"{path}: contains objects other than tensors, and reading them could execute code; "
            "save the model's state_dict() instead",
            reason="unsafe-pickle",
        ) from None
    except Exception as error:
        raise BadWeights(
            f"{path}: not a weights file, or damaged; expected .safetensors or .pth", reason="unreadable"
        ) from error
    return find_state_dict(content, path)


def find_state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict in the content of a checkpoint, inside any of the usual containers.

    Args:
        content: what `torch.load` returned.
        path: its file, for the error message.

    Raises:
        BadWeights: there is none ("bad-weights.no-state-dict").
    """
    for _ in range(MAX_NESTING):
        if isinstance(content, Mapping) and content and all(isinstance(v, Tensor) for v in content.values()):
            return {str(name): tensor for name, tensor in content.items()}
        inner = [content[k] for k in CONTAINER_KEYS if isinstance(content, Mapping) and k in content]
        if not inner:
            break
        content = inner[0]
    if isinstance(content, Mapping):
        tensors = {str(n): v for n, v in content.items() if isinstance(v, Tensor)}
        if tensors:
            return tensors
    raise BadWeights(f"{path}: contains no state dict; save the model's state_dict()", reason="no-state-dict")
