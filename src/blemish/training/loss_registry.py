"""The registry of image-level losses, and the check of a recipe's loss; torch-free.

A loss is a builder: a function whose keyword parameters are the loss's options and which returns a callable
`loss(outputs, target)`. A third-party package registers one through an entry point in the group
`blemish.losses`:

    from blemish.training import register_loss

    @register_loss("soft-f1", tasks=["multilabel"])
    def soft_f1(*, smoothing: float = 1.0):
        def loss(outputs, target):
            ...
        return loss

A recipe then sets `training.loss: {name: soft-f1, options: {smoothing: 0.5}}`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from blemish.config.training_schema import LossConfig
from blemish.errors import BadRecipe, suggestion
from blemish.registry import Registry
from blemish.structures import Task

if TYPE_CHECKING:
    from torch import Tensor

    LossFunction = Callable[[Tensor, Tensor], Tensor]
Builder = TypeVar("Builder", bound=Callable[..., Any])

CONTEXT = ("task", "label_weights")  # parameters of a builder that are no options
_SHORT_KEYS = ("label_smoothing", "gamma")  # options with keys of their own in `training.loss`


@dataclass(frozen=True)
class LossSpec:
    """One registered loss.

    Attributes:
        name: what a recipe calls it.
        build: returns the loss for its options; see `register_loss`.
        tasks: names of the tasks that it fits, in addition to those that name it in the task table.
    """

    name: str
    build: Callable[..., LossFunction]
    tasks: tuple[str, ...] = ()

    @property
    def option_names(self) -> tuple[str, ...]:
        """The options that the builder takes."""
        return tuple(n for n in inspect.signature(self.build).parameters if n not in CONTEXT)

    @property
    def takes_label_weights(self) -> bool:
        """Whether `training.loss.class_weights` has an effect."""
        return "label_weights" in inspect.signature(self.build).parameters


LOSSES: Registry[LossSpec] = Registry("losses", noun="loss")


def register_loss(name: str, *, tasks: Iterable[str] = ()) -> Callable[[Builder], Builder]:
    """Return a decorator that registers a builder of a loss and returns it unchanged.

    The builder's keyword parameters are the options that a recipe may set. Two parameters are filled in
    by Blemish if the builder declares them: `task`, the task of the network, and `label_weights`, an (L,)
    float32 tensor for `training.loss.class_weights: balanced`, else None.

    The loss that it returns takes the network's outputs and the target and returns a tensor of shape (): for
    labels, (b, L) logits and (b, L) float32 shares of each label in [0, 1]; for one box, (b, 4) boxes xywh
    twice. A loss that keeps tensors is a `torch.nn.Module` with buffers, so that they move to the GPU. With
    several devices it is pickled to other processes, as a function of a module or an object can be.

    Args:
        name: what a recipe calls the loss.
        tasks: the tasks that it fits.

    Raises:
        DuplicateName: another module has registered `name`.
    """

    def decorate(build: Builder) -> Builder:
        LOSSES.register(name, LossSpec(name, build, tuple(tasks)), module=build.__module__)
        return build

    return decorate


def losses_of(task: Task) -> tuple[str, ...]:
    """Return the names of the losses that fit a task, its default first; none if each network has its own."""
    third_party = (name for name, spec in LOSSES.items() if task in spec.tasks)
    return tuple(dict.fromkeys((*task.fields.losses, *third_party)))


def check_loss(task: Task, config: LossConfig) -> LossSpec | None:
    """Check the loss of a recipe and return it; None if the networks of the task have their own.

    Args:
        task: of the network.
        config: the section `training.loss`.

    Raises:
        UnknownName: no loss has that name.
        BadRecipe: the loss does not fit the task ("bad-recipe.loss-of-another-task"), does not use a key
            that is set ("bad-recipe.unused-key") or does not take an option ("bad-recipe.unknown-option").
    """
    if config.name is not None:
        LOSSES.get(config.name)
    names = losses_of(task)
    if config.name is not None and config.name not in names:
        choice = f"expected one of {', '.join(names)}" if names else "its networks have losses of their own"
        raise BadRecipe(
            f"training.loss.name: {config.name} does not fit {task}; {choice}", reason="loss-of-another-task"
        )
    spec = LOSSES.get(config.name or names[0]) if names else None
    known = () if spec is None else spec.option_names
    used = {**dict.fromkeys(known, True), "class_weights": spec is not None and spec.takes_label_weights}
    for key in (*_SHORT_KEYS, "class_weights"):
        if getattr(config, key) != LossConfig.model_fields[key].default and not used.get(key):
            name = "the loss of a detector" if spec is None else spec.name
            raise BadRecipe(
                f"training.loss.{key}: {name} does not use it. Remove it{_users(names, key)}",
                reason="unused-key",
            )
    for option in config.options:
        if option not in known:
            name = "the loss of a detector" if spec is None else f"the loss {spec.name}"
            hint = suggestion(option, known) or "; it takes no options"
            raise BadRecipe(
                f"training.loss.options: {name} takes no option {option!r}{hint}", reason="unknown-option"
            )
    return spec


def build_loss(
    task: Task, config: LossConfig, label_weights: Tensor | None = None
) -> tuple[str, LossFunction] | None:
    """Return the name and the loss of a recipe; None if the networks of the task have their own.

    Args:
        task: of the network.
        config: the section `training.loss`.
        label_weights: (L,) float32 weight of each label, or None.

    Raises:
        BadRecipe: as `check_loss`; also if the builder refuses the value of an option.
    """
    spec = check_loss(task, config)
    if spec is None:
        return None
    values: dict[str, Any] = {
        key: getattr(config, key)
        for key in _SHORT_KEYS
        if getattr(config, key) != LossConfig.model_fields[key].default
    }
    context = {"task": task, "label_weights": label_weights}
    declared = inspect.signature(spec.build).parameters
    values |= config.options | {name: value for name, value in context.items() if name in declared}
    try:
        return spec.name, spec.build(**values)
    except (TypeError, ValueError) as error:
        raise BadRecipe(f"training.loss: {spec.name}: {error}", reason="invalid-option") from error


def _users(names: Iterable[str], key: str) -> str:
    """Return the end of the message about an unused key: the losses of the task that use it."""
    users = []
    for name in names:
        spec = LOSSES.get(name)
        if key in spec.option_names or (key == "class_weights" and spec.takes_label_weights):
            users.append(name)
    return f", or choose {' or '.join(users)}" if users else ""


@register_loss("cross-entropy")
def _cross_entropy(*, label_smoothing: float = 0.0, label_weights: Tensor | None = None) -> LossFunction:
    from blemish.training.losses import WeightedLoss, cross_entropy

    return WeightedLoss(cross_entropy, label_weights, smoothing=label_smoothing)


@register_loss("bce")
def _bce(*, label_smoothing: float = 0.0, label_weights: Tensor | None = None) -> LossFunction:
    from blemish.training.losses import WeightedLoss, binary_cross_entropy

    return WeightedLoss(binary_cross_entropy, label_weights, smoothing=label_smoothing)


@register_loss("focal")
def _focal(*, task: Task, gamma: float = 2.0, label_weights: Tensor | None = None) -> LossFunction:
    from blemish.training.losses import WeightedLoss, sigmoid_focal, softmax_focal

    return WeightedLoss(softmax_focal if task.has_one_label else sigmoid_focal, label_weights, gamma=gamma)


@register_loss("mse")
def _mse() -> LossFunction:
    from torch.nn.functional import mse_loss

    return mse_loss


@register_loss("smooth-l1")
def _smooth_l1(*, beta: float = 0.1) -> LossFunction:
    """Return smooth L1; the coordinates are shares of a side, so that 0.1 is a large error."""
    from torch.nn import SmoothL1Loss

    return SmoothL1Loss(beta=beta)


@register_loss("giou")
def _giou() -> LossFunction:
    from blemish.training.losses import giou_loss

    return giou_loss
