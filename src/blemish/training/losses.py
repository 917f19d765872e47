"""Image-level losses as functions of outputs and target, and the weights of labels and images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from blemish.models._network import Network
from blemish.structures import Sample, Task

_EPSILON = 1e-8  # a power below 1 has no finite gradient at 0, which a certain and correct output reaches


class WeightedLoss(nn.Module):
    """A loss function with its options and the weights of the labels.

    Args:
        function: called with outputs, target, `weights` and the options.
        label_weights: (L,) float32, or None.
        options: keyword arguments of the function.
    """

    weights: Tensor | None

    def __init__(
        self, function: Callable[..., Tensor], label_weights: Tensor | None, **options: float
    ) -> None:
        super().__init__()
        self.function, self.options = function, options
        self.register_buffer("weights", label_weights, persistent=False)

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a batch, () float32."""
        return self.function(outputs, target, weights=self.weights, **self.options)


def cross_entropy(
    logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Return the cross-entropy, (): the mean over images, each weighted by its labels.

    Args:
        logits: (b, L) float32.
        target: (b, L) float32 shares of each label, which add up to 1.
        smoothing: label smoothing in [0, 1).
        weights: (L,) float32 weight of each label.

    Source:
        torch.nn.functional.cross_entropy with label indices, which this equals for one label per image. For
        mixed images torch divides by the number of images, this by the sum of their weights.
    """
    if weights is None:
        return functional.cross_entropy(logits, target, label_smoothing=smoothing)
    smooth = target * (1 - smoothing) + smoothing / target.shape[1]
    return -(smooth * weights * logits.log_softmax(1)).sum() / (target * weights).sum()


def binary_cross_entropy(
    logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Return the binary cross-entropy, (): the mean over images and labels.

    Args:
        logits: (b, L) float32.
        target: (b, L) float32 in [0, 1].
        smoothing: label smoothing in [0, 1): 1 becomes 1 - s/2, 0 becomes s/2.
        weights: (L,) float32 weight of the positives of each label. Weighting multiplies the odds that the
            loss is smallest at by the weight; the logarithm of the weight is therefore added to the logits,
            so that their sigmoid remains a probability at the labels' own frequency.

    Source:
        torch.nn.functional.binary_cross_entropy_with_logits; King and Zeng 2001, section 4.1 (prior
        correction).
    """
    if smoothing:
        target = target * (1 - smoothing) + smoothing / 2
    if weights is not None:
        logits = logits + weights.log()
    return functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weights)


def start_at_frequency(network: Network, weights: NDArray[np.floating]) -> bool:
    """Set the biases of a new last layer so that balanced `bce` starts at even weighted odds.

    Without it, the first steps only move the biases to the logarithm of the labels' odds.

    Args:
        network: its last linear layer is changed in place if it has one output for each label and was not
            loaded.
        weights: (L,) weight of the positives of each label.

    Returns:
        Whether the biases were set.
    """
    last = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear)][-1:]
    for name, layer in last:
        is_new = f"{name}.bias" not in network.loaded
        if layer.bias is not None and layer.out_features == len(weights) and is_new:
            with torch.no_grad():
                layer.bias.sub_(torch.as_tensor(np.log(weights), dtype=layer.bias.dtype))
            return True
    return False


def softmax_focal(logits: Tensor, target: Tensor, gamma: float, weights: Tensor | None = None) -> Tensor:
    """Return the focal loss with softmax, (): the mean over images of -(1 - p)^gamma log p.

    Args:
        logits: (b, L) float32.
        target: (b, L) float32 shares of each label, which add up to 1.
        gamma: focusing parameter; 0 gives cross-entropy.
        weights: (L,) float32 weight of each label.

    Source:
        Lin et al. 2017, equation 4, with softmax.
    """
    log_p = logits.log_softmax(1)
    terms = target * (1 - log_p.exp()).clamp(min=_EPSILON) ** gamma * log_p
    if weights is None:
        return -terms.sum(1).mean()
    return -(terms * weights).sum() / (target * weights).sum()


def sigmoid_focal(logits: Tensor, target: Tensor, gamma: float, weights: Tensor | None = None) -> Tensor:
    """Return the focal loss with sigmoid, (): the mean over images and labels.

    Args:
        logits: (b, L) float32.
        target: (b, L) float32 in [0, 1].
        gamma: focusing parameter; 0 gives binary cross-entropy.
        weights: (L,) float32 weight of the positives of each label.

    Source:
        Lin et al. 2017, equation 4; equals torchvision.ops.sigmoid_focal_loss with alpha -1.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weights, reduction="none")
    p = logits.sigmoid()
    error = p * (1 - target) + (1 - p) * target
    return (loss * error.clamp(min=_EPSILON) ** gamma).mean()


def giou_loss(predicted_xywh: Tensor, target_xywh: Tensor) -> Tensor:
    """Return the generalized IoU loss, (): the mean of 1 - GIoU, in [0, 2].

    A negative width or height adds its absolute value, so that the gradient enlarges it.

    Args:
        predicted_xywh: (b, 4) float32.
        target_xywh: (b, 4) float32 with positive sizes.

    Source:
        Rezatofighi et al. 2019; equals torchvision.ops.generalized_box_iou_loss where sizes are positive.
    """
    size = predicted_xywh[:, 2:]
    first = torch.cat([predicted_xywh[:, :2], predicted_xywh[:, :2] + size.clamp(min=1e-6)], 1)
    second = torch.cat([target_xywh[:, :2], target_xywh[:, :2] + target_xywh[:, 2:]], 1)
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    intersection = (high - low).clamp(min=0).prod(1)
    areas = (first[:, 2:] - first[:, :2]).prod(1) + (second[:, 2:] - second[:, :2]).prod(1)
    union = areas - intersection
    hull_low = torch.minimum(first[:, :2], second[:, :2])
    hull_high = torch.maximum(first[:, 2:], second[:, 2:])
    hull = (hull_high - hull_low).prod(1)
    giou = intersection / (union + 1e-7) - (hull - union) / (hull + 1e-7)
    return (1 - giou).mean() + (-size).clamp(min=0).mean()


def label_counts(samples: Sequence[Sample], label_count: int) -> NDArray[np.int64]:
    """Return how many images have each label, (L,)."""
    counts = np.zeros(label_count, np.int64)
    for sample in samples:
        if sample.ground_truth is not None:
            counts[np.unique(sample.ground_truth.label_index)] += 1
    return counts


def label_weights(samples: Sequence[Sample], task: Task, label_count: int) -> NDArray[np.float64]:
    """Return the weight of each label, (L,), by how rare it is among the training images.

    Classification: n / (L x count), as scikit-learn's `balanced`. Multilabel: negatives / positives. A
    label without images has weight 1.
    """
    counts = label_counts(samples, label_count).astype(np.float64)
    n = len(samples)
    rarity = (
        n / (label_count * np.maximum(counts, 1))
        if task.has_one_label
        else (n - counts) / np.maximum(counts, 1)
    )
    # A label on every image has no negatives, and weight 0 would stop its training.
    return np.where((counts > 0) & (rarity > 0), rarity, 1.0)


def sampling_weights(samples: Sequence[Sample], label_count: int) -> NDArray[np.float64]:
    """Return how often each image is drawn, (n,), so that every label is drawn about equally often.

    An image with several labels counts as its rarest one; images without labels count as one more label.
    """
    counts = label_counts(samples, label_count)
    labels_of = [
        () if s.ground_truth is None else tuple(np.unique(s.ground_truth.label_index)) for s in samples
    ]
    unlabeled = max(sum(not labels for labels in labels_of), 1)
    return np.array(
        [1 / (min(int(counts[i]) for i in labels) if labels else unlabeled) for labels in labels_of]
    )
