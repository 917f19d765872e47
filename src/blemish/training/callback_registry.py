"""Callbacks: functions of your own that a training calls; torch-free, and independent of Lightning.

In Python, pass instances to `train(callbacks=[...])`:

    class PrintLoss(Callback):
        def on_epoch_end(self, metrics):
            print(metrics["epoch"], metrics["val_loss"])

A third-party package registers a class, or a function that returns a callback, through an entry point in the
group `blemish.callbacks`; a recipe then names it in `training.callbacks`:

    @register_callback("webhook")
    class Webhook(Callback):
        def __init__(self, *, url: str):
            ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from blemish.config.recipe import Recipe
from blemish.config.training_schema import CallbackConfig
from blemish.errors import BadInput, BadRecipe, TrainingFailed, suggestion
from blemish.registry import Registry

Builder = TypeVar("Builder", bound=Callable[..., Any])


@runtime_checkable
class Callback(Protocol):
    """What a training calls: subclass it and override what you need.

    The methods run in the first process only. With several devices, that process is a copy of yours, so write
    results to files. An exception ends the training after the checkpoint of the epoch was saved.
    """

    def on_train_start(self, recipe: Recipe, folder: Path) -> None:
        """Prepare for a training that starts or resumes.

        Args:
            recipe: the resolved recipe.
            folder: the run's folder.
        """
        return  # not abstract, for type checkers

    def on_epoch_end(self, metrics: Mapping[str, float]) -> None:
        """Receive the metrics of an epoch, after its checkpoint was saved.

        Args:
            metrics: `epoch` from 1, `train_loss`, `val_loss`, the validation metrics, `learning_rate` and
                `seconds`; the line of metrics.csv.
        """
        return

    def on_train_end(self) -> None:
        """Finish, after the last epoch or an early stop; not after an error or an interruption."""
        return


class NamedCallback(NamedTuple):
    """A callback, and its name if a recipe named it; "" if it was passed in Python."""

    name: str
    callback: Callback


CALLBACKS: Registry[Callable[..., Callback]] = Registry("callbacks", noun="callback")


def register_callback(name: str) -> Callable[[Builder], Builder]:
    """Return a decorator that registers a class or builder of a callback and returns it unchanged.

    Args:
        name: what a recipe calls the callback.

    Raises:
        DuplicateName: another module has registered `name`.
    """

    def decorate(build: Builder) -> Builder:
        CALLBACKS.register(name, build, module=build.__module__)
        return build

    return decorate


def check_callbacks(configs: Sequence[CallbackConfig]) -> None:
    """Check the names and the options of a recipe's callbacks.

    Raises:
        UnknownName: no callback has that name.
        BadRecipe: a callback does not take an option ("bad-recipe.unknown-option").
    """
    for i, config in enumerate(configs):
        parameters = inspect.signature(CALLBACKS.get(config.name)).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        for option in config.options:
            if option not in parameters:
                hint = suggestion(option, parameters) or "; it takes no options"
                raise BadRecipe(
                    f"training.callbacks.{i}: the callback {config.name} takes no option {option!r}{hint}",
                    reason="unknown-option",
                )


def build_callbacks(
    configs: Sequence[CallbackConfig], passed: Sequence[Callback] = ()
) -> tuple[NamedCallback, ...]:
    """Return the callbacks of a recipe, then those that were passed in Python.

    Args:
        configs: the entries of `training.callbacks`.
        passed: instances.

    Raises:
        UnknownName: no callback has that name.
        BadRecipe: a callback does not take an option, or refuses its value.
        BadInput: an instance lacks a method of `Callback` ("bad-input.not-a-callback").
    """
    check_callbacks(configs)
    out = []
    for i, config in enumerate(configs):
        try:
            out.append(NamedCallback(config.name, CALLBACKS.get(config.name)(**config.options)))
        except (TypeError, ValueError) as error:
            raise BadRecipe(
                f"training.callbacks.{i}: {config.name}: {error}", reason="invalid-option"
            ) from error
    for callback in passed:
        if not isinstance(callback, Callback):
            raise BadInput(
                f"callbacks: expected subclasses of blemish.training.Callback, got {type(callback).__name__}",
                reason="not-a-callback",
            )
        out.append(NamedCallback("", callback))
    return tuple(out)


def call(callbacks: Sequence[NamedCallback], method: str, *arguments: Any) -> None:
    """Call one method of every callback.

    Raises:
        TrainingFailed: a callback of the recipe raised an exception ("training-failed.callback"). The
            exceptions of callbacks that were passed in Python are not wrapped.
    """
    for name, callback in callbacks:
        try:
            getattr(callback, method)(*arguments)
        except Exception as error:
            if not name:
                raise
            raise TrainingFailed(
                f"the callback {name} failed in {method}: {type(error).__name__}: {error}. "
                "Remove it from training.callbacks, or repair it, and resume the run",
                reason="callback",
            ) from error
