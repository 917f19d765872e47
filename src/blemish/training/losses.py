"""Image-level losses, chosen by the recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from blemish.config.training_schema import LossConfig
from blemish.errors import BadRecipe
from blemish.structures import Sample, Task

Loss = Callable[[Tensor, Tensor], Tensor]

_AWAY = 1e-8  # a root has no slope at 0, where a sure and right answer stands
_USERS = {
    "label_smoothing": ("cross-entropy", "bce"),
    "class_weights": ("cross-entropy", "bce", "focal"),
    "gamma": ("focal",),
}


class ImageLoss(nn.Module):
    """One number for a batch.

    Takes (b, L) logits and (b, L) float32 shares of each label in [0, 1], which add up to 1 for
    classification; or (b, 4) boxes `xywh` and (b, 4) likewise.

    Args:
        task: of the network.
        part: which loss, and how.
        label_weights: (L,) from `label_weights`; None for none.
    """

    weights: Tensor | None

    def __init__(self, task: Task, part: LossConfig, label_weights: NDArray[Any] | None = None) -> None:
        super().__init__()
        self.name = loss_name(task, part)
        self.task, self.part = task, part
        weights = None if label_weights is None else torch.tensor(label_weights, dtype=torch.float32)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, answers: Tensor, target: Tensor) -> Tensor:
        """() float32."""
        answers = answers.float()  # mixed precision ends before the loss
        if self.name == "cross-entropy":
            return cross_entropy(answers, target, self.part.label_smoothing, self.weights)
        if self.name == "bce":
            target = smooth_binary(target, self.part.label_smoothing)
            return functional.binary_cross_entropy_with_logits(answers, target, pos_weight=self.weights)
        if self.name == "focal":
            loss = softmax_focal if self.task.has_one_label else sigmoid_focal
            return loss(answers, target, self.part.gamma, self.weights)
        if self.name == "smooth-l1":
            return functional.smooth_l1_loss(answers, target, beta=0.1)  # shares: .1 of a side is much
        if self.name == "giou":
            return giou_loss(answers, target)
        return functional.mse_loss(answers, target)


def loss_name(task: Task, part: LossConfig) -> str:
    """The loss by name: the recipe's, or the task's own.

    Raises:
        BadRecipe: one that another task takes.
    """
    fitting = task.fields.losses
    if part.name is None:
        return fitting[0] if fitting else ""
    if part.name not in fitting:
        takes = ", ".join(fitting) or "no name, since each network for it has a loss of its own"
        raise BadRecipe(f"training.loss.name: {task} takes {takes}, not {part.name}")
    return part.name


def check_loss(task: Task, part: LossConfig) -> None:
    """Refuse a setting that the loss would not look at.

    Raises:
        BadRecipe: one is set; the message names its key and the loss.
    """
    name = loss_name(task, part)
    for key, users in _USERS.items():
        if name in users or getattr(part, key) == LossConfig.model_fields[key].default:
            continue
        able = [n for n in task.fields.losses if n in users]
        other = f", or take {' or '.join(able)}" if able else ""
        raise BadRecipe(
            f"training.loss.{key}: {name or f'the loss of a network for {task}'} has no use for it;"
            f" leave it out{other}"
        )


def cross_entropy(
    logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """() mean over images, each counting as much as its labels weigh.

    Source:
        torch.nn.functional.cross_entropy with label indices, which this equals for one label an image;
        for mixed images torch divides by their number whatever they weigh, and this does not.
    """
    if weights is None:
        return functional.cross_entropy(logits, target, label_smoothing=smoothing)
    smooth = target * (1 - smoothing) + smoothing / target.shape[1]
    return -(smooth * weights * logits.log_softmax(1)).sum() / (target * weights).sum()


def smooth_binary(target: Tensor, smoothing: float) -> Tensor:
    """Shares drawn towards one half: 1 becomes 1 - s/2, 0 becomes s/2."""
    return target * (1 - smoothing) + smoothing / 2 if smoothing else target


def softmax_focal(logits: Tensor, target: Tensor, gamma: float, weights: Tensor | None = None) -> Tensor:
    """() mean over images of -(1 - p)^gamma log p, by the share of each label.

    Source:
        Lin et al. 2017, equation 4, with softmax; equals cross-entropy for gamma 0.
    """
    logs = logits.log_softmax(1)
    parts = target * (1 - logs.exp()).clamp(min=_AWAY) ** gamma * logs
    if weights is None:
        return -parts.sum(1).mean()
    return -(parts * weights).sum() / (target * weights).sum()


def sigmoid_focal(logits: Tensor, target: Tensor, gamma: float, weights: Tensor | None = None) -> Tensor:
    """() mean over images and labels.

    Source:
        Lin et al. 2017, equation 4; equals torchvision.ops.sigmoid_focal_loss with alpha -1.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weights, reduction="none")
    p = logits.sigmoid()
    away = p * (1 - target) + (1 - p) * target
    return (loss * away.clamp(min=_AWAY) ** gamma).mean()


def giou_loss(answers_xywh: Tensor, target_xywh: Tensor) -> Tensor:
    """() mean of 1 - generalised IoU, in [0, 2]; plus what a width or height below 0 lacks, so that it grows.

    Source:
        Rezatofighi et al. 2019; equals torchvision.ops.generalized_box_iou_loss where sizes are positive.
    """
    size = answers_xywh[:, 2:]
    first = torch.cat([answers_xywh[:, :2], answers_xywh[:, :2] + size.clamp(min=1e-6)], 1)
    second = torch.cat([target_xywh[:, :2], target_xywh[:, :2] + target_xywh[:, 2:]], 1)
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    both = (high - low).clamp(min=0).prod(1)
    either = (first[:, 2:] - first[:, :2]).prod(1) + (second[:, 2:] - second[:, :2]).prod(1) - both
    hull_low, hull_high = (
        torch.minimum(first[:, :2], second[:, :2]),
        torch.maximum(first[:, 2:], second[:, 2:]),
    )
    hull = (hull_high - hull_low).prod(1)
    giou = both / (either + 1e-7) - (hull - either) / (hull + 1e-7)
    return (1 - giou).mean() + (-size).clamp(min=0).mean()


def label_counts(samples: Sequence[Sample], label_count: int) -> NDArray[np.int64]:
    """(L,) how many images hold each label."""
    counts = np.zeros(label_count, np.int64)
    for sample in samples:
        if sample.ground_truth is not None:
            counts[np.unique(sample.ground_truth.label_index)] += 1
    return counts


def label_weights(samples: Sequence[Sample], task: Task, label_count: int) -> NDArray[np.float64]:
    """(L,) how much each label weighs, by how rare it is among the training images.

    Classification: n / (L x count), as scikit-learn's `balanced`. Multilabel: negatives / positives. A
    label that never stands weighs 1.
    """
    counts = label_counts(samples, label_count).astype(np.float64)
    n = len(samples)
    rare = (
        n / (label_count * np.maximum(counts, 1))
        if task.has_one_label
        else (n - counts) / np.maximum(counts, 1)
    )
    # A label on every image has no negatives; weight 0 would stop it from being learned at all.
    return np.where((counts > 0) & (rare > 0), rare, 1.0)


def sampling_weights(samples: Sequence[Sample], label_count: int) -> NDArray[np.float64]:
    """(n,) how often each image is drawn, so that every label is seen about as often as any other.

    An image of several labels counts as its rarest; images without any are a label of their own.
    """
    counts = label_counts(samples, label_count)
    held = [() if s.ground_truth is None else tuple(np.unique(s.ground_truth.label_index)) for s in samples]
    without = max(sum(not labels for labels in held), 1)
    return np.array([1 / (min(int(counts[i]) for i in labels) if labels else without) for labels in held])
