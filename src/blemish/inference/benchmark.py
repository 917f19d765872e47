"""How fast a predictor is on this machine, stage by stage."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from blemish.errors import BadInput
from blemish.inference.predictor import Predictor, Timing

STAGES = tuple(field.name for field in fields(Timing))
PERCENTILES = (50, 95, 99)
WARM_UP = 3  # images that are not counted: the first runs allocate


@dataclass(frozen=True)
class BenchmarkResult:
    """What was measured of one backend.

    Attributes:
        backend: its name, with version and device.
        precision: of its arithmetic.
        images: how many were timed.
        latency_ms: by stage and `total`, then `mean`, `p50`, `p95`, `p99`: milliseconds for one image
            after another, nothing beside it.
        batch_size: of the stream below.
        images_per_second: as a stream, the next ones being read while the network works.
        peak_memory_mib: of this process; None where the system does not say.
        load_seconds: to open the model file and make the network ready.
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
        """The figures as JSON takes them."""
        return asdict(self)


def measure(
    predictor: Predictor, sources: Sequence[Path], *, batch_size: int = 1, load_seconds: float = 0.0
) -> BenchmarkResult:
    """Time a predictor on images, first one by one, then as a stream.

    Args:
        predictor: ready.
        sources: images that can be read.
        batch_size: of the stream.
        load_seconds: what making the predictor took.

    Raises:
        BadImage: an image cannot be used.
        BadInput: there are none.
    """
    if not sources:
        raise BadInput("there is no image to measure with")
    for source in sources[:WARM_UP]:
        _one(predictor, source)
    timings = [_one(predictor, source) for source in sources]
    list(predictor.predict_many(sources[: 2 * batch_size], batch_size))
    started = time.perf_counter()
    done = sum(outcome.error is None for outcome in predictor.predict_many(sources, batch_size))
    seconds = time.perf_counter() - started
    columns = {stage: [getattr(t, stage) for t in timings] for stage in (*STAGES, "total")}
    return BenchmarkResult(
        backend=predictor.backend.name,
        precision=predictor.backend.precision,
        images=len(sources),
        latency_ms={stage: _figures(values) for stage, values in columns.items()},
        batch_size=batch_size if predictor.contract.dynamic_batch else 1,
        images_per_second=done / seconds,
        peak_memory_mib=peak_memory_mib(),
        load_seconds=load_seconds,
    )


def peak_memory_mib() -> float | None:
    """The most memory this process ever held, MiB; None where the system does not say."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux; getrusage would count the process that started this one too
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


def _one(predictor: Predictor, source: Path) -> Timing:
    (outcome,) = predictor.predict_many([source])
    if outcome.error is not None:
        raise outcome.error
    return outcome.timing


def _figures(seconds: Sequence[float]) -> dict[str, float]:
    values = np.array(seconds) * 1e3
    named = {f"p{p}": float(v) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}
    return {"mean": float(values.mean()), **named}
