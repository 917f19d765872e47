"""Losses, label weights and sampling weights, compared with torch, torchvision and scikit-learn."""

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch.nn import functional

from blemish.config.training_schema import LossConfig
from blemish.models import create
from blemish.structures import GroundTruth, Labels, Sample, Task
from blemish.testing import raises
from blemish.training.image_loss import ImageLoss
from blemish.training.loss_registry import check_loss
from blemish.training.losses import label_weights, sampling_weights, start_at_frequency

LABELS = Labels(("a", "b", "c"))


def samples(held, task):
    ground_truths = [GroundTruth(task=task, labels=LABELS, label_index=np.array(list(h))) for h in held]
    return [Sample(id=str(i), path=None, ground_truth=t) for i, t in enumerate(ground_truths)]


@pytest.fixture
def batch():
    torch.manual_seed(0)
    index = torch.tensor([0, 2, 1, 0, 2])
    return torch.randn(5, 3), index, functional.one_hot(index, 3).float()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_cross_entropy_equals_torch(batch, smoothing, weights):
    logits, index, target = batch
    loss = ImageLoss(
        Task.CLASSIFICATION, LossConfig(label_smoothing=smoothing), weights and np.array(weights)
    )
    w = None if weights is None else torch.tensor(weights)
    expected = functional.cross_entropy(logits, index, w, label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, target), expected)


def test_binary_cross_entropy_equals_torch(batch):
    logits, _, target = batch
    weights = torch.tensor([0.5, 2.0, 1.0])
    loss = ImageLoss(Task.MULTILABEL, LossConfig(), weights.numpy())
    expected = functional.binary_cross_entropy_with_logits(logits + weights.log(), target, pos_weight=weights)
    torch.testing.assert_close(loss(logits, target), expected)
    expected = functional.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(ImageLoss(Task.MULTILABEL, LossConfig())(logits, target), expected)


def test_binary_cross_entropy_with_balanced_weights_is_smallest_at_the_frequency_of_the_label():
    target = torch.zeros(100, 1)
    target[:4] = 1
    weights = np.array([96 / 4])
    logits = torch.linspace(-6, 6, 2401)
    loss = ImageLoss(Task.MULTILABEL, LossConfig(), weights)
    losses = torch.stack([loss(z.expand(100, 1), target) for z in logits])
    assert float(logits[losses.argmin()].sigmoid()) == pytest.approx(0.04, abs=2e-3)


def test_start_at_frequency_sets_the_biases_of_a_new_last_layer():
    network: Any = create("timm/test_resnet", task="multilabel", label_count=2, input_size=32)
    before = network.head[-1].bias.detach().clone()
    weights = np.array([3.0, 24.0])
    assert start_at_frequency(network, weights)
    torch.testing.assert_close(network.head[-1].bias, before - torch.tensor([3.0, 24.0]).log())
    name = next(n for n, m in network.named_modules() if m is network.head[-1])
    network.loaded = frozenset({f"{name}.bias"})
    assert not start_at_frequency(network, weights)
    torch.testing.assert_close(network.head[-1].bias, before - torch.tensor([3.0, 24.0]).log())


def test_sigmoid_focal_equals_torchvision(batch):
    logits, _, target = batch
    loss = ImageLoss(Task.MULTILABEL, LossConfig(name="focal", gamma=1.5))
    expected = torchvision.ops.sigmoid_focal_loss(logits, target, alpha=-1, gamma=1.5, reduction="mean")
    torch.testing.assert_close(loss(logits, target), expected)


def test_softmax_focal_equals_cross_entropy_for_gamma_0_and_the_formula_otherwise(batch):
    logits, index, target = batch
    plain = ImageLoss(Task.CLASSIFICATION, LossConfig(name="focal", gamma=0))
    torch.testing.assert_close(plain(logits, target), functional.cross_entropy(logits, index))
    p = logits.softmax(1)[torch.arange(5), index]
    focal = ImageLoss(Task.CLASSIFICATION, LossConfig(name="focal", gamma=2))
    torch.testing.assert_close(focal(logits, target), (-((1 - p) ** 2) * p.log()).mean())


def test_giou_loss_equals_torchvision_and_enlarges_negative_sizes():
    torch.manual_seed(0)
    answers, target = torch.rand(6, 4) + 0.05, torch.rand(6, 4) + 0.05
    to_corners = lambda b: torch.cat([b[:, :2], b[:, :2] + b[:, 2:]], 1)  # noqa: E731
    loss = ImageLoss(Task.LOCALIZATION, LossConfig(name="giou"))
    expected = torchvision.ops.generalized_box_iou_loss(to_corners(answers), to_corners(target)).mean()
    torch.testing.assert_close(loss(answers, target), expected, rtol=1e-4, atol=1e-5)
    inside_out = torch.tensor([[0.5, 0.5, -0.2, -0.3]], requires_grad=True)
    loss(inside_out, target[:1]).backward()
    assert (inside_out.grad[0, 2:] < 0).all()


def test_image_loss_refuses_the_loss_of_another_task():
    with raises("bad-recipe.loss-of-another-task", "bce", "localization", "mse, smooth-l1, giou"):
        ImageLoss(Task.LOCALIZATION, LossConfig(name="bce"))


def test_label_weights_equal_scikit_learn_and_negatives_per_positive():
    from sklearn.utils.class_weight import compute_class_weight

    index = [0, 0, 0, 1, 2, 2]
    mine = label_weights(samples([[i] for i in index], Task.CLASSIFICATION), Task.CLASSIFICATION, 3)
    np.testing.assert_allclose(mine, compute_class_weight("balanced", classes=np.arange(3), y=index))
    held = [[0], [0, 1], [], [0], [0, 2]]
    mine = label_weights(samples(held, Task.MULTILABEL), Task.MULTILABEL, 3)
    np.testing.assert_allclose(mine, [1 / 4, 4, 4])
    always = label_weights(samples([[0], [0]], Task.MULTILABEL), Task.MULTILABEL, 3)
    np.testing.assert_allclose(always, [1, 1, 1])


def test_sampling_weights_balance_labels():
    weights = sampling_weights(samples([[0]] * 6 + [[1]] * 2, Task.CLASSIFICATION), 3)
    assert weights[:6].sum() == pytest.approx(weights[6:].sum())
    weights = sampling_weights(samples([[0], [0], [0, 1], [], []], Task.MULTILABEL), 3)
    np.testing.assert_allclose(weights, [1 / 3, 1 / 3, 1, 1 / 2, 1 / 2])


@pytest.mark.parametrize("task", [Task.CLASSIFICATION, Task.MULTILABEL])
def test_focal_losses_have_a_finite_gradient_at_certain_outputs(task):
    logits = torch.tensor([[40.0, -40, -200], [-40, 40, 200]], requires_grad=True)
    target = torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    ImageLoss(task, LossConfig(name="focal", gamma=0.5))(logits, target).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("task", "keys", "facts"),
    [
        (
            Task.LOCALIZATION,
            {"label_smoothing": 0.1},
            ("unused-key", "training.loss.label_smoothing", "mse"),
        ),
        (
            Task.LOCALIZATION,
            {"class_weights": "balanced", "name": "giou"},
            ("unused-key", "class_weights", "giou"),
        ),
        (
            Task.CLASSIFICATION,
            {"name": "focal", "label_smoothing": 0.1},
            ("unused-key", "label_smoothing: focal", "choose cross-entropy"),
        ),
        (Task.MULTILABEL, {"gamma": 1}, ("unused-key", "gamma: bce", "choose focal")),
        (Task.DETECTION, {"class_weights": "balanced"}, ("unused-key", "training.loss.class_weights")),
        (Task.SEGMENTATION, {"name": "bce"}, ("loss-of-another-task", "bce", "segmentation")),
        (
            Task.MULTILABEL,
            {"options": {"gama": 1}, "name": "focal"},
            ("unknown-option", "focal", "'gama'", "'gamma'"),
        ),
        (Task.DETECTION, {"options": {"x": 1}}, ("unknown-option", "'x'")),
    ],
)
def test_check_loss_refuses_unused_keys(task, keys, facts):
    reason, *mentions = facts
    with raises(f"bad-recipe.{reason}", *mentions):
        check_loss(task, LossConfig(**keys))


@pytest.mark.parametrize(
    ("task", "keys"),
    [
        (Task.CLASSIFICATION, {"label_smoothing": 0.1, "class_weights": "balanced"}),
        (Task.MULTILABEL, {"label_smoothing": 0.1}),
        (Task.MULTILABEL, {"name": "focal", "gamma": 0, "class_weights": "balanced"}),
        (Task.DETECTION, {}),
    ],
)
def test_check_loss_accepts_used_keys(task, keys):
    check_loss(task, LossConfig(**keys))
