"""Architectures: their registry, one module per family, and their weights. Needs the extra `train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blemish.config.architectures import Architecture, all_architectures, describe, families, names, register

if TYPE_CHECKING:
    from blemish.models._build import create
    from blemish.models._network import Network

__all__ = [
    "Architecture",
    "Network",
    "all_architectures",
    "create",
    "describe",
    "families",
    "names",
    "register",
]
_LAZY = {"create": "_build", "Network": "_network"}


def __getattr__(name: str) -> Any:
    """Import torch when a network is built, not when the registry is read."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
