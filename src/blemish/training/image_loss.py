"""`ImageLoss`: the loss of a recipe for an image-level network."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.config.training_schema import LossConfig
from blemish.structures import Task
from blemish.training.loss_registry import build_loss


class ImageLoss(nn.Module):
    """The loss of a recipe for an image-level network.

    Takes (b, L) logits and (b, L) float32 shares of each label in [0, 1], which add up to 1 for
    classification; or, for localization, (b, 4) boxes xywh and (b, 4) boxes xywh.

    Args:
        task: of the network; for a task whose networks have their own losses, calling it is an error.
        config: the section `training.loss`.
        label_weights: (L,) from `label_weights`; None for equal weights.

    Raises:
        BadRecipe: the loss does not fit the task, or does not take an option.
    """

    def __init__(self, task: Task, config: LossConfig, label_weights: NDArray[Any] | None = None) -> None:
        super().__init__()
        weights = None if label_weights is None else torch.tensor(label_weights, dtype=torch.float32)
        built = build_loss(task, config, weights)
        self.name = "" if built is None else built[0]
        self.function = None if built is None else built[1]

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a batch, () float32."""
        assert self.function is not None  # noqa: S101  (a detector computes its own loss)
        return self.function(outputs.float(), target)  # mixed precision ends before the loss
