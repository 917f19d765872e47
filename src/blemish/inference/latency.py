"""Compare the speed of several functions in one process: interleaved, so that all meet the same load."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.inference.backend import Backend
from blemish.model_file import Contract

WARM_UP_RUNS = 2


@dataclass(frozen=True)
class Latency:
    """Seconds of one call.

    Attributes:
        wall_median: median of the elapsed time.
        wall_min: its minimum, which other work on the machine disturbs least.
        cpu_median: median of the processor time of this process, all threads together.
        cpu_min: its minimum.
        runs: number of measured calls.
    """

    wall_median: float
    wall_min: float
    cpu_median: float
    cpu_min: float
    runs: int


def compare_latency(
    calls: Mapping[str, Callable[[], object]], *, runs: int = 20, max_seconds: float = float("inf")
) -> dict[str, Latency]:
    """Return the latency of each function, called in turns.

    Args:
        calls: functions by name.
        runs: calls of each, after `WARM_UP_RUNS` that are not measured.
        max_seconds: no new turn begins after this time; at least one turn is measured.
    """
    started = time.perf_counter()
    for call in calls.values():
        for _ in range(WARM_UP_RUNS):
            call()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(runs):
        if turn and time.perf_counter() - started > max_seconds:
            break
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: _summary(pairs) for name, pairs in times.items()}


def compare_backends(
    backends: Mapping[str, Backend], contract: Contract, *, runs: int = 20, max_seconds: float = float("inf")
) -> dict[str, Latency]:
    """Return the latency of one forward pass of one image with each backend; see `compare_latency`.

    Args:
        backends: by name; all run networks with the inputs of `contract`.
        contract: of the model file.
        runs: see `compare_latency`.
        max_seconds: see `compare_latency`.
    """
    feeds = noise_feeds(contract)
    calls = {name: (lambda backend=backend: backend.run(feeds)) for name, backend in backends.items()}
    return compare_latency(calls, runs=runs, max_seconds=max_seconds)


def noise_feeds(contract: Contract) -> dict[str, NDArray[np.float32]]:
    """Return inputs of one image of normally distributed noise: by name, (1, c, h, w) float32."""
    generator = np.random.default_rng(0)
    return {
        spec.name: generator.standard_normal((1, spec.channels, *spec.size_hw), np.float32)
        for spec in contract.inputs
    }


def _summary(pairs: list[tuple[float, float]]) -> Latency:
    wall, cpu = [w for w, _ in pairs], [c for _, c in pairs]
    return Latency(statistics.median(wall), min(wall), statistics.median(cpu), min(cpu), len(pairs))
