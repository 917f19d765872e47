"""Compare the cost of a plain prediction in two checkouts of Blemish, in one run.

    git worktree add /tmp/before COMMIT
    python bench/prediction_cost.py --before /tmp/before --pair before/resnet18.onnx after/resnet18.onnx

Two processes per comparison, one for each checkout, predict the same images in turn (A, B, B, A, ...), each
for about a second, with one thread and from files. The figure is the median over the rounds of the ratio of
CPU time, this checkout to the other, with a bootstrap interval. Each --pair names a file for each side: the
same file twice measures the code; a file of each checkout also measures what newer files contain.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

WORKER = """
import json, sys, time
import blemish
model, backend, *files = sys.argv[1:]
predictor = blemish.load(model, threads=1, backend=backend)
for line in sys.stdin:
    started, wall = time.process_time(), time.perf_counter()
    for _ in range(int(line)):
        for file in files:
            predictor.predict(file)
    print(json.dumps([time.process_time() - started, time.perf_counter() - wall]), flush=True)
"""


class Worker:
    """A process that predicts when asked."""

    def __init__(self, source: Path, model: str, backend: str, files: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, model, backend, *files],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def measure(self, passes: int) -> tuple[float, float]:
        """Return seconds of CPU and wall time of predicting every image `passes` times."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{passes}\n")
        self._process.stdin.flush()
        cpu, wall = json.loads(self._process.stdout.readline())
        return cpu, wall

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def compare(workers: list[Worker], rounds: int, images: int) -> dict[str, float | list[float]]:
    """Return milliseconds per image of both sides, and the median ratio of the second to the first."""
    for worker in workers:
        worker.measure(1)
    passes = max(round(1.0 / max(workers[0].measure(1)[0], 1e-3)), 1)
    times = np.zeros((rounds, 2))
    for i in range(rounds):
        for side in (0, 1) if i % 2 == 0 else (1, 0):
            times[i, side] = workers[side].measure(passes)[0]
    ratios = times[:, 1] / times[:, 0]
    rng = np.random.default_rng(0)
    draws = np.median(ratios[rng.integers(0, rounds, (2000, rounds))], axis=1)
    before, after = np.median(times, axis=0) / passes / images * 1000
    return {
        "before_ms": round(float(before), 2),
        "after_ms": round(float(after), 2),
        "ratio": round(float(np.median(ratios)), 4),
        "interval": [round(float(v), 4) for v in np.percentile(draws, [2.5, 97.5])],
    }


def main() -> None:
    """Print one JSON line per pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="The other checkout.")
    parser.add_argument("--pair", nargs=2, action="append", required=True, metavar=("BEFORE", "AFTER"))
    parser.add_argument("--images", type=Path, required=True, help="Folder of images.")
    parser.add_argument("--count", type=int, default=8, help="Images.")
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--backend", default="onnxruntime")
    options = parser.parse_args()
    suffixes = {".png", ".jpg"}
    files = sorted(str(p) for p in options.images.rglob("*") if p.suffix in suffixes)[: options.count]
    here = Path(__file__).resolve().parents[1]
    for before, after in options.pair:
        started = time.perf_counter()
        workers = [
            Worker(options.before, before, options.backend, files),
            Worker(here, after, options.backend, files),
        ]
        facts = compare(workers, options.rounds, len(files))
        for worker in workers:
            worker.close()
        seconds = round(time.perf_counter() - started)
        print(json.dumps({"before": before, "after": after, **facts, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
