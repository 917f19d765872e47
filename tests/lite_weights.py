"""Drawn weights of EfficientNet-Lite in the published layout, its network in plain functions, and a wheel."""

import hashlib
from dataclasses import replace

import numpy as np

from blemish.pretrained import PRETRAINED

KERNELS = (3, 3, 5, 3, 5, 5, 3)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
DEPTHS = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}
WIDTHS = {
    0: (16, 24, 40, 80, 112, 192, 320),
    1: (16, 24, 40, 80, 112, 192, 320),
    2: (16, 24, 48, 88, 120, 208, 352),
}


def published_layout(rng, version=0, *, widths=None, stem=32, head=1280, classes=1000):
    """Return tensors by name, shaped and ordered like the published file."""
    state = {}

    def conv(name, out, inside, kernel):
        fan_in = max(inside * kernel * kernel, 1)
        drawn = rng.normal(0, (2 / fan_in) ** 0.5, (out, inside, kernel, kernel))
        state[f"{name}.weight"] = drawn.astype("f4")

    def norm(name, width):
        state[f"{name}.weight"] = rng.uniform(0.8, 1.2, width).astype("f4")
        state[f"{name}.bias"] = rng.normal(0, 0.1, width).astype("f4")
        state[f"{name}.running_mean"] = rng.normal(0, 0.1, width).astype("f4")
        state[f"{name}.running_var"] = rng.uniform(0.7, 1.3, width).astype("f4")
        state[f"{name}.num_batches_tracked"] = np.array(7, "i8")

    conv("_conv_stem", stem, 3, 3)
    norm("_bn0", stem)
    inside, number = stem, 0
    for stage, (out, kernel, count) in enumerate(
        zip(widths or WIDTHS[version], KERNELS, DEPTHS[version], strict=True)
    ):
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
    state["_fc.bias"] = rng.normal(0, 0.02, classes).astype("f4")
    return state


def reference(state, image, version=0):
    """Return the last map of each stage and the logits, by plain functions on the published names.

    Args:
        state: torch tensors by published name.
        image: (b, 3, h, w).
        version: 0, 1 or 2.
    """
    from torch.nn import functional

    def layer(x, conv, norm, *, stride=1, groups=1, activate=True):
        weight = state[f"{conv}.weight"]
        kernel = weight.shape[-1]
        pads = []
        for side in (x.shape[3], x.shape[2]):  # as TensorFlow's "same": the larger half comes after
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        x = functional.conv2d(functional.pad(x, pads), weight, stride=stride, groups=groups)
        mean, variance, gamma, beta = (
            state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = functional.batch_norm(x, mean, variance, gamma, beta, False, 0.0, 1e-3)
        return functional.relu6(x) if activate else x

    x = layer(image, "_conv_stem", "_bn0", stride=2)
    maps, number = [], 0
    for stride_of_stage, depth in zip(STRIDES, DEPTHS[version], strict=True):
        for position in range(depth):
            prefix, stride, before = f"_blocks.{number}", stride_of_stage if position == 0 else 1, x
            if f"{prefix}._expand_conv.weight" in state:
                x = layer(x, f"{prefix}._expand_conv", f"{prefix}._bn0")
            x = layer(x, f"{prefix}._depthwise_conv", f"{prefix}._bn1", stride=stride, groups=x.shape[1])
            x = layer(x, f"{prefix}._project_conv", f"{prefix}._bn2", activate=False)
            if stride == 1 and before.shape == x.shape:
                x = x + before
            number += 1
        maps.append(x)
    pooled = layer(x, "_conv_head", "_bn1").mean((2, 3))
    return maps, functional.linear(pooled, state["_fc.weight"], state["_fc.bias"])


def install_wheel(monkeypatch, site, content, *, version=0, published=None):
    """Put a package with a weights file first on the path, and expect it in place of the published one.

    Args:
        monkeypatch: undoes both.
        site: a folder for the package.
        content: the bytes of the weights file.
        version: 0, 1 or 2.
        published: the bytes that `blemish.pretrained` expects; default: `content`.

    Returns:
        The weights file.
    """
    name = f"efficientnet-lite{version}"
    known = PRETRAINED[name]
    package = known.distribution.replace("-", "_")
    folder, info = site / package, site / f"{package}-{known.version}.dist-info"
    (folder / "models").mkdir(parents=True)
    info.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('the package was imported')\n")
    file = folder / "models" / known.file_name
    file.write_bytes(content)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {known.distribution}\nVersion: {known.version}\n"
    )
    listed = (folder / "__init__.py", file, info / "METADATA", info / "RECORD")
    (info / "RECORD").write_text("".join(f"{path.relative_to(site).as_posix()},,\n" for path in listed))
    expected = content if published is None else published
    digest = hashlib.sha256(expected).hexdigest()
    monkeypatch.setitem(PRETRAINED, name, replace(known, sha256=digest, size_bytes=len(expected)))
    monkeypatch.syspath_prepend(site)
    return file


def legacy_bytes(state):
    """Return the state as PyTorch's old file format."""
    import io
    from collections import OrderedDict

    import torch

    file = io.BytesIO()
    tensors = OrderedDict((name, torch.from_numpy(np.array(value))) for name, value in state.items())
    torch.save(tensors, file, _use_new_zipfile_serialization=False)
    return file.getvalue()
