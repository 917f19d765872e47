"""Settings that follow from the number of optimizer steps and from the images per step. Torch-free."""

from __future__ import annotations

import math
from typing import Literal

from blemish.config.recipe import Recipe
from blemish.config.schema import AugmentationConfig
from blemish.config.training_schema import ScheduleConfig

EMA_SHARE = 0.1  # of all optimizer steps, that `ema: auto` averages over
MAX_EMA_STEPS = 10_000


def images_per_step(recipe: Recipe) -> int | None:
    """Return the number of images of an optimizer step on all devices; None if the batch size is `auto`."""
    training = recipe.training
    if not isinstance(training.batch_size, int):
        return None
    world = training.devices * training.nodes
    return training.batch_size * training.accumulate_grad_batches * world


def scale_to_batch(recipe: Recipe) -> Recipe:
    """Return a recipe whose learning rates and weight decay suit its images per step.

    With k times the nominal number of images, SGD gets k times the learning rate; Adam and AdamW get its
    root, because their steps do not grow with the gradient. AdamW multiplies its weight decay by the learning
    rate in each step: it also gets the root of k times the decay, so that an epoch shrinks the weights as
    much as with the nominal batch. The nominal number of the returned recipe is its own: scaled again, it
    does not change, so that a resumed run keeps its rates.

    Args:
        recipe: resolved; without `nominal_batch_size`, or with a batch size of `auto`, it is returned as it
            is.

    Source:
        Goyal et al. 2017, "Accurate, Large Minibatch SGD" (SGD); Malladi et al. 2022, "On the SDEs and
        Scaling Rules for Adaptive Gradient Algorithms" (Adam).
    """
    optimizer, images = recipe.training.optimizer, images_per_step(recipe)
    if optimizer.nominal_batch_size is None or images in (None, optimizer.nominal_batch_size):
        return recipe
    assert images is not None  # noqa: S101
    ratio = images / optimizer.nominal_batch_size
    factor = ratio if optimizer.name == "sgd" else math.sqrt(ratio)
    decay = factor if optimizer.name == "adamw" else 1.0
    section = "training.optimizer"
    return recipe.changed(
        {
            f"{section}.learning_rate": optimizer.learning_rate * factor,
            f"{section}.lr_by_stage": {k: rate * factor for k, rate in optimizer.lr_by_stage.items()},
            f"{section}.weight_decay": optimizer.weight_decay * decay,
            f"{section}.nominal_batch_size": images,
        }
    )


def ema_steps(decay: float | Literal["auto"], steps: int) -> float:
    """Return the number of optimizer steps that the moving average of the weights spans.

    Args:
        decay: `training.ema`.
        steps: optimizer steps of the training.
    """
    return min(max(EMA_SHARE * steps, 1), MAX_EMA_STEPS) if decay == "auto" else 1 / (1 - decay)


def warmup_steps(schedule: ScheduleConfig, steps_per_epoch: int, epochs: int) -> float:
    """Return the number of optimizer steps of linear warm-up.

    Args:
        schedule: `training.schedule`.
        steps_per_epoch: optimizer steps.
        epochs: of the training.
    """
    by_share = schedule.warmup_share * steps_per_epoch * epochs
    return schedule.warmup_steps or schedule.warmup_epochs * steps_per_epoch or by_share


def count_mixed_epochs(config: AugmentationConfig, epochs: int, steps_per_epoch: int) -> int:
    """Return the number of first epochs in which inputs show several images.

    Args:
        config: its `close_share` and `close_steps` are used.
        epochs: of the training.
        steps_per_epoch: optimizer steps.

    Example:
        >>> config = AugmentationConfig(close_share=0.1, close_steps=1000)
        >>> [count_mixed_epochs(config, epochs, 63) for epochs in (6, 20, 100)]
        [0, 4, 84]
    """
    by_share = min(math.ceil(config.close_share * epochs), epochs - 1)
    by_steps = math.ceil(config.close_steps / max(steps_per_epoch, 1))
    return max(epochs - max(by_share, by_steps), 0)


def describe_steps(recipe: Recipe, steps_per_epoch: int, nominal: int | None = None) -> str:
    """Return one line with the settings that follow from the number of steps and the images per step.

    Args:
        recipe: resolved and scaled.
        steps_per_epoch: optimizer steps.
        nominal: the images per step for which the rates were given, or None.

    Returns:
        "" if no setting of the recipe follows from them.
    """
    training = recipe.training
    optimizer, schedule, augmentation = training.optimizer, training.schedule, recipe.augmentation
    mixed = augmentation.mosaic or augmentation.copy_paste
    follows = (optimizer.nominal_batch_size, schedule.warmup_share, training.ema == "auto", mixed)
    if not any(follows):
        return ""
    images, steps = images_per_step(recipe), steps_per_epoch * training.epochs
    decay = f"weight decay {optimizer.weight_decay:.3g}"
    parts = [f"learning rate {optimizer.learning_rate:.3g}", decay]
    if nominal not in (None, images):
        parts[-1] += f" (scaled from {nominal} images per step)"
    if schedule.name != "one-cycle":
        parts.append(f"warm-up {warmup_steps(schedule, steps_per_epoch, training.epochs):.0f} steps")
    if training.ema is not None:
        parts.append(f"weights averaged over {ema_steps(training.ema, steps):.0f} steps")
    if mixed:
        count = count_mixed_epochs(augmentation, training.epochs, steps_per_epoch)
        parts.append(f"images are mixed in the first {count} of {training.epochs} epochs")
    return f"{steps} steps of {images} images: {', '.join(parts)}"
