"""The test suite that every registered architecture must pass. Needs the extra `train`."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.errors import WrongTask
from blemish.imaging import LoadedImage
from blemish.models import create, describe
from blemish.models._layers import layer_table
from blemish.models._network import Network
from blemish.models._torch_backend import TorchBackend
from blemish.preprocessing import prepare
from blemish.structures import Task

LABELS = 3
Build = Callable[[], Network]


def check_architecture(
    name: str,
    *,
    task: Task | str,
    options: Mapping[str, Any] | None = None,
    only: Sequence[str] | None = None,
) -> None:
    """Run every check of `ARCHITECTURE_CHECKS` that applies on one registered architecture.

    Args:
        name: registry name.
        task: one of the architecture's tasks.
        options: the architecture's options, such as a small `input_size`.
        only: names of checks to run; default: all.

    Raises:
        AssertionError: a check failed; the message begins with its name.
    """
    task = Task(task)
    for check_name, check in ARCHITECTURE_CHECKS.items():
        if only is not None and check_name not in only:
            continue
        try:
            check(name, task, dict(options or {}))
        except AssertionError as error:
            raise AssertionError(f"{check_name} ({name}, {task}): {error}") from error


def build(name: str, task: Task, options: Mapping[str, Any], *, seed: int = 0) -> Network:
    """Return the network with random weights of one seed and three labels."""
    torch.manual_seed(seed)
    return create(name, task=task, label_count=LABELS, **options)


def noise(network: Network, count: int = 2, seed: int = 0) -> list[Tensor]:
    """Return a batch of random inputs, one (count, c, h, w) float32 tensor per input of the network."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, s.channels, *s.size_hw, generator=generator) for s in network.inputs]


def with_trained_statistics(network: Network) -> Network:
    """Return the network with scales and running statistics like trained ones.

    A fresh network can give nearly the same output for every image; then any tolerance passes.
    """
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith((".gamma", ".layer_scale")):  # ConvNeXt initializes them with 1e-6
                parameter.fill_(0.5)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
        network.train()(*noise(network, 4, seed=9))
    return network.eval()


def detection_targets(network: Network, count: int = 2) -> list[dict[str, Tensor]]:
    """Return training targets with one box (and mask) per image, label 1."""
    height, width = network.inputs[0].size_hw
    box = torch.tensor([[0.2 * width, 0.25 * height, 0.7 * width, 0.8 * height]])
    mask = torch.zeros(1, height, width, dtype=torch.uint8)
    mask[:, height // 4 : height // 2, width // 4 : width // 2] = 1
    return [{"boxes": box, "labels": torch.tensor([1]), "masks": mask} for _ in range(count)]


def some_loss(network: Network, batch: Sequence[Tensor]) -> Tensor:
    """Return the architecture's own loss, or a random projection of its first output."""
    if network.owns_loss:
        parts = network.loss(batch, detection_targets(network, len(batch[0]))).values()
        return torch.stack([torch.as_tensor(part) for part in parts]).sum()
    outputs = network(*batch)[0]
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1))
    return torch.as_tensor((outputs * weights).sum())


def stages_cover_parameters(name: str, task: Task, options: dict[str, Any]) -> None:
    """The stages cover every parameter exactly once, the last is `head`, and feature layers exist."""
    network = build(name, task, options)
    covered = [id(p) for stage in network.stages for p in network.parameters_of(stage)]
    total = len(list(network.parameters()))
    assert len(covered) == len(set(covered)) == total, f"{len(set(covered))} of {total} parameters covered"
    assert list(network.stages)[-1] == "head", "the last stage is not named head"
    modules = dict(network.named_modules())
    missing = [layer for layer in network.feature_layers if layer not in modules]
    assert not missing, f"feature layers that do not exist: {missing}"


def every_parameter_gets_a_gradient(name: str, task: Task, options: dict[str, Any]) -> None:
    """Every trainable parameter gets a gradient, and without an own loss one that is not zero."""
    network = build(name, task, options)
    network.train(network.owns_loss)  # stochastic depth may skip a block
    with torch.no_grad():
        for parameter in network.parameters():  # some blocks are initialized with a weight of zero
            parameter.add_(torch.randn_like(parameter) * 0.02)
    some_loss(network, noise(network, 2 if network.owns_loss else 4)).backward()  # type: ignore[no-untyped-call]
    trainable = [(n, p.grad) for n, p in network.named_parameters() if p.requires_grad]
    without = [n for n, grad in trainable if grad is None]
    assert not without, f"no gradient: {without}"
    if not network.owns_loss:  # one box does not reach every part of a detector
        zero = [n for n, grad in trainable if grad is not None and not grad.abs().max() > 0]
        assert not zero, f"a gradient of zero: {zero}"


def outputs_are_as_declared(name: str, task: Task, options: dict[str, Any]) -> None:
    """`forward` returns one finite tensor per declared output, with the batch as its first axis."""
    network = build(name, task, options).eval()
    with torch.no_grad():
        outputs = network(*noise(network, 3))
    assert len(outputs) == len(network.outputs), f"{len(outputs)} outputs, {len(network.outputs)} declared"
    for spec, output in zip(network.outputs, outputs, strict=True):
        assert len(output) == 3, f"{spec.name}: the first axis is {len(output)} for a batch of 3"
        assert torch.isfinite(output.float()).all(), f"{spec.name}: not finite"
    if task.is_image_level:
        assert outputs[0].shape == (3, LABELS), f"scores have the shape {tuple(outputs[0].shape)}"
    if task.has_one_box:
        assert outputs[0].shape == (3, 4), f"boxes have the shape {tuple(outputs[0].shape)}"


def validation_is_forward_and_loss(name: str, task: Task, options: dict[str, Any]) -> None:
    """In evaluation mode, `forward_and_loss` returns the bits of `forward` and of `loss`."""
    network = build(name, task, options).eval()
    if not network.owns_loss:
        return
    batch, targets = noise(network), detection_targets(network)
    with torch.no_grad():
        outputs = network(*batch)
        torch.manual_seed(1)  # some losses draw random points
        losses = network.loss(batch, targets)
        torch.manual_seed(1)
        together, parts = network.forward_and_loss(batch, targets)
    for spec, mine, expected in zip(network.outputs, together, outputs, strict=True):
        assert torch.equal(mine, expected), f"{spec.name} differs from that of forward"
    for part, value in losses.items():
        assert float(parts[part]) == float(value), f"{part}: {float(parts[part])}, in loss {float(value)}"
    assert parts.keys() == losses.keys(), f"the parts are {sorted(parts)}, in loss {sorted(losses)}"


def save_and_load_is_bit_equal(name: str, task: Task, options: dict[str, Any]) -> None:
    """A network with loaded weights gives the same bits as the one that saved them."""
    from safetensors.torch import load_file, save_file

    network = build(name, task, options).eval()
    other = build(name, task, options, seed=1).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file({k: v.contiguous().clone() for k, v in network.state_dict().items()}, path)
        other.load_state_dict(load_file(path))
    batch = noise(network, 1)
    with torch.no_grad():
        for spec, mine, theirs in zip(network.outputs, network(*batch), other(*batch), strict=True):
            assert torch.equal(mine, theirs), f"{spec.name} differs after loading"


def prediction_is_independent_of_the_batch(name: str, task: Task, options: dict[str, Any]) -> None:
    """An image's output depends neither on its companions in the batch nor on their order."""
    if task.has_objects:
        return
    network = build(name, task, options).eval().double()
    batch = [x.double() for x in noise(network, 4)]
    with torch.no_grad():
        together = network(*batch)[0]
        reversed_order = network(*[x.flip(0) for x in batch])[0].flip(0)
        alone = network(*[x[:1] for x in batch])[0]
    assert together.std() > 1e-9, "the outputs are constant, so that any tolerance passes"
    torch.testing.assert_close(together, reversed_order, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(together[:1], alone, rtol=1e-9, atol=1e-10)


def images_of_any_shape_are_accepted(name: str, task: Task, options: dict[str, Any]) -> None:
    """Images of one pixel, of one row and of odd sizes give finite outputs."""
    if task.has_objects:
        return
    network = build(name, task, options).eval()
    for size_hw in ((1, 1), (1, 90), (37, 110)):
        pixels = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
        feeds = {spec.name: prepare(LoadedImage(pixels, None), spec)[0][None] for spec in network.inputs}
        for output in TorchBackend(network).run(feeds).values():
            assert np.isfinite(output).all(), f"not finite for an image of {size_hw[0]} x {size_hw[1]} pixels"


def a_tiny_batch_can_be_memorized(name: str, task: Task, options: dict[str, Any]) -> None:
    """At most 300 steps on four inputs bring the loss below a tenth."""
    if task.has_objects:
        return
    network = build(name, task, options).train()
    batch = noise(network, 4)
    target = torch.rand(4, 4) if task.has_one_box else torch.eye(4)[:, :LABELS]
    loss_function = (
        nn.functional.mse_loss if task.has_one_box else nn.functional.binary_cross_entropy_with_logits
    )
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses: list[float] = []
    for _ in range(300):
        loss = loss_function(network(*batch)[0], target)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if losses[-1] < 0.1 * losses[0]:
            return
    raise AssertionError(f"the loss fell from {losses[0]:.4g} to {losses[-1]:.4g} only")


def export_error_is_bounded(name: str, task: Task, options: dict[str, Any]) -> None:
    """The ONNX file errs at most four times as much as the network itself, against a float64 run."""
    if task.has_objects:
        return
    import onnxruntime

    from blemish.export import export_network

    network = with_trained_statistics(build(name, task, options))
    batch = noise(network, 3)
    with torch.no_grad():
        exact: NDArray[Any] = copy.deepcopy(network).double()(*[x.double() for x in batch])[0].numpy()
        own = network(*batch)[0].numpy()
    largest = np.abs(exact).max()
    assert exact.std(axis=0).max() > 0.01 * largest, "the outputs are constant, so that any tolerance passes"
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(export_network(network), settings, ["CPUExecutionProvider"])
    output = session.run(None, {s.name: x.numpy() for s, x in zip(network.inputs, batch, strict=True)})[0]
    error, allowed = np.abs(output - exact).max(), 4 * max(np.abs(own - exact).max(), 1e-6 * largest)
    assert error <= allowed, f"the exported file errs by {error:.3g}; allowed are {allowed:.3g}"


def an_undeclared_task_is_refused(name: str, task: Task, options: dict[str, Any]) -> None:
    """Building the network for a task that it does not declare raises `WrongTask`."""
    declared = describe(name).tasks
    for other in (t for t in Task if t not in declared):
        try:
            create(name, task=other, label_count=LABELS)
        except WrongTask as error:
            assert str(other) in str(error), f"the error does not name the task {other}"
        else:
            raise AssertionError(f"a network for {other} was built, which is not declared")


def the_layer_table_adds_up(name: str, task: Task, options: dict[str, Any]) -> None:
    """The rows of the layer table contain all parameters, and the last shows the outputs."""
    if task.has_objects:
        return
    network = build(name, task, options)
    rows = layer_table(network)
    total = sum(p.numel() for p in network.parameters())
    assert sum(row.parameters for row in rows) == total, "the rows do not add up to all parameters"
    expected = str(4 if task.has_one_box else LABELS)
    assert rows[-1].output == expected, f"the last row shows {rows[-1].output}, expected {expected}"


ARCHITECTURE_CHECKS: dict[str, Callable[[str, Task, dict[str, Any]], None]] = {
    check.__name__: check
    for check in (
        stages_cover_parameters,
        every_parameter_gets_a_gradient,
        outputs_are_as_declared,
        validation_is_forward_and_loss,
        save_and_load_is_bit_equal,
        prediction_is_independent_of_the_batch,
        images_of_any_shape_are_accepted,
        a_tiny_batch_can_be_memorized,
        export_error_is_bounded,
        an_undeclared_task_is_refused,
        the_layer_table_adds_up,
    )
}
