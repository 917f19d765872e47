"""Frozen stages, parameter groups and learning rate schedules, compared with torch."""

import numpy as np
import pytest
import torch

from blemish.config.training_schema import OptimizerConfig, ScheduleConfig
from blemish.models import create
from blemish.testing import raises
from blemish.training.optimizers import (
    build_optimizer,
    freeze,
    lr_multiplier,
    lr_of_pretrained_stages,
    match_memory_format,
    parameter_groups,
)


def rates(schedule, epochs, steps, history=()):
    return [
        lr_multiplier(schedule, s, steps, epochs, history[: s // steps], "macro_f1")
        for s in range(epochs * steps)
    ]


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
def test_lr_multiplier_equals_torch_schedulers(epochs, steps):
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


def test_lr_multiplier_equals_torch_reduce_on_plateau():
    values = [0.1, 0.3, 0.3, 0.2, 0.29, 0.31, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    expected = torch_rates(
        lambda o: plateau(o, "max", 0.5, 2, threshold=0, threshold_mode="abs"),
        len(values), 3, each="epoch", metrics=values,
    )  # fmt: skip
    part = ScheduleConfig(name="plateau", factor=0.5, patience=2)
    np.testing.assert_allclose(rates(part, len(values), 3, [{"macro_f1": v} for v in values]), expected)
    loss = ScheduleConfig(name="plateau", factor=0.5, patience=0, metric="val_loss")
    assert lr_multiplier(loss, 6, 2, 9, [{"val_loss": v} for v in (3, 2, 1)]) == 1
    assert lr_multiplier(loss, 6, 2, 9, [{"val_loss": v} for v in (1, 2, 3)]) == 0.25


def test_lr_multiplier_warms_up_to_1():
    mine = rates(ScheduleConfig(name="cosine", warmup_epochs=2), 6, 5)
    assert (np.diff(mine[:11]) > 0).all()
    assert mine[10] == pytest.approx(1)
    assert mine[-1] < 0.02


def test_lr_multiplier_warms_up_in_steps():
    by_steps = rates(ScheduleConfig(name="cosine", warmup_steps=10), 6, 5)
    assert by_steps == rates(ScheduleConfig(name="cosine", warmup_epochs=2), 6, 5)
    assert by_steps == rates(ScheduleConfig(name="cosine", warmup_share=1 / 3), 6, 5)
    assert rates(ScheduleConfig(name="none", warmup_steps=3), 2, 4) == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "keys",
    [
        {"warmup_steps": 3, "warmup_epochs": 1},
        {"warmup_steps": 3, "warmup_share": 0.1},
        {"name": "one-cycle", "warmup_steps": 3},
    ],
)
def test_schedule_config_refuses_warmup_that_is_not_used(keys):
    with pytest.raises(ValueError, match="warmup_steps"):
        ScheduleConfig(**keys)


@pytest.fixture(scope="module")
def network():
    return create("timm/test_resnet", task="classification", label_count=3, input_size=32)


def test_parameter_groups_take_the_longest_matching_prefix(network):
    part = OptimizerConfig(
        lr_by_stage={"layer3": 1e-5, "layer3.0.conv1": 1e-6, "head": 1e-2}, learning_rate=1e-3
    )
    rate = {id(p): g["lr"] for g in parameter_groups(network, part) for p in g["params"]}
    for name, parameter in network.named_parameters():
        expected_rate = (
            1e-6
            if "layer3.0.conv1." in name
            else 1e-5
            if "layer3" in name
            else 1e-2
            if "head" in name
            else 1e-3
        )
        assert rate[id(parameter)] == expected_rate, name


def test_parameter_groups_decay_from_the_head_to_the_first_stage(network):
    part = OptimizerConfig(learning_rate=1e-2, layer_decay=0.5, lr_by_stage={"layer2": 7e-4})
    rate = {id(p): g["lr"] for g in parameter_groups(network, part) for p in g["params"]}
    of_stage = {"head": 1e-2}
    backward = [stage for stage in reversed(network.stages) if stage != "head"]
    of_stage |= {stage: 1e-2 * 0.5**depth for depth, stage in enumerate(backward, start=1)}
    of_stage["layer2"] = 7e-4
    found = set()
    for name, parameter in network.named_parameters():
        stage = next(
            stage
            for stage, prefixes in network.stages.items()
            if any(name == p or name.startswith(p + ".") for p in prefixes)
        )
        found.add(stage)
        assert rate[id(parameter)] == pytest.approx(of_stage[stage]), name
    assert found == set(of_stage)


def test_parameter_groups_without_layer_decay_have_one_rate(network):
    groups = parameter_groups(network, OptimizerConfig(learning_rate=1e-2))
    assert {g["lr"] for g in groups} == {1e-2}


def test_lr_of_pretrained_stages_below_a_new_head():
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
    for config in (OptimizerConfig(learning_rate=1e-3), OptimizerConfig(layer_decay=0.8)):
        assert lr_of_pretrained_stages(detector, config) == {}
    detector.loaded = frozenset(names)
    assert lr_of_pretrained_stages(detector, OptimizerConfig()) == {}


def test_parameter_groups_without_decay_of_norms(network):
    part = OptimizerConfig(decay_norms=False, weight_decay=0.1)
    decay = {id(p): g["weight_decay"] for g in parameter_groups(network, part) for p in g["params"]}
    modules = dict(network.named_modules())
    for name, parameter in network.named_parameters():
        norm = isinstance(modules[name.rpartition(".")[0]], torch.nn.BatchNorm2d)
        assert decay[id(parameter)] == (0.0 if norm or name.endswith("bias") else 0.1), name


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_build_optimizer_returns_torch_optimizers(network, name):
    made = build_optimizer(network, OptimizerConfig(name=name))
    assert type(made).__name__.lower() == name


def test_freeze_refuses_an_unknown_stage(network):
    with raises("unknown-name.stage", "'layer33'", "'layer3'"):
        freeze(network, ["layer33"])


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_build_optimizer_fused_equals_a_loop_over_the_parameters(name):
    networks = [create("resnet18", task="classification", label_count=2, input_size=32) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    config = OptimizerConfig(name=name, learning_rate=0.01, weight_decay=0.1)
    optimizers = [build_optimizer(network, config) for network in networks]
    for group in optimizers[1].param_groups:
        assert group["fused"] is True
        group["fused"], group["foreach"] = False, False
    for step in range(3):
        for network, optimizer in zip(networks, optimizers, strict=True):
            torch.manual_seed(step)
            for parameter in network.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
    for one, other in zip(*(network.parameters() for network in networks), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_match_memory_format_gives_loaded_state_the_format_of_the_parameters():
    """A fused optimizer reads flat memory: without the match, it would mix up elements."""
    values, gradient = torch.randn(2, 4, 3, 3, 3)
    steps = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        parameter = torch.nn.Parameter(values.clone())
        optimizer = torch.optim.AdamW([parameter], 0.1, fused=True)
        parameter.grad = gradient.clone()
        optimizer.step()
        state = optimizer.state_dict()
        parameter = torch.nn.Parameter(parameter.detach().clone())
        optimizer = torch.optim.AdamW([parameter], 0.1, fused=True)
        optimizer.load_state_dict(state)
        parameter.data = parameter.data.contiguous(memory_format=memory_format)
        match_memory_format(optimizer)
        parameter.grad = gradient.contiguous(memory_format=memory_format).clone()
        optimizer.step()
        steps.append(parameter.detach())
    assert torch.equal(*steps)
