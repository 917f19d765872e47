"""What runs a network: a protocol, so that rooms below can hand in backends of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Backend(Protocol):
    """Runs a network on batches; may be called from several threads.

    Attributes:
        name: what runs it, with version and device: `onnxruntime 1.31.1 CPUExecutionProvider`.
        precision: of the arithmetic: `fp32`, `fp16`, `bf16`, `int8`.
    """

    name: str
    precision: str

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The network's outputs for a batch.

        Args:
            feeds: by input name, each (b, c, h, w) float32, contiguous.

        Returns:
            By output name, the first axis being the batch.
        """
        ...


def available_cores() -> int:
    """How many processors this process may use: of the machine, its affinity and its container's quota.

    Runtimes look at the machine only: in a container of 2 cores on a machine of 64 they start 64 threads,
    which is several times slower than 2.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _container_quota(Path("/sys/fs/cgroup"))
    return max(1, cores if quota is None else min(cores, round(quota)))


def _container_quota(root: Path) -> float | None:
    """Processors that the control group allows (version 2, then 1); None where it sets no limit."""
    try:
        limit, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (root / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        return float(limit) / float(period) if float(limit) > 0 and float(period) > 0 else None
    except ValueError:  # "max"
        return None


def numpy_feeds(feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """`feeds` as runtimes take them: float32 and contiguous, without a copy where they are already."""
    return {name: np.ascontiguousarray(array, np.float32) for name, array in feeds.items()}
