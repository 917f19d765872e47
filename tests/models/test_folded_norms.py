"""Batch normalization folded into convolutions, as files made from deployed models have it."""

import copy

import pytest
import torch
from torch import nn

from blemish.models import create
from blemish.models._folded_norms import find_folded_norms, restore_norms


def trained_network():
    """Return a small residual network whose normalization layers are those of a trained one."""
    torch.manual_seed(0)
    network = create("resnet18-scratch", task="classification", label_count=2, input_size=64)
    network.train()
    with torch.no_grad():
        for norm in norms_of(network).values():
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.3, 0.3)
            norm.momentum = None  # running statistics become the mean over the batches
            norm.reset_running_stats()
        for images in batches():
            network(images)
    network.loaded = frozenset(network.state_dict())
    return network.eval()


def norms_of(network):
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}


def batches():
    generator = torch.Generator().manual_seed(1)
    shift = torch.rand(32, 3, 1, 1, generator=generator)
    return list((torch.rand(32, 3, 64, 64, generator=generator) + shift).split(8))


def convolution_of(network, norm):
    """Return the convolution whose name belongs to a normalization: conv2 to bn2, downsample.0 to .1."""
    modules = dict(network.named_modules())
    (name,) = (n for n, m in modules.items() if m is norm)
    return modules.get(name.replace("bn", "conv")) if "bn" in name else None


@torch.no_grad()
def fold(network):
    """Fold every normalization into the convolution that was registered before it."""
    folded = copy.deepcopy(network)
    last = None
    for module in folded.modules():
        if isinstance(module, nn.BatchNorm2d):
            scale = module.weight / (module.running_var + module.eps).sqrt()
            convolution = convolution_of(folded, module) or last
            convolution.weight.mul_(scale[:, None, None, None])
            module.bias.sub_(module.running_mean * scale)
            module.running_mean.zero_()
            module.running_var.fill_(1 - module.eps)
            module.weight.fill_(1)
        last = module if isinstance(module, nn.Conv2d) else last
    return folded


def test_restore_norms_keeps_the_outputs_and_measures_the_inputs_of_each_layer():
    network = fold(trained_network())
    folded = find_folded_norms(network)
    assert folded.keys() == norms_of(network).keys()
    images = batches()
    with torch.no_grad():
        before = [network(batch)[0] for batch in images]
    reference = copy.deepcopy(network)
    restore_norms(network, folded, [(batch,) for batch in images])
    with torch.no_grad():
        for expected, batch in zip(before, images, strict=True):
            torch.testing.assert_close(network(batch)[0], expected, rtol=1e-4, atol=1e-4)
    seen: dict[str, list[torch.Tensor]] = {}
    for name, norm in norms_of(reference).items():
        norm.register_forward_pre_hook(lambda _, x, name=name: seen.setdefault(name, []).append(x[0]))
    with torch.no_grad():
        for batch in images:
            reference(batch)
    for name, norm in folded.items():
        variance, mean = torch.var_mean(torch.cat(seen[name]), (0, 2, 3), correction=0)
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var, variance, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(norm.weight, (variance + norm.eps).sqrt(), rtol=1e-3, atol=1e-5)


def test_restore_norms_lets_training_start_from_the_loaded_function():
    original = trained_network()
    network = fold(original)
    images = torch.cat(batches())
    with torch.no_grad():
        expected = original(images)[0]
        torch.testing.assert_close(network(images)[0], expected, rtol=1e-3, atol=1e-3)

    def error_of(network):
        with torch.no_grad():
            return float((copy.deepcopy(network).train()(images)[0] - expected).norm() / expected.norm())

    before = error_of(network)
    restore_norms(network, find_folded_norms(network), [(batch,) for batch in batches()])
    after = error_of(network)
    assert after < 0.2 * before


@pytest.mark.parametrize("case", ["trained", "random", "not loaded", "without scale"])
def test_find_folded_norms_finds_none_in_other_networks(case):
    network = trained_network()
    if case == "random":
        network = create("resnet18-scratch", task="classification", label_count=2, input_size=64)
        network.loaded = frozenset(network.state_dict())
    elif case == "not loaded":
        network = fold(network)
        network.loaded = frozenset()
    elif case == "without scale":
        network = fold(network)
        for norm in norms_of(network).values():
            nn.init.constant_(norm.weight, 0.5)
    assert find_folded_norms(network) == {}


@pytest.mark.parametrize("is_called", [False, True])
def test_restore_norms_leaves_a_layer_that_no_pixel_reaches(is_called):
    """Such as a mask head for boxes, of which there are none."""
    network = fold(trained_network())
    norms = find_folded_norms(network)
    network.unused = nn.BatchNorm2d(3)

    def call(*_):
        network.unused(torch.zeros(0, 3, 4, 4))

    if is_called:
        network.register_forward_pre_hook(call)
    network.train(is_called)
    restore_norms(network, {**norms, "unused": network.unused}, [(batches()[0],)])
    assert network.training is is_called
    assert (network.unused.running_mean == 0).all() and (network.unused.weight == 1).all()
