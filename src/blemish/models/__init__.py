"""Architectures: the registry, one file a family, and their weights. Needs the extra `train`."""

from __future__ import annotations

from blemish.models._registry import Architecture, architectures, create, describe, families, names, register

__all__ = ["Architecture", "architectures", "create", "describe", "families", "names", "register"]
