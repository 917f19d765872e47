"""A trunk with random weights in the published layout, and drawn cells to learn from."""

import numpy as np
import pytest

WIDTHS = (16, 24, 40, 80, 112, 192, 320)
KERNELS = (3, 3, 5, 3, 5, 5, 3)
BLOCKS = (1, 2, 2, 3, 3, 4, 1)


def published_layout(rng, widths=WIDTHS, stem=32, head=1280, classes=1000):
    """Return tensors by name, shaped and ordered like efficientnet-lite0's file."""
    state = {}

    def conv(name, out, inside, kernel):
        fan_in = max(inside * kernel * kernel, 1)
        state[f"{name}.weight"] = rng.normal(0, (2 / fan_in) ** 0.5, (out, inside, kernel, kernel)).astype(
            "f4"
        )

    def norm(name, width):
        state[f"{name}.weight"] = rng.uniform(0.8, 1.2, width).astype("f4")
        state[f"{name}.bias"] = rng.normal(0, 0.1, width).astype("f4")
        state[f"{name}.running_mean"] = rng.normal(0, 0.1, width).astype("f4")
        state[f"{name}.running_var"] = rng.uniform(0.7, 1.3, width).astype("f4")
        state[f"{name}.num_batches_tracked"] = np.array(7, "i8")

    conv("_conv_stem", stem, 3, 3)
    norm("_bn0", stem)
    inside, number = stem, 0
    for stage, (out, kernel, count) in enumerate(zip(widths, KERNELS, BLOCKS, strict=True)):
        for _ in range(count):
            prefix, wide = f"_blocks.{number}", inside
            if stage:
                wide = inside * 6
                conv(f"{prefix}._expand_conv", wide, inside, 1)
                norm(f"{prefix}._bn0", wide)
            conv(f"{prefix}._depthwise_conv", wide, 1, kernel)
            norm(f"{prefix}._bn1", wide)
            conv(f"{prefix}._project_conv", out, wide, 1)
            norm(f"{prefix}._bn2", out)
            inside, number = out, number + 1
    conv("_conv_head", head, inside, 1)
    norm("_bn1", head)
    state["_fc.weight"] = rng.normal(0, 0.02, (classes, head)).astype("f4")
    state["_fc.bias"] = np.zeros(classes, "f4")
    return state


@pytest.fixture(scope="session")
def trunk_state():
    return published_layout(np.random.default_rng(0))


@pytest.fixture(scope="session")
def small_state():
    """The same layout with few channels, so that a training takes seconds."""
    return published_layout(np.random.default_rng(1), (8, 8, 8, 16, 16, 24, 32), stem=8, head=64, classes=10)
