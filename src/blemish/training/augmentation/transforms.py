"""The registry of pixel transforms: changes of an image's pixels that leave boxes and masks where they are.

A transform is a builder: a function whose keyword parameters are the transform's options and which returns a
`PixelTransform`. Its `draw` draws the random numbers of one image and returns a function of pixels, which is
then applied to every input of the network alike. A third-party package registers a transform through an
entry point in the group `blemish.augmentations`:

    from blemish.training import register_transform

    @register_transform("gaussian-noise")
    class GaussianNoise:
        def __init__(self, *, std: float = 0.02):
            self.std = std

        def draw(self, random):
            seed = random.integers(2**32)

            def apply(pixels):  # (H, W, C) uint8, or float32 in [0, 1]
                ...

            return apply

A recipe then sets `augmentation.transforms: [{name: gaussian-noise, options: {std: 0.05}}]`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from blemish.config.schema import TransformConfig
from blemish.errors import BadRecipe, suggestion
from blemish.registry import Registry

PixelFunction = Callable[[NDArray[Any]], NDArray[Any]]
Builder = TypeVar("Builder", bound=Callable[..., Any])


class PixelTransform(Protocol):
    """A random change of the pixels of an image."""

    def draw(self, random: np.random.Generator) -> PixelFunction:
        """Return the change of one image: a function of (H, W, C) uint8, or float32 in [0, 1], pixels.

        Args:
            random: the only source of randomness; it depends on the seed, the epoch and the image alone.
        """
        ...


class BuiltTransform(NamedTuple):
    """A transform of a recipe and the probability of applying it to an image."""

    probability: float
    transform: PixelTransform


TRANSFORMS: Registry[Callable[..., PixelTransform]] = Registry("augmentations", noun="transform")


def register_transform(name: str) -> Callable[[Builder], Builder]:
    """Return a decorator that registers a builder of a pixel transform and returns it unchanged.

    Args:
        name: what a recipe calls the transform.

    Raises:
        DuplicateName: another module has registered `name`.
    """

    def decorate(build: Builder) -> Builder:
        TRANSFORMS.register(name, build, module=build.__module__)
        return build

    return decorate


def build_transforms(configs: Sequence[TransformConfig]) -> tuple[BuiltTransform, ...]:
    """Return the transforms of a recipe.

    Args:
        configs: the entries of `augmentation.transforms`.

    Raises:
        UnknownName: no transform has that name.
        BadRecipe: a transform does not take an option ("bad-recipe.unknown-option"), or refuses its value.
    """
    out = []
    for i, config in enumerate(configs):
        build = TRANSFORMS.get(config.name)
        known = tuple(inspect.signature(build).parameters)
        where = f"augmentation.transforms.{i}"
        for option in config.options:
            if option not in known:
                hint = suggestion(option, known) or "; it takes no options"
                raise BadRecipe(
                    f"{where}: the transform {config.name} takes no option {option!r}{hint}",
                    reason="unknown-option",
                )
        try:
            out.append(BuiltTransform(config.probability, build(**config.options)))
        except (TypeError, ValueError) as error:
            raise BadRecipe(f"{where}: {config.name}: {error}", reason="invalid-option") from error
    return tuple(out)


def draw_transforms(
    transforms: Sequence[BuiltTransform], random: np.random.Generator
) -> tuple[PixelFunction, ...]:
    """Return the changes of one image, in the order of the recipe."""
    return tuple(built.transform.draw(random) for built in transforms if random.random() < built.probability)


@register_transform("brightness")
def _brightness(*, max_change: float = 0.2) -> PixelTransform:
    from blemish.training.augmentation.color_transforms import ColorTransform

    return ColorTransform("brightness", max_change)


@register_transform("contrast")
def _contrast(*, max_change: float = 0.2) -> PixelTransform:
    from blemish.training.augmentation.color_transforms import ColorTransform

    return ColorTransform("contrast", max_change)


@register_transform("saturation")
def _saturation(*, max_change: float = 0.2) -> PixelTransform:
    from blemish.training.augmentation.color_transforms import ColorTransform

    return ColorTransform("saturation", max_change)


@register_transform("hue")
def _hue(*, max_change: float = 0.02) -> PixelTransform:
    from blemish.training.augmentation.color_transforms import ColorTransform

    return ColorTransform("hue", max_change)
