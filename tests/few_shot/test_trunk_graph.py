"""EfficientNet-Lite as an ONNX graph, against timm's network."""

import copy

import numpy as np
import onnxruntime
import pytest

from blemish.few_shot.features import add_pooling
from blemish.few_shot.trunk_graph import (
    FEATURE_LAYERS,
    FIRST_FEATURE_STAGE,
    GraphParts,
    add_trunk,
    block_count,
    receptive_grids,
)
from blemish.pretrained import BLOCKS


def session(state, size):
    parts = GraphParts()
    maps = add_trunk(parts, "efficientnet-lite0", state, "image", size)
    features = add_pooling(parts, maps)
    shapes = {name: ("b", f"c{i}", f"h{i}", f"w{i}") for i, name in enumerate(maps)}
    graph = parts.to_bytes({"image": ("b", 3, size, size)}, {features: ("b", "d"), **shapes})
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def maps_of(network, image):
    value, maps = network.bn1(network.conv_stem(image)), []
    for number, stage in enumerate(network.blocks):
        value = stage(value)
        if number >= FIRST_FEATURE_STAGE:
            maps.append(value.numpy())
    return maps


@pytest.mark.parametrize("size", [64, 75])
def test_add_trunk_equals_timm(trunk_state, size):
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=False).eval()
    expected = network.state_dict()
    assert [tuple(v.shape) for v in expected.values()] == [v.shape for v in trunk_state.values()]
    values = (torch.from_numpy(np.array(v)) for v in trunk_state.values())
    network.load_state_dict(dict(zip(expected, values, strict=True)))
    image = np.random.default_rng(3).normal(0, 1, (2, 3, size, size)).astype(np.float32)
    features, *actual_maps = session(trunk_state, size).run(None, {"image": image})
    exact_network = copy.deepcopy(network).double()
    with torch.no_grad():
        own_maps = maps_of(network, torch.from_numpy(image))
        exact_maps = maps_of(exact_network, torch.from_numpy(image).double())
    for layer, actual, own, exact in zip(FEATURE_LAYERS, actual_maps, own_maps, exact_maps, strict=True):
        assert exact.std() > 1e-3, f"constant outputs equal anything: {layer}"
        allowed = 4 * max(np.abs(own - exact).max(), 1e-6 * np.abs(exact).max())
        assert np.abs(actual - exact).max() <= allowed, layer
    expected_features = np.concatenate(
        [
            pool((2, 3))
            for m in actual_maps
            for m in [m.astype(np.float64)]
            for pool in (m.mean, m.max, m.std)
        ],
        axis=1,
    )
    assert np.abs(features - expected_features).max() <= 1e-5 * np.abs(expected_features).max()


def test_block_count_of_the_published_layout(trunk_state):
    assert block_count(trunk_state) == sum(BLOCKS["efficientnet-lite0"])


def test_receptive_grids_are_where_the_cells_respond(small_state):
    """A bright spot at the center of a cell's grid position changes that cell most, averaged over spots."""
    size = 96
    run = session(small_state, size)
    grids = receptive_grids("efficientnet-lite0", small_state, size)
    rng = np.random.default_rng(0)
    background = rng.normal(0, 0.3, (1, 3, size, size)).astype(np.float32)
    plain = run.run(["blocks.4"], {"image": background})[0]
    start, stride = grids["blocks.4"]["start_yx"][0], grids["blocks.4"]["stride_yx"][0]
    assert grids["blocks.4"]["stride_yx"] == [1 / 6, 1 / 6]
    assert grids["blocks.6"]["stride_yx"] == [1 / 3, 1 / 3]
    offsets = []
    for row in range(1, 5):
        for column in range(1, 5):
            y, x = ((start + stride * k) * size for k in (row, column))
            spot = background.copy()
            spot[..., round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2] += 3
            change = np.abs(run.run(["blocks.4"], {"image": spot})[0] - plain).sum(1)[0]
            rows, columns = np.indices(change.shape)
            center = (change * rows).sum() / change.sum(), (change * columns).sum() / change.sum()
            offsets.append((center[0] - row, center[1] - column))
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.25
