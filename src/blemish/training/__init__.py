"""From a recipe and labelled images to a run: weights, curves and a model file. Needs the extra `train`.

Reading a recipe loads no torch, so that a mistake in one is told at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blemish.config.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from blemish.training.run import Run as Run

__all__ = ["Recipe", "Run", "read_recipe", "train"]


def train(recipe: Any = None, **options: Any) -> Run:
    """Train a model, and write its model file; see `blemish.training.run.train`."""
    from blemish.training import run

    return run.train(recipe, **options)


def __getattr__(name: str) -> Any:
    if name == "Run":
        from blemish.training.run import Run

        return Run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
