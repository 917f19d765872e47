"""One suite for every registered architecture; the smallest member of each family always runs."""

import copy
import functools

import numpy as np
import pytest
import torch

from blemish.imaging import LoadedImage
from blemish.models import all_architectures, create, describe
from blemish.models._layers import layer_table
from blemish.models._torch_backend import TorchBackend
from blemish.preprocessing import prepare
from blemish.structures import Task
from blemish.testing import raises

LABELS = 3
SMALL = {Task.CLASSIFICATION: 64, Task.MULTILABEL: 64, Task.LOCALIZATION: 64}


def _cases():
    for architecture in all_architectures():
        if architecture.extra:
            continue
        for task in architecture.tasks:
            quick = architecture.smallest and task is architecture.tasks[0]
            yield pytest.param(
                architecture.example,
                task,
                id=f"{architecture.example}-{task}",
                marks=[] if quick else pytest.mark.slow,
            )


every = pytest.mark.parametrize(("name", "task"), list(_cases()))
image_level = pytest.mark.parametrize(("name", "task"), [c for c in _cases() if c.values[1] in SMALL])


def small(name, task):
    """Return a small input size; those of SSDs are fixed."""
    if task in SMALL:
        return {"input_size": SMALL[task]}
    return {} if name.startswith("ssd") else {"input_size": 128, "proposals": 100}


def build(name, task, **options):
    torch.manual_seed(0)
    return create(name, task=task, label_count=LABELS, **small(name, task), **options)


_built = functools.lru_cache(maxsize=12)(build)  # the quick cases


def built(name, task):
    """Return a copy of a network that is initialized once, which takes longer than most of the tests."""
    return copy.deepcopy(_built(name, task))


def noise(network, count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, s.channels, *s.size_hw, generator=generator) for s in network.inputs]


def with_spread(network):
    """Return the network with statistics like trained ones: fresh networks have constant outputs."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith((".gamma", ".layer_scale")):  # ConvNeXt's begin at 1e-6
                parameter.fill_(0.5)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
        network.train()(*noise(network, 4, seed=9))
    return network.eval()


def targets_of(network, count=2):
    height, width = network.inputs[0].size_hw
    box = torch.tensor([[0.2 * width, 0.25 * height, 0.7 * width, 0.8 * height]])
    mask = torch.zeros(1, height, width, dtype=torch.uint8)
    mask[:, height // 4 : height // 2, width // 4 : width // 2] = 1
    label = torch.tensor([1])
    return [{"boxes": box, "labels": label, "masks": mask} for _ in range(count)]


def loss_of(network, batch):
    if network.owns_loss:
        return sum(network.loss(batch, targets_of(network, len(batch[0]))).values())
    answers = network(*batch)[0]
    return (answers * torch.randn(answers.shape, generator=torch.Generator().manual_seed(1))).sum()


@every
def test_stages_cover_every_parameter_exactly_once(name, task):
    network = built(name, task)
    found = [id(p) for stage in network.stages for p in network.parameters_of(stage)]
    assert len(found) == len(set(found)) == len(list(network.parameters()))
    assert list(network.stages)[-1] == "head"
    modules = dict(network.named_modules())
    assert all(layer in modules for layer in network.feature_layers)


@every
def test_every_parameter_gets_a_gradient(name, task):
    network = built(name, task).train()
    network.train(network.owns_loss)  # stochastic depth may leave a block out
    with torch.no_grad():
        for (
            p
        ) in network.parameters():  # some begin a block with a weight of zero, which gives constant outputs
            p.add_(torch.randn_like(p) * 0.02)
    loss_of(network, noise(network, 2 if network.owns_loss else 4)).backward()
    without = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    silent = [n for n, p in network.named_parameters() if p.requires_grad and not p.grad.abs().max() > 0]
    if not network.owns_loss:  # a part of a detector may not depend on a single box
        assert not silent


@every
def test_forward_returns_finite_outputs_as_declared(name, task):
    network = built(name, task).eval()
    with torch.no_grad():
        answers = network(*noise(network, 3))
    assert len(answers) == len(network.outputs)
    assert all(len(a) == 3 and torch.isfinite(a.float()).all() for a in answers)
    if task in (Task.CLASSIFICATION, Task.MULTILABEL):
        assert answers[0].shape == (3, LABELS)
    if task is Task.LOCALIZATION:
        assert answers[0].shape == (3, 4)


@every
def test_forward_and_loss_equal_forward_and_loss_called_one_by_one(name, task):
    network = built(name, task).eval()
    if not network.owns_loss:
        return
    batch, targets = noise(network), targets_of(network)
    with torch.no_grad():
        together, parts = network.forward_and_loss(batch, targets)
        outputs, losses = network(*batch), network.loss(batch, targets)
    assert all(torch.equal(a, b) for a, b in zip(together, outputs, strict=True))
    assert {k: float(v) for k, v in parts.items()} == {k: float(v) for k, v in losses.items()}


@every
def test_saved_and_loaded_weights_give_bit_equal_outputs(name, task, tmp_path):
    from safetensors.torch import load_file, save_file

    network = built(name, task).eval()
    save_file(
        {k: v.contiguous().clone() for k, v in network.state_dict().items()}, tmp_path / "w.safetensors"
    )
    torch.manual_seed(1)
    other = create(name, task=task, label_count=LABELS, **small(name, task)).eval()
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    batch = noise(network, 1)
    with torch.no_grad():
        for mine, theirs in zip(network(*batch), other(*batch), strict=True):
            assert torch.equal(mine, theirs)


@image_level
def test_the_output_of_an_image_does_not_depend_on_its_batch(name, task):
    network = built(name, task).eval().double()
    batch = [x.double() for x in noise(network, 4)]
    with torch.no_grad():
        together = network(*batch)[0]
        turned = network(*[x.flip(0) for x in batch])[0].flip(0)
        alone = network(*[x[:1] for x in batch])[0]
    assert together.std() > 1e-9, "a constant output would pass any tolerance"
    torch.testing.assert_close(together, turned, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(together[:1], alone, rtol=1e-9, atol=1e-10)


@image_level
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 90), (37, 110)])
def test_images_of_any_shape_give_finite_outputs(name, task, size_hw):
    network = built(name, task).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    photo = LoadedImage(pixels, None)
    feeds = {spec.name: prepare(photo, spec)[0][None] for spec in network.inputs}
    answers = TorchBackend(network).run(feeds)
    assert all(np.isfinite(a).all() for a in answers.values())


@image_level
def test_a_tiny_batch_can_be_overfitted(name, task):
    if name == "fusion":
        pytest.skip("its own test trains the head alone")
    from blemish.config.image_level_options import HeadSpec

    network = build(name, task, head=HeadSpec()).train()
    batch = noise(network, 4)
    target = torch.rand(4, 4) if task is Task.LOCALIZATION else torch.eye(4)[:, :LABELS]
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    loss_function = torch.nn.functional.mse_loss if task is Task.LOCALIZATION else _bce
    first = None
    for _ in range(60):
        loss = loss_function(network(*batch)[0], target)
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.1 * first:
            return
    pytest.fail(f"the loss went from {first} to {loss.item()} only")


def _bce(answers, target):
    return torch.nn.functional.binary_cross_entropy_with_logits(answers, target)


exported = [
    pytest.param(*c.values, id=c.id, marks=pytest.mark.slow) if c.values[0] == "fusion" else c
    for c in _cases()
    if c.values[1] in SMALL
]


@pytest.mark.parametrize(("name", "task"), exported)
def test_the_error_of_the_export_is_that_of_float32(name, task):
    onnxruntime = pytest.importorskip("onnxruntime")
    from blemish.export import export_network

    network = with_spread(built(name, task))
    batch = noise(network, 3)
    exact = copy.deepcopy(network).double()
    with torch.no_grad():
        ground_truth = exact(*[x.double() for x in batch])[0].numpy()
        own = network(*batch)[0].numpy()
    across = ground_truth.std(axis=0).max()
    assert across > 0.01 * np.abs(ground_truth).max(), "a constant output would pass any tolerance"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(export_network(network), options, ["CPUExecutionProvider"])
    feeds = {spec.name: x.numpy() for spec, x in zip(network.inputs, batch, strict=True)}
    answer = session.run(None, feeds)[0]
    floor = 1e-6 * np.abs(ground_truth).max()
    assert np.abs(answer - ground_truth).max() <= 4 * max(np.abs(own - ground_truth).max(), floor)


@every
def test_create_refuses_an_unsupported_task(name, task):
    wrong = next((t for t in Task if t not in describe(name).tasks), None)
    assert wrong is not None
    with raises("wrong-task", name, wrong):
        create(name, task=wrong, label_count=LABELS)


@image_level
def test_layer_table_sums_to_all_parameters(name, task):
    network = built(name, task)
    rows = layer_table(network)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in network.parameters())
    assert rows[-1].output == str(4 if task is Task.LOCALIZATION else LABELS)


def test_create_offers_the_nearest_name():
    with raises("unknown-name.architecture", "resnet_18", "'resnet18'"):
        create("resnet_18", task="classification", label_count=2)
    with raises("unknown-name.timm-architecture", "convnext_tinny", "convnext_tiny"):
        create("timm/convnext_tinny", task="classification", label_count=2)


def test_create_offers_the_nearest_option():
    with raises("bad-recipe.unknown-option", "resnet18", "inputsize", "'input_size'"):
        create("resnet18", task="classification", label_count=2, inputsize=3)
    with raises("bad-recipe.invalid-option", "resnet18", "head", "dropout"):
        create("resnet18", task="classification", label_count=2, head={"dropout": 3})


def test_create_refuses_classification_with_one_label():
    with raises("bad-recipe.too-few-labels", "classification", "2 labels", "got 1"):
        create("resnet18", task="classification", label_count=1)
