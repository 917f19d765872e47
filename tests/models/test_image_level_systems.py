"""Architectures against the implementations they must equal."""

import pytest
import torch
import torchvision

from blemish.models import create
from blemish.models.fusion import hugging_face_key
from blemish.models.options import HeadSpec
from blemish.models.weights import fill


def alive(module, seed=0):
    """Random running statistics too, so that batch normalisation does something."""
    torch.manual_seed(seed)
    for m in module.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    return module.eval()


@pytest.mark.parametrize(
    "depth", [18, 50, *[pytest.param(d, marks=pytest.mark.slow) for d in (34, 101, 152)]]
)
def test_resnet_scratch_equals_torchvision_bit_for_bit(depth):
    theirs = alive(torchvision.models.get_model(f"resnet{depth}", weights=None))
    ours = create(f"resnet{depth}-scratch", task="classification", label_count=1000, head=HeadSpec())
    report = fill(ours, theirs.state_dict(), "torchvision")
    assert not report.skipped
    assert not report.missing
    x = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        assert torch.equal(ours.eval()(x)[0], theirs(x))


def test_resnet_scratch_trains_as_torchvision_does():
    theirs = torchvision.models.resnet18(weights=None)
    ours = create("resnet18-scratch", task="classification", label_count=1000)
    fill(ours, theirs.state_dict(), "torchvision")
    x = torch.randn(3, 3, 64, 64)
    ours.train()(x)[0].square().sum().backward()
    theirs.train()(x).square().sum().backward()
    assert torch.equal(ours.backbone.conv1.weight.grad, theirs.conv1.weight.grad)
    assert torch.equal(ours.backbone.bn1.running_var, theirs.bn1.running_var)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvisions_files_fill_timms_resnets(name):
    theirs = alive(torchvision.models.get_model(name, weights=None))
    ours = create(name, task="classification", label_count=3)
    report = fill(ours, theirs.state_dict(), "torchvision")
    assert set(report.skipped) == {"fc.weight", "fc.bias"}
    theirs.fc = torch.nn.Identity()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval().features(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_the_layers_of_resnet50_are_those_of_the_paper():
    from blemish.models.layers import layer_table

    rows = {r.stage: r.output for r in layer_table(create("resnet50", task="multilabel", label_count=2))}
    assert rows["stem"] == "64 x 112 x 112"
    assert [rows[f"layer{i}"] for i in (1, 2, 3, 4)] == [
        "256 x 56 x 56", "512 x 28 x 28", "1024 x 14 x 14", "2048 x 7 x 7",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def fusion():
    torch.manual_seed(0)
    return create("fusion", task="classification", label_count=6, input_size=64).eval()


def test_fusion_has_the_head_of_damagelens(fusion):
    kinds = [type(layer).__name__ for layer in fusion.head]
    block = ["Dropout", "Linear", "LayerNorm", "GELU"]
    assert kinds == [*block, *block, "Dropout", "Linear"]
    assert [layer.p for layer in fusion.head if isinstance(layer, torch.nn.Dropout)] == [0.4, 0.3, 0.2]
    widths = [(m.in_features, m.out_features) for m in fusion.head if isinstance(m, torch.nn.Linear)]
    assert widths == [(2048, 512), (512, 256), (256, 6)]


def test_fusion_takes_260_and_224_pixels():
    whole = create("fusion", task="classification", label_count=6)
    assert {s.name: s.size_hw for s in whole.inputs} == {"efficientnet": (260, 260), "convnext": (224, 224)}


def test_fusion_pools_as_both_bodies_do(fusion):
    efficientnet = alive(torchvision.models.efficientnet_v2_s(weights=None), 1)
    convnext = alive(torchvision.models.convnext_small(weights=None), 2)
    for theirs in (efficientnet, convnext):
        report = fill(fusion, theirs.state_dict(), "torchvision")
        assert all(name.startswith("classifier.") for name in report.skipped)
    first, second = torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        mine = fusion.features(first, second)
        pooled = efficientnet.avgpool(efficientnet.features(first)).flatten(1)
        normed = convnext.classifier[:2](convnext.avgpool(convnext.features(second)))
    torch.testing.assert_close(mine, torch.cat([pooled, normed], 1), rtol=1e-5, atol=1e-6)


def test_fusion_reads_a_checkpoint_with_hugging_face_keys(fusion):
    """Made by renaming: another name before all, halves, flat layer scales."""
    state = {}
    for name, tensor in fusion.state_dict().items():
        if name.startswith("efficientnet."):
            key = "effnet.features." + name.removeprefix("efficientnet.")
        elif name.startswith("convnext_norm."):
            key = "convnext." + name.replace("convnext_norm.", "layernorm.")
        elif name.startswith("convnext."):
            key = "convnext." + hugging_face_key(name.removeprefix("convnext."))
            tensor = tensor.flatten() if key.endswith("layer_scale_parameter") else tensor
        else:
            key = name.replace("head.", "classifier.")
        state["module." + key] = tensor.half() if tensor.is_floating_point() else tensor
    other = create("fusion", task="classification", label_count=6, input_size=64)
    report = fill(other, state, "checkpoint")
    assert not report.skipped
    assert not report.missing
    for name, tensor in fusion.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=1e-3, atol=1e-3)


def test_fusion_learns_a_tiny_batch_through_its_head(fusion):
    batch = [torch.randn(4, 3, 64, 64), torch.randn(4, 3, 64, 64)]
    with torch.no_grad():
        features = fusion.features(*batch)
    optimizer = torch.optim.Adam(fusion.head.parameters(), 1e-2)
    target = torch.arange(4)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(fusion.head(features), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
