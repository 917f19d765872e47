"""How fast a model file is on this machine: stage by stage, alone and as a stream, and from a cold start."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blemish.errors import BadInput
from blemish.inference.predictor import Predictor
from blemish.modelfile import write_atomically

STAGES = ("read", "prepare", "infer", "decode")
PERCENTILES = (50, 90, 99)
WARM_UPS = 3
COLD_STARTS = 3


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What one backend needs.

    Attributes:
        backend: its name, with version and device.
        precision: of its arithmetic.
        photographs: how many were timed.
        batch_size: photographs a run of the network, in the stream.
        milliseconds: by stage and `total`, the 50th, 90th and 99th percentile of one photograph at a time.
        photographs_per_second: as a stream, reading ahead.
        load_seconds: to load the network into this process.
        peak_megabytes: the most memory this process had; None where the system does not say.
        cold_start_seconds: `blemish predict` on one photograph, the whole process; None where not measured.
    """

    backend: str
    precision: str
    photographs: int
    batch_size: int
    milliseconds: dict[str, dict[str, float]]
    photographs_per_second: float
    load_seconds: float
    peak_megabytes: float | None = None
    cold_start_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            name: (
                round(value, 4)
                if isinstance(value, float)
                else {k: {p: round(v, 3) for p, v in of.items()} for k, of in value.items()}
                if isinstance(value, dict)
                else value
            )
            for name, value in vars(self).items()
        }


def measure(
    load: Callable[[], Predictor], photographs: Sequence[Path], *, batch_size: int = 1, rounds: int = 50
) -> Speed:
    """The speed of what `load` gives, on photographs; repeated until `rounds` were timed.

    Raises:
        BadInput: there is no photograph.
        BadImage: one of them cannot be used.
    """
    if not photographs:
        raise BadInput("there is no photograph to measure with")
    started = time.perf_counter()
    predictor = load()
    load_seconds = time.perf_counter() - started
    paths = [photographs[i % len(photographs)] for i in range(max(rounds, 1))]
    for path in paths[:WARM_UPS]:
        predictor.predict(path)
    seconds: dict[str, list[float]] = {stage: [] for stage in (*STAGES, "total")}
    for path in paths:
        outcome = next(iter(predictor.predict_many([path])))
        if outcome.error is not None:
            raise outcome.error
        for stage in (*STAGES, "total"):
            seconds[stage].append(getattr(outcome.timing, stage))
    started = time.perf_counter()
    for _ in predictor.predict_many(paths, batch_size):
        pass
    stream_seconds = time.perf_counter() - started
    return Speed(
        backend=predictor.backend.name,
        precision=predictor.backend.precision,
        photographs=len(paths),
        batch_size=batch_size,
        milliseconds={
            stage: {f"p{p}": float(np.percentile(values, p)) * 1000 for p in PERCENTILES}
            for stage, values in seconds.items()
        },
        photographs_per_second=len(paths) / stream_seconds,
        load_seconds=load_seconds,
        peak_megabytes=peak_megabytes(),
    )


def cold_start(model: Path, photograph: Path, *, backend: str = "auto") -> float:
    """Seconds of `blemish predict` on one photograph, the whole process; the quickest of three.

    Raises:
        BadInput: the process failed; the message is its own.
    """
    command = [sys.executable, "-m", "blemish", "predict", str(photograph), "--model", str(model)]
    best = float("inf")
    for _ in range(COLD_STARTS):
        started = time.perf_counter()
        done = subprocess.run([*command, "--backend", backend], capture_output=True, text=True, check=False)  # noqa: S603
        best = min(best, time.perf_counter() - started)
        if done.returncode:
            raise BadInput(
                f"blemish predict failed: {done.stderr.strip().splitlines()[-1:] or done.returncode}"
            )
    return best


def peak_megabytes() -> float | None:
    """The most memory this process ever had, in MB; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # bytes there, kilobytes elsewhere


def draw_photographs(folder: Path, count: int = 8) -> list[Path]:
    """Photographs of 1280 x 960 pixels that compress about as real ones do, for want of any."""
    generator = np.random.default_rng(0)
    paths = []
    for i in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (30, 40, 3), np.uint8))
        smooth = np.asarray(coarse.resize((1280, 960), Image.Resampling.BICUBIC)).astype(np.int16)
        grain = generator.normal(0, 6, smooth.shape).astype(np.int16)
        buffer = io.BytesIO()
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
        path = folder / f"{i}.jpg"
        write_atomically(path, buffer.getvalue())
        paths.append(path)
    return paths
