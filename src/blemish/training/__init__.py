"""Training: from a recipe and labeled images to a run with weights, curves and a model file.

Reading a recipe imports no torch, so that a mistake in one is reported at once. Training needs the extra
`train`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from blemish.config.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from blemish.training.augmentation.transforms import PixelTransform, register_transform
    from blemish.training.callback_registry import Callback, register_callback
    from blemish.training.loss_registry import register_loss
    from blemish.training.run import Run, train
    from blemish.training.training_plan import TrainingPlan, plan_training

__all__ = [
    "Callback",
    "PixelTransform",
    "Recipe",
    "Run",
    "TrainingPlan",
    "plan_training",
    "read_recipe",
    "register_callback",
    "register_loss",
    "register_transform",
    "train",
]
_LAZY = {
    "Callback": "callback_registry",
    "PixelTransform": "augmentation.transforms",
    "Run": "run",
    "TrainingPlan": "training_plan",
    "plan_training": "training_plan",
    "register_callback": "callback_registry",
    "register_loss": "loss_registry",
    "register_transform": "augmentation.transforms",
    "train": "run",
}


def __getattr__(name: str) -> Any:
    """Import the module of a public name when it is used first."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
