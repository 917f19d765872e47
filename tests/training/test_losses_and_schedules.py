"""Losses, weights and schedules against torch, torchvision and scikit-learn."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from torch.nn import functional

from blemish.config.recipe import read_recipe
from blemish.config.training_schema import LossConfig, OptimizerConfig, ScheduleConfig
from blemish.errors import BadRecipe, UnknownName
from blemish.models import create
from blemish.structures import GroundTruth, Labels, Sample, Task
from blemish.training.lightning_module import ImageLightningModule
from blemish.training.losses import ImageLoss, check_loss, label_weights, sampling_weights
from blemish.training.augmentation.mixup import mix_batch
from blemish.training.optimizers import (
    build_optimizer,
    freeze,
    improves,
    lr_multiplier,
    parameter_groups,
    lr_of_pretrained_stages,
)

LABELS = Labels(("a", "b", "c"))


def samples(held, task):
    ground_truths = [GroundTruth(task=task, labels=LABELS, label_index=list(h)) for h in held]
    return [Sample(id=str(i), path=None, ground_truth=t) for i, t in enumerate(ground_truths)]


@pytest.fixture
def batch():
    torch.manual_seed(0)
    index = torch.tensor([0, 2, 1, 0, 2])
    return torch.randn(5, 3), index, functional.one_hot(index, 3).float()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_cross_entropy_is_torchs(batch, smoothing, weights):
    logits, index, target = batch
    loss = ImageLoss(
        Task.CLASSIFICATION, LossConfig(label_smoothing=smoothing), weights and np.array(weights)
    )
    w = None if weights is None else torch.tensor(weights)
    expected = functional.cross_entropy(logits, index, w, label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, target), expected)


def test_bce_is_torchs(batch):
    logits, _, target = batch
    loss = ImageLoss(Task.MULTILABEL, LossConfig(), np.array([0.5, 2.0, 1.0]))
    expected = functional.binary_cross_entropy_with_logits(
        logits, target, pos_weight=torch.tensor([0.5, 2.0, 1.0])
    )
    torch.testing.assert_close(loss(logits, target), expected)


def test_sigmoid_focal_is_torchvisions(batch):
    logits, _, target = batch
    loss = ImageLoss(Task.MULTILABEL, LossConfig(name="focal", gamma=1.5))
    expected = torchvision.ops.sigmoid_focal_loss(logits, target, alpha=-1, gamma=1.5, reduction="mean")
    torch.testing.assert_close(loss(logits, target), expected)


def test_softmax_focal_without_gamma_is_cross_entropy_and_with_it_the_formula(batch):
    logits, index, target = batch
    plain = ImageLoss(Task.CLASSIFICATION, LossConfig(name="focal", gamma=0))
    torch.testing.assert_close(plain(logits, target), functional.cross_entropy(logits, index))
    p = logits.softmax(1)[torch.arange(5), index]
    focal = ImageLoss(Task.CLASSIFICATION, LossConfig(name="focal", gamma=2))
    torch.testing.assert_close(focal(logits, target), (-((1 - p) ** 2) * p.log()).mean())


def test_giou_is_torchvisions_and_pulls_boxes_that_are_inside_out():
    torch.manual_seed(0)
    answers, target = torch.rand(6, 4) + 0.05, torch.rand(6, 4) + 0.05
    to_corners = lambda b: torch.cat([b[:, :2], b[:, :2] + b[:, 2:]], 1)  # noqa: E731
    loss = ImageLoss(Task.LOCALIZATION, LossConfig(name="giou"))
    expected = torchvision.ops.generalized_box_iou_loss(to_corners(answers), to_corners(target)).mean()
    torch.testing.assert_close(loss(answers, target), expected, rtol=1e-4, atol=1e-5)
    inside_out = torch.tensor([[0.5, 0.5, -0.2, -0.3]], requires_grad=True)
    loss(inside_out, target[:1]).backward()
    assert (inside_out.grad[0, 2:] < 0).all()


def test_a_loss_of_another_task_is_refused():
    with pytest.raises(BadRecipe, match="mse, smooth-l1, giou, not bce"):
        ImageLoss(Task.LOCALIZATION, LossConfig(name="bce"))


def test_label_weights_are_scikit_learns_and_negatives_a_positive():
    from sklearn.utils.class_weight import compute_class_weight

    index = [0, 0, 0, 1, 2, 2]
    mine = label_weights(samples([[i] for i in index], Task.CLASSIFICATION), Task.CLASSIFICATION, 3)
    np.testing.assert_allclose(mine, compute_class_weight("balanced", classes=np.arange(3), y=index))
    held = [[0], [0, 1], [], [0], [0, 2]]
    mine = label_weights(samples(held, Task.MULTILABEL), Task.MULTILABEL, 3)
    np.testing.assert_allclose(mine, [1 / 4, 4, 4])
    always = label_weights(samples([[0], [0]], Task.MULTILABEL), Task.MULTILABEL, 3)
    np.testing.assert_allclose(always, [1, 1, 1])


def test_sampling_weights_make_labels_equal():
    weights = sampling_weights(samples([[0]] * 6 + [[1]] * 2, Task.CLASSIFICATION), 3)
    assert weights[:6].sum() == pytest.approx(weights[6:].sum())
    weights = sampling_weights(samples([[0], [0], [0, 1], [], []], Task.MULTILABEL), 3)
    np.testing.assert_allclose(weights, [1 / 3, 1 / 3, 1, 1 / 2, 1 / 2])


def rates(part, epochs, steps, history=()):
    return [lr_multiplier(part, s, steps, epochs, history[: s // steps], "m") for s in range(epochs * steps)]


def torch_rates(make, epochs, steps, *, each="step", metrics=None):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 1.0)
    scheduler = make(optimizer)
    out = []
    for epoch in range(epochs):
        for _ in range(steps):
            out.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if each == "step" and len(out) < epochs * steps:
                scheduler.step()
        if each == "epoch":
            scheduler.step(*([metrics[epoch]] if metrics else []))
    return out


@pytest.mark.parametrize(("epochs", "steps"), [(8, 5), (1, 3), (3, 40)])
def test_schedules_are_torchs(epochs, steps):
    schedulers = torch.optim.lr_scheduler
    expected = torch_rates(
        lambda o: schedulers.OneCycleLR(o, 1.0, epochs * steps, cycle_momentum=False), epochs, steps
    )
    np.testing.assert_allclose(rates(ScheduleConfig(name="one-cycle"), epochs, steps), expected, atol=1e-9)
    expected = torch_rates(
        lambda o: schedulers.CosineAnnealingLR(o, epochs * steps, eta_min=0.1), epochs, steps
    )
    mine = rates(ScheduleConfig(name="cosine", min_lr_ratio=0.1), epochs, steps)
    np.testing.assert_allclose(mine, expected, atol=1e-9)
    expected = torch_rates(lambda o: schedulers.MultiStepLR(o, [2, 5], 0.3), epochs, steps, each="epoch")
    mine = rates(ScheduleConfig(name="multistep", milestones=(2, 5), factor=0.3), epochs, steps)
    np.testing.assert_allclose(mine, expected)


def test_plateau_is_torchs():
    values = [0.1, 0.3, 0.3, 0.2, 0.29, 0.31, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    expected = torch_rates(
        lambda o: plateau(o, "max", 0.5, 2, threshold=0, threshold_mode="abs"),
        len(values), 3, each="epoch", metrics=values,
    )  # fmt: skip
    part = ScheduleConfig(name="plateau", factor=0.5, patience=2)
    np.testing.assert_allclose(rates(part, len(values), 3, [{"m": v} for v in values]), expected)
    loss = ScheduleConfig(name="plateau", factor=0.5, patience=0, metric="val_loss")
    assert lr_multiplier(loss, 6, 2, 9, [{"val_loss": v} for v in (3, 2, 1)]) == 1
    assert lr_multiplier(loss, 6, 2, 9, [{"val_loss": v} for v in (1, 2, 3)]) == 0.25


def test_warm_up_rises_to_the_whole_rate():
    mine = rates(ScheduleConfig(name="cosine", warmup_epochs=2), 6, 5)
    assert (np.diff(mine[:11]) > 0).all()
    assert mine[10] == pytest.approx(1)
    assert mine[-1] < 0.02


def test_nothing_gains_from_a_nan():
    assert not improves(float("nan"), 0.1, "macro_f1")
    assert improves(0.1, float("nan"), "macro_f1")
    assert improves(0.1, 0.2, "val_loss")
    assert not improves(0.105, 0.1, "macro_f1", min_delta=0.01)


@pytest.fixture(scope="module")
def network():
    return create("timm/test_resnet", task="classification", label_count=3, input_size=32)


def test_rates_by_group_take_the_longest_name_that_fits(network):
    part = OptimizerConfig(
        lr_by_stage={"layer3": 1e-5, "layer3.0.conv1": 1e-6, "head": 1e-2}, learning_rate=1e-3
    )
    rate = {id(p): g["lr"] for g in parameter_groups(network, part) for p in g["params"]}
    for name, parameter in network.named_parameters():
        wanted = (
            1e-6
            if "layer3.0.conv1." in name
            else 1e-5
            if "layer3" in name
            else 1e-2
            if "head" in name
            else 1e-3
        )
        assert rate[id(parameter)] == wanted, name


def test_a_pretrained_backbone_under_fresh_heads_learns_more_slowly():
    detector = create("ssd300-resnet50", task="detection", label_count=2, input_size=64, backbone="resnet10t")
    assert lr_of_pretrained_stages(detector, OptimizerConfig()) == {}
    names = [name for name, _ in detector.named_parameters()]
    detector.loaded = frozenset(n for n in names if n.startswith("backbone."))
    rates = lr_of_pretrained_stages(detector, OptimizerConfig())
    assert set(rates) == set(detector.stages) - {"head"}
    assert set(rates.values()) == {1e-4}
    fast = parameter_groups(detector, OptimizerConfig(lr_by_stage=rates))
    by_rate = {id(p): group["lr"] for group in fast for p in group["params"]}
    for name, parameter in detector.named_parameters():
        assert by_rate[id(parameter)] == (1e-4 if name.startswith("backbone.") else 1e-3), name
    for said in (OptimizerConfig(learning_rate=1e-3), OptimizerConfig(lr_by_stage={"head": 1e-2})):
        assert lr_of_pretrained_stages(detector, said) == {}
    detector.loaded = frozenset(names)
    assert lr_of_pretrained_stages(detector, OptimizerConfig()) == {}


def test_norms_and_biases_need_not_decay(network):
    part = OptimizerConfig(decay_norms=False, weight_decay=0.1)
    decay = {id(p): g["weight_decay"] for g in parameter_groups(network, part) for p in g["params"]}
    modules = dict(network.named_modules())
    for name, parameter in network.named_parameters():
        norm = isinstance(modules[name.rpartition(".")[0]], torch.nn.BatchNorm2d)
        assert decay[id(parameter)] == (0.0 if norm or name.endswith("bias") else 0.1), name


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_optimizers_are_torchs(network, name):
    made = build_optimizer(network, OptimizerConfig(name=name))
    assert type(made).__name__.lower() == name


def test_unknown_stages_are_told_with_the_nearest(network):
    with pytest.raises(UnknownName, match="did you mean 'layer3'"):
        freeze(network, ["layer33"])


@pytest.mark.parametrize("part", ["mixup", "cutmix"])
def test_mixed_labels_say_what_the_pixels_show(part):
    recipe = read_recipe(settings=[f"augmentation.{part}=1.0"])
    inputs = [torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 40, 40).contiguous()] * 2
    target = torch.eye(6)
    for step in range(10):
        (first, second), mixed = mix_batch(recipe, inputs, target, 0, step)
        assert torch.equal(first, second)
        assert torch.equal(mixed, mix_batch(recipe, inputs, target, 0, step)[1])
        shown = first.mean((1, 2, 3))  # the pixel of image i is i
        torch.testing.assert_close(shown, mixed @ torch.arange(6.0), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(mixed.sum(1), torch.ones(6))
    assert not torch.equal(mixed, mix_batch(recipe, inputs, target, 1, step)[1])


def test_a_mean_of_weights_moves_by_its_decay():
    from blemish.training.lightning_module import update_average

    first, second = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    second.weight.data.fill_(3)
    second.num_batches_tracked.fill_(7)
    update_average(first, second, 0.75)
    assert first.weight.tolist() == [1.5, 1.5]
    assert first.num_batches_tracked == 7


@pytest.mark.parametrize("task", [Task.CLASSIFICATION, Task.MULTILABEL])
def test_focal_losses_have_a_slope_where_the_answer_is_sure(task):
    logits = torch.tensor([[40.0, -40, -200], [-40, 40, 200]], requires_grad=True)
    target = torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    ImageLoss(task, LossConfig(name="focal", gamma=0.5))(logits, target).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("task", "part", "says"),
    [
        (Task.LOCALIZATION, {"label_smoothing": 0.1}, r"training\.loss\.label_smoothing: mse has no use"),
        (Task.LOCALIZATION, {"class_weights": "balanced", "name": "giou"}, r"class_weights: giou has no use"),
        (
            Task.CLASSIFICATION,
            {"name": "focal", "label_smoothing": 0.1},
            "label_smoothing: focal has no use for it; leave it out, or take cross-entropy$",
        ),
        (Task.MULTILABEL, {"gamma": 1}, "gamma: bce has no use for it; leave it out, or take focal$"),
        (Task.DETECTION, {"class_weights": "balanced"}, "class_weights: the loss of a network for detection"),
        (Task.SEGMENTATION, {"name": "bce"}, "each network for it has a loss of its own"),
    ],
)
def test_what_a_loss_would_not_look_at_is_refused_by_its_key(task, part, says):
    with pytest.raises(BadRecipe, match=says):
        check_loss(task, LossConfig(**part))


@pytest.mark.parametrize(
    ("task", "part"),
    [
        (Task.CLASSIFICATION, {"label_smoothing": 0.1, "class_weights": "balanced"}),
        (Task.MULTILABEL, {"label_smoothing": 0.1}),
        (Task.MULTILABEL, {"name": "focal", "gamma": 0, "class_weights": "balanced"}),
        (Task.DETECTION, {}),
    ],
)
def test_what_a_loss_looks_at_is_not_refused(task, part):
    check_loss(task, LossConfig(**part))


def an_epoch(sizes, others=None):
    """What `mean_of` asks of a module: images a batch, and the sums of other devices."""
    strategy = SimpleNamespace(reduce=lambda mine, reduce_op: mine + others)
    trainer = SimpleNamespace(world_size=1 if others is None else 2, strategy=strategy)
    return SimpleNamespace(_sizes=sizes, device="cpu", trainer=trainer)


def test_an_epochs_loss_counts_every_image_alike():
    losses = [torch.tensor(1.0), torch.tensor(2.0, dtype=torch.bfloat16), torch.tensor(9.0)]
    assert ImageLightningModule.mean_of(an_epoch([4, 4, 1]), losses) == pytest.approx(21 / 9)
    # Another device saw 3 images of loss 5, and it does not count as much as the 9 here.
    assert ImageLightningModule.mean_of(an_epoch([4, 4, 1], torch.tensor([15.0, 3.0])), losses) == 36 / 12
    assert np.isnan(ImageLightningModule.mean_of(an_epoch([]), []))
