"""Export trained networks to model files, each with a certificate that it decides as the network does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blemish.export.onnx_export import export_network
    from blemish.export.parity_certificate import certify
    from blemish.export.run_export import export_trained

__all__ = ["certify", "export_network", "export_trained"]
_MODULES = {"certify": "parity_certificate", "export_network": "onnx_export", "export_trained": "run_export"}


def __getattr__(name: str) -> Any:
    """Import the module of a name at its first use: torch takes seconds."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
