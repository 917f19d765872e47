"""The shared test suites, public: run them on your own architecture, format, decoder or backend.

    from blemish.testing import check_architecture, check_format

    def test_my_network():
        check_architecture("my-network", task="classification", options={"input_size": 64})

    def test_my_format(tmp_path):
        check_format("my-format", tmp_path)

Every suite raises `AssertionError` with the name of the check that failed and what it found. Blemish runs the
same suites on everything in its own registries. None needs pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from blemish.testing.raises import raises

if TYPE_CHECKING:
    from blemish.testing.architecture_suite import ARCHITECTURE_CHECKS as ARCHITECTURE_CHECKS
    from blemish.testing.architecture_suite import check_architecture as check_architecture
    from blemish.testing.backend_suite import check_backend as check_backend
    from blemish.testing.decoder_suite import check_decoder as check_decoder
    from blemish.testing.format_suite import check_format as check_format

_HOMES = {
    "ARCHITECTURE_CHECKS": "architecture_suite",
    "check_architecture": "architecture_suite",
    "check_backend": "backend_suite",
    "check_decoder": "decoder_suite",
    "check_format": "format_suite",
}

__all__ = [
    "ARCHITECTURE_CHECKS",
    "check_architecture",
    "check_backend",
    "check_decoder",
    "check_format",
    "raises",
]


def __getattr__(name: str) -> Any:
    """Import each suite at its first use: that of architectures needs torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
