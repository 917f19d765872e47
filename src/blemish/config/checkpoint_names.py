"""Names that the checkpoints of other programs use for the tensors of a registered architecture. Torch-free.

A plug-in in the entry-point group `blemish.architectures` calls `register_checkpoint_names`; the weights
files of that program then load with `--weights FILE` and `blemish import`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

TensorNames = Callable[[str], Sequence[str]]

_REGISTERED: dict[str, list[str | TensorNames]] = {}


def register_checkpoint_names(architecture: str, tensor_names: str | TensorNames) -> None:
    """Register the tensor names of another program's checkpoints.

    Args:
        architecture: the registered name of the architecture.
        tensor_names: a function, or "module:function", from the name of a tensor in the network's state dict
            to the names that the checkpoints may use for it.
    """
    registered = _REGISTERED.setdefault(architecture, [])
    if tensor_names not in registered:
        registered.append(tensor_names)


def checkpoint_names(architecture: str, tensor: str) -> tuple[str, ...]:
    """Return the registered checkpoint names of a tensor.

    Args:
        architecture: the registered name of the architecture.
        tensor: a key of the network's state dict.

    Example:
        >>> register_checkpoint_names("doc-net", lambda tensor: [f"model/{tensor}"])
        >>> checkpoint_names("doc-net", "head.weight")
        ('model/head.weight',)
    """
    names: list[str] = []
    for target in _REGISTERED.get(architecture, ()):
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            target = getattr(import_module(module), attribute)
        names += target(tensor)
    return tuple(names)
