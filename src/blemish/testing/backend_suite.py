"""The test suite that every registered inference backend must pass."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.inference import open_backend
from blemish.inference.backend import Backend
from blemish.model_file import ModelFile, read_model_file

MAX_ERROR = 1e-4  # of the largest output, between two float32 runtimes


def check_backend(
    name: str,
    path: Path,
    *,
    reference: str = "onnxruntime",
    max_error: float = MAX_ERROR,
    opened: Callable[[ModelFile], Backend] | None = None,
) -> None:
    """Check that a backend computes what the reference backend computes.

    Args:
        name: registry name.
        path: a model file.
        reference: the backend whose outputs are right.
        max_error: largest allowed difference, as a share of the largest output.
        opened: opens the backend; default: as `blemish.load(path, backend=name)` does.

    Raises:
        AssertionError: a check failed; the message begins with its name.
    """
    file = read_model_file(path)
    right = open_backend(file, backend=reference)
    backend = open_backend(file, backend=name) if opened is None else opened(file)
    assert backend.name, "name: empty"
    assert backend.precision in ("fp32", "fp16", "bf16", "int8"), f"precision: {backend.precision!r}"
    expected_names = {spec.name for spec in file.contract.outputs}
    for count in (1, 3, 1):
        feeds = _feeds(file, count)
        copies = {k: v.copy() for k, v in feeds.items()}
        outputs, expected = backend.run(feeds), right.run(feeds)
        assert set(outputs) >= expected_names, (
            f"outputs: {sorted(outputs)}, expected {sorted(expected_names)}"
        )
        for key, copy in copies.items():
            assert np.array_equal(feeds[key], copy), f"feeds: {key!r} was changed"
        for key in expected_names:
            _check_close(outputs[key], expected[key], max_error, f"{key} for a batch of {count}")
    batches = [_feeds(file, 1, seed) for seed in range(8)]
    alone = [backend.run(feeds) for feeds in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(backend.run, batches))
    for one, other in zip(alone, together, strict=True):
        for key in expected_names:
            _check_close(other[key], one[key], 1e-6, f"threads: {key} differs when threads share the backend")


def _feeds(file: ModelFile, count: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Return random inputs, each (count, c, h, w) float32."""
    rng = np.random.default_rng(seed)
    return {
        spec.name: rng.normal(0, 1, (count, spec.channels, *spec.size_hw)).astype(np.float32)
        for spec in file.contract.inputs
    }


def _check_close(actual: NDArray[Any], expected: NDArray[Any], max_error: float, what: str) -> None:
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if not expected.size:
        return
    scale = max(float(np.abs(expected).max()), 1e-6)
    error = float(np.abs(actual.astype(np.float64) - expected).max()) / scale
    assert error <= max_error, (
        f"{what}: the error is {error:.3g} of the largest output, allowed {max_error:g}"
    )
