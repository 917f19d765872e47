"""Architectures against the implementations they must equal."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from blemish.config.image_level_options import HeadSpec
from blemish.contrib.damagelens import architectures_plugin as architectures_plugin
from blemish.models import create
from blemish.models._weights import fill


def alive(module, seed=0):
    """Random running statistics too, so that batch normalization has an effect."""
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
    report = fill(ours, theirs.state_dict(), Path("torchvision"))
    assert not report.skipped
    assert not report.missing
    x = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        assert torch.equal(ours.eval()(x)[0], theirs(x))


def test_resnet_scratch_gradients_equal_torchvisions():
    theirs = torchvision.models.resnet18(weights=None)
    ours: Any = create("resnet18-scratch", task="classification", label_count=1000)
    fill(ours, theirs.state_dict(), Path("torchvision"))
    x = torch.randn(3, 3, 64, 64)
    ours.train()(x)[0].square().sum().backward()
    theirs.train()(x).square().sum().backward()
    assert torch.equal(ours.backbone.conv1.weight.grad, theirs.conv1.weight.grad)
    assert torch.equal(ours.backbone.bn1.running_var, theirs.bn1.running_var)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_timm_resnets_load_torchvisions_files(name):
    theirs = alive(torchvision.models.get_model(name, weights=None))
    ours: Any = create(name, task="classification", label_count=3)
    report = fill(ours, theirs.state_dict(), Path("torchvision"))
    assert set(report.skipped) == {"fc.weight", "fc.bias"}
    theirs.fc = torch.nn.Identity()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval().features(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_layer_table_of_resnet50_equals_the_paper():
    from blemish.models._layers import layer_table

    rows = {r.stage: r.output for r in layer_table(create("resnet50", task="multilabel", label_count=2))}
    assert rows["stem"] == "64 x 112 x 112"
    assert [rows[f"layer{i}"] for i in (1, 2, 3, 4)] == [
        "256 x 56 x 56", "512 x 28 x 28", "1024 x 14 x 14", "2048 x 7 x 7",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def fusion():
    torch.manual_seed(0)
    return create("fusion", task="classification", label_count=6, input_size=64).eval()


def test_fusion_default_head(fusion):
    kinds = [type(layer).__name__ for layer in fusion.head]
    block = ["Dropout", "Linear", "LayerNorm", "GELU"]
    assert kinds == [*block, *block, "Dropout", "Linear"]
    assert [layer.p for layer in fusion.head if isinstance(layer, torch.nn.Dropout)] == [0.4, 0.3, 0.2]
    widths = [(m.in_features, m.out_features) for m in fusion.head if isinstance(m, torch.nn.Linear)]
    assert widths == [(2048, 512), (512, 256), (256, 6)]


def test_fusion_input_sizes():
    whole = create("fusion", task="classification", label_count=6)
    assert {s.name: s.size_hw for s in whole.inputs} == {"efficientnet": (260, 260), "convnext": (224, 224)}


def test_fusion_features_equal_both_backbones(fusion):
    efficientnet = alive(torchvision.models.efficientnet_v2_s(weights=None), 1)
    convnext = alive(torchvision.models.convnext_small(weights=None), 2)
    for theirs in (efficientnet, convnext):
        report = fill(fusion, theirs.state_dict(), Path("torchvision"))
        assert all(name.startswith("classifier.") for name in report.skipped)
    first, second = torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        mine = fusion.features(first, second)
        pooled = efficientnet.avgpool(efficientnet.features(first)).flatten(1)
        normed = convnext.classifier[:2](convnext.avgpool(convnext.features(second)))
    torch.testing.assert_close(mine, torch.cat([pooled, normed], 1), rtol=1e-5, atol=1e-6)


def hugging_face_convnext(generator):
    """The tensors of transformers' ConvNextModel "facebook/convnext-small-224", its names written out."""
    widths, depths, state = (96, 192, 384, 768), (3, 3, 27, 3), {}

    def put(name, *shape):
        state[name] = torch.randn(shape, generator=generator) * 0.05

    put("embeddings.patch_embeddings.weight", 96, 3, 4, 4)
    for name in (
        "embeddings.patch_embeddings.bias",
        "embeddings.layernorm.weight",
        "embeddings.layernorm.bias",
    ):
        put(name, 96)
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if stage:
            before = f"encoder.stages.{stage}.downsampling_layer"
            put(f"{before}.0.weight", widths[stage - 1])
            put(f"{before}.0.bias", widths[stage - 1])
            put(f"{before}.1.weight", width, widths[stage - 1], 2, 2)
            put(f"{before}.1.bias", width)
        for layer in range(depth):
            block = f"encoder.stages.{stage}.layers.{layer}"
            put(f"{block}.layer_scale_parameter", width)
            put(f"{block}.dwconv.weight", width, 1, 7, 7)
            put(f"{block}.pwconv1.weight", 4 * width, width)
            put(f"{block}.pwconv1.bias", 4 * width)
            put(f"{block}.pwconv2.weight", width, 4 * width)
            for name in ("dwconv.bias", "layernorm.weight", "layernorm.bias", "pwconv2.bias"):
                put(f"{block}.{name}", width)
    put("layernorm.weight", 768)
    put("layernorm.bias", 768)
    return state


def hugging_face_pooled(state, x):
    """What ConvNextModel makes of (b, 3, h, w), written from its equations: (b, 768)."""
    f = torch.nn.functional

    def norm(x, name, eps=1e-6):
        moved = x.movedim(1, -1)
        return f.layer_norm(
            moved, moved.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps
        ).movedim(-1, 1)

    def dense(x, name):
        return f.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    name = "embeddings.patch_embeddings"
    x = norm(f.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=4), "embeddings.layernorm")
    for stage, depth in enumerate((3, 3, 27, 3)):
        if stage:
            name = f"encoder.stages.{stage}.downsampling_layer"
            x = f.conv2d(norm(x, f"{name}.0"), state[f"{name}.1.weight"], state[f"{name}.1.bias"], stride=2)
        for layer in range(depth):
            block = f"encoder.stages.{stage}.layers.{layer}"
            y = f.conv2d(
                x,
                state[f"{block}.dwconv.weight"],
                state[f"{block}.dwconv.bias"],
                padding=3,
                groups=x.shape[1],
            )
            y = norm(y, f"{block}.layernorm").movedim(1, -1)
            y = dense(f.gelu(dense(y, f"{block}.pwconv1")), f"{block}.pwconv2")
            x = x + (y * state[f"{block}.layer_scale_parameter"]).movedim(-1, 1)
    return f.layer_norm(x.mean((2, 3)), (768,), state["layernorm.weight"], state["layernorm.bias"], 1e-12)


def test_fusion_loads_a_damagelens_checkpoint():
    """Its module names are `eff_features`, `cnx_backbone` and `fusion_head`; it is held against a forward
    pass written from those names.
    """
    efficientnet = alive(torchvision.models.efficientnet_v2_s(weights=None), 1)
    theirs = hugging_face_convnext(torch.Generator().manual_seed(2))
    head = torch.nn.Sequential(
        *(torch.nn.Dropout(0.4), torch.nn.Linear(2048, 512), torch.nn.LayerNorm(512), torch.nn.GELU()),
        *(torch.nn.Dropout(0.3), torch.nn.Linear(512, 256), torch.nn.LayerNorm(256), torch.nn.GELU()),
        *(torch.nn.Dropout(0.2), torch.nn.Linear(256, 6)),
    ).eval()
    state = {f"eff_features.{name}": x for name, x in efficientnet.features.state_dict().items()}
    state |= {f"cnx_backbone.{name}": x for name, x in theirs.items()}
    state |= {f"fusion_head.{name}": x for name, x in head.state_dict().items()}
    fusion = create("fusion", task="classification", label_count=6, input_size=64).eval()
    report = fill(fusion, state, Path("checkpoint"))
    assert not report.skipped
    assert not report.missing
    first, second = torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        pooled = efficientnet.avgpool(efficientnet.features(first)).flatten(1)
        wanted = head(torch.cat([pooled, hugging_face_pooled(theirs, second)], 1))
        assert wanted.std() > 1e-3
        torch.testing.assert_close(fusion(first, second)[0], wanted, rtol=1e-4, atol=1e-5)


def test_resnet18_loads_a_damagelens_checkpoint():
    """Its module contains torchvision's network as `model`, with a head of its own as `fc`."""
    theirs = alive(torchvision.models.resnet18(weights=None), 3)
    theirs.fc = torch.nn.Sequential(
        *(torch.nn.Dropout(0.5), torch.nn.Linear(512, 256), torch.nn.ReLU()),
        *(torch.nn.Dropout(0.3), torch.nn.Linear(256, 6)),
    ).eval()
    state = {f"model.{name}": x for name, x in theirs.state_dict().items()}
    ours = create("resnet18", task="classification", label_count=6, input_size=64).eval()
    report = fill(ours, state, Path("checkpoint"))
    assert not report.missing and not report.skipped
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x)[0], theirs(x), rtol=1e-4, atol=1e-5)


def test_resize_options_apply_per_input():
    """DamageLens gives ConvNeXt the middle of the image, bicubic, as Hugging Face's processor does."""
    fusion = create(
        "fusion",
        task="classification",
        label_count=6,
        resize={"convnext": "shortest"},
        resize_to={"convnext": 256},
        interpolation={"convnext": "bicubic"},
    )
    first, second = fusion.inputs
    assert (first.size_hw, first.resize, first.interpolation) == ((260, 260), "stretch", "bilinear")
    assert (second.size_hw, second.resize, second.resize_to) == ((224, 224), "shortest", 256)
    assert second.interpolation == "bicubic"


def test_fusion_overfits_a_tiny_batch_with_its_head(fusion):
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
