"""Measure the speed of a predictor on this machine, stage by stage."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from blemish.errors import BadInput
from blemish.inference.predictor import Predictor
from blemish.inference.results import Timing

STAGES = tuple(field.name for field in fields(Timing))
PERCENTILES = (50, 95, 99)
WARM_UP_IMAGES = 3  # not measured: the first runs allocate memory


@dataclass(frozen=True)
class BenchmarkResult:
    """The speed of one backend.

    Attributes:
        backend: its name, with version and device.
        precision: precision of its arithmetic.
        images: number of images that were timed.
        latency_ms: milliseconds by stage and `total`, then `mean`, `p50`, `p95`, `p99`, of one image at a
            time with nothing running in parallel.
        batch_size: batch size of the stream.
        images_per_second: throughput as a stream, in which the next images are read while the network works.
        peak_memory_mib: of this process; None if the operating system does not report it.
        load_seconds: time to open the model file and prepare the network.
    """

    backend: str
    precision: str
    images: int
    latency_ms: Mapping[str, Mapping[str, float]]
    batch_size: int
    images_per_second: float
    peak_memory_mib: float | None
    load_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return asdict(self)


def measure(
    predictor: Predictor, paths: Sequence[Path], *, batch_size: int = 1, load_seconds: float = 0.0
) -> BenchmarkResult:
    """Time a predictor on images, first one by one, then as a stream.

    Args:
        predictor: the predictor to measure.
        paths: images that can be read.
        batch_size: batch size of the stream.
        load_seconds: how long it took to create the predictor.

    Raises:
        BadImage: an image cannot be used.
        BadInput: there are no images.
    """
    if not paths:
        raise BadInput("benchmark: expected at least one image, got none", reason="no-images")
    for path in paths[:WARM_UP_IMAGES]:
        _time_one(predictor, path)
    timings = [_time_one(predictor, path) for path in paths]
    list(predictor.stream(paths[: 2 * batch_size], batch_size))
    started = time.perf_counter()
    done = sum(result.error is None for result in predictor.stream(paths, batch_size))
    seconds = time.perf_counter() - started
    columns = {stage: [getattr(t, stage) for t in timings] for stage in (*STAGES, "total")}
    return BenchmarkResult(
        backend=predictor.backend.name,
        precision=predictor.backend.precision,
        images=len(paths),
        latency_ms={stage: _summarize(values) for stage, values in columns.items()},
        batch_size=batch_size if predictor.contract.dynamic_batch else 1,
        images_per_second=done / seconds,
        peak_memory_mib=peak_memory_mib(),
        load_seconds=load_seconds,
    )


def peak_memory_mib() -> float | None:
    """Return the largest resident memory of this process so far in MiB; None if it is not reported."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux; getrusage would include the process that started this one
        with status.open(encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def _time_one(predictor: Predictor, path: Path) -> Timing:
    (result,) = predictor.stream([path])
    if result.error is not None:
        raise result.error
    return result.timing


def _summarize(seconds: Sequence[float]) -> dict[str, float]:
    """Return mean and percentiles in milliseconds."""
    values = np.array(seconds) * 1e3
    percentiles = {
        f"p{p}": float(v) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)
    }
    return {"mean": float(values.mean()), **percentiles}
