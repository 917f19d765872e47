"""The memory format that a training on a CPU chooses for itself."""

import time

import pytest
import torch
from safetensors.torch import load_file

from blemish.config.recipe import read_run_recipe
from blemish.models import create
from blemish.training import memory_format, trainer
from blemish.training.memory_format import choose_channels_last
from blemish.training.run import train


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_choose_channels_last_changes_neither_network_nor_random_state(precision):
    network = create("resnet18", task="classification", label_count=2, input_size=32).train()
    network.get_submodule("backbone").eval()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    state = torch.get_rng_state()
    assert choose_channels_last(network, 4, precision) in (True, False)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("seconds", "chosen"), [((1.0, 0.9), True), ((1.0, 0.99), False), ((1.0, 1.2), False)]
)
def test_choose_channels_last_takes_the_faster_format(monkeypatch, seconds, chosen):
    network = create("timm/test_resnet", task="classification", label_count=2, input_size=32)
    clock = [0.0]

    def take(_network, inputs, _precision):
        clock[0] += seconds[inputs[0].is_contiguous(memory_format=torch.channels_last)]

    monkeypatch.setattr(memory_format, "_pass", take)
    monkeypatch.setattr(time, "process_time", lambda: clock[0])
    assert choose_channels_last(network, 2, "fp32") is chosen
    seconds = seconds[::-1]  # the choice for this network and machine is known
    assert choose_channels_last(network, 2, "fp32") is chosen
    assert choose_channels_last(network, 3, "fp32") is (seconds[1] < 0.97 * seconds[0])


@pytest.mark.parametrize("fastest", [True, False])
def test_train_records_the_choice_and_equals_a_training_that_fixes_it(recipe, tmp_path, monkeypatch, fastest):
    monkeypatch.setattr(trainer, "MIN_STEPS", 1)
    monkeypatch.setattr(memory_format, "MIN_GAIN", -1e9 if fastest else 1.0)
    chosen = train(recipe(training__epochs=1), output=tmp_path / "chosen", device="cpu")
    assert read_run_recipe(chosen.path).training.channels_last is fastest
    fixed = recipe(training__epochs=1, training__channels_last=fastest)
    run = train(fixed, output=tmp_path / "fixed", device="cpu")
    ours, theirs = (load_file(r.path / "weights.safetensors") for r in (chosen, run))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_train_without_enough_steps_tries_nothing(recipe, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("tried")

    monkeypatch.setattr(trainer, "choose_channels_last", refuse)
    run = train(recipe(training__epochs=1), output=tmp_path / "run", device="cpu")
    assert read_run_recipe(run.path).training.channels_last is False


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
def test_pointwise_by_onednn_changes_no_result_and_restores_the_layers():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 16, 1), torch.nn.Conv2d(16, 4, 1, stride=2)
    )
    images = torch.randn(2, 3, 9, 7)
    expected = network(images)
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(expected.square().sum(), parameters)
    with pytest.raises(KeyError), memory_format.pointwise_by_onednn(network):
        assert [layer.dilation for layer in network] == [(1, 1), (2, 2), (2, 2)]
        computed = network(images)
        torch.testing.assert_close(computed, expected)
        torch.testing.assert_close(torch.autograd.grad(computed.square().sum(), parameters), gradients)
        raise KeyError
    assert [layer.dilation for layer in network] == [(1, 1)] * 3


def test_pointwise_by_onednn_changes_nothing_without_onednn(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    layer = torch.nn.Conv2d(3, 8, 1)
    with memory_format.pointwise_by_onednn(layer):
        assert layer.dilation == (1, 1)
