"""Measure predictions into shards: throughput against the bare runtime, Ray against one process, and memory.

    python bench/archives.py --folder DIR prepare
    python bench/archives.py --folder DIR throughput
    python bench/archives.py --folder DIR ray
    python bench/archives.py --folder DIR memory [--engine ray]

`prepare` draws 500 JPEG files of 640 x 480 pixels, which larger archives name repeatedly, and writes a
ResNet-18 of random weights for 128 px; for `memory`, files of 64 x 48 pixels and a linear network.
`throughput` interleaves rounds in one process on one core: images to shards against Pillow, NumPy and ONNX
Runtime alone. `ray` runs two workers of one thread against one process with two threads. `memory` runs each
number of images in a process of its own. Prints the rows of the table in docs/results.md. Run it from the
root of the checkout with PYTHONPATH=src:.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

IMAGES = 500
SIDE = 128
SOURCE = str(Path(__file__).resolve().parents[1] / "src")


def prepare(folder: Path) -> None:
    """Draw the images and write the model file."""
    import torch
    from tests.inference import tiny_models

    from bench.pictures import photo, save_jpeg
    from blemish.export.onnx_export import export_network
    from blemish.model_file import Contract, LabelSpec, write_model_file
    from blemish.models import create

    torch.manual_seed(0)
    network = create("resnet18-scratch", task="classification", label_count=6, input_size=SIDE).eval()
    contract = Contract(
        architecture="resnet18-scratch",
        task=network.task,
        labels=tuple(LabelSpec(name=f"label {i}", display_name=f"Label {i}") for i in range(6)),
        inputs=network.inputs,
        outputs=network.outputs,
        decoder=network.decoder,
    )
    write_model_file(folder / "model.onnx", export_network(network), contract)
    (folder / "small").mkdir()
    tiny_models.write_scores_model(folder / "small" / "model.onnx")
    for target, size_hw in ((folder, (480, 640)), (folder / "small", (48, 64))):
        (target / "images").mkdir()
        for seed in range(IMAGES):
            save_jpeg(photo(seed, size_hw), target / "images" / f"{seed}.jpg")


def archive(folder: Path, count: int) -> Path:
    """Return a folder of `count` images, which are hard links to those that were drawn."""
    target = folder / f"archive-{count}"
    if not target.is_dir():
        target.mkdir()
        for number in range(count):
            (target / f"{number}.jpg").hardlink_to(folder / "images" / f"{number % IMAGES}.jpg")
    return target


def bare(model: Path, paths: list[Path]) -> Callable[[], int]:
    """Return what decodes and resizes with Pillow, normalizes with NumPy and runs ONNX Runtime."""
    import numpy as np
    import onnxruntime
    from PIL import Image

    from blemish.model_file import read_model_file

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    spec = read_model_file(model).contract.inputs[0]
    mean = np.asarray(spec.mean, np.float32)
    std = np.asarray(spec.std, np.float32)
    name = session.get_inputs()[0].name

    def run() -> int:
        for path in paths:
            with Image.open(path) as image:
                small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            array = (np.asarray(small, np.float32) / 255 - mean) / std
            session.run(None, {name: np.ascontiguousarray(array.transpose(2, 0, 1))[None]})
        return len(paths)

    return run


def sharded(model: Path, source: Path, output: Path) -> Callable[[], int]:
    """Return what predicts a folder into shards in this process."""
    from blemish.archives import Job, predict_archive

    worker = Job(model=str(model), backend="onnxruntime", threads=1).load()
    worker.predictor.readers = 1

    def run() -> int:
        shutil.rmtree(output, ignore_errors=True)
        return predict_archive(worker, [str(source)], output).rows

    return run


def throughput(folder: Path, count: int, rounds: int) -> None:
    """Print images per CPU second and per second of the bare runtime and of the sharded engine."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # reading ahead must not gain a core
    source = archive(folder, count)
    model = folder / "model.onnx"
    calls = {
        "bare": bare(model, sorted(source.iterdir())),
        "shards": sharded(model, source, folder / "out"),
    }
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            cpu, wall = time.process_time(), time.perf_counter()
            count = call()
            costs[name].append((count / (time.process_time() - cpu), count / (time.perf_counter() - wall)))
    for index, unit in enumerate(("images per CPU second", "images per second")):
        ratios = [
            ours[index] / peer[index] for ours, peer in zip(costs["shards"], costs["bare"], strict=True)
        ]
        print(
            f"| {unit}, 1 thread, {rounds} rounds of {count} | "
            + " | ".join(f"{statistics.median(c[index] for c in costs[name]):.1f}" for name in calls)
            + f" | {statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}] |"
        )


def engine_run(folder: Path, count: int, engine: str) -> None:
    """Predict an archive in this process, and print its times and peak memory as JSON."""
    from blemish.archives import Job, predict_archive

    threads = 2 if engine == "local" else 1
    output = folder / f"out-{engine}"
    shutil.rmtree(output, ignore_errors=True)
    started = time.perf_counter()
    worker = Job(model=str(folder / "model.onnx"), backend="onnxruntime", threads=threads).load()
    chosen: Any = None
    if engine == "ray":
        import ray

        ray.init(
            "local", num_cpus=2, object_store_memory=200_000_000, include_dashboard=False, log_to_driver=False
        )
        from blemish.ray import RayEngine

        chosen = RayEngine(worker, workers=2)
    times: list[float] = []
    peaks = {"driver": 0, "worker": 0}

    def on_progress(progress: Any) -> None:
        times.append(time.perf_counter())
        if engine == "ray" and len(times) % 200 == 0:
            peaks["worker"] = max(peaks["worker"], *worker_peaks(), 0)

    shards = max(count // 100, 1)
    summary = predict_archive(
        worker, [str(archive(folder, count))], output, shards=shards, engine=chosen, on_progress=on_progress
    )
    total = time.perf_counter() - started
    peaks["driver"] = peak_kib(Path("/proc/self/status"))
    # Without the start: from the moment that a tenth of the rows was there.
    first = len(times) // 10
    steady = (len(times) - first) / (times[-1] - times[first])
    print(json.dumps({"rows": summary.rows, "seconds": total, "steady": steady, **peaks}))


def peak_kib(status: Path) -> int:
    """Return the peak of the resident memory of a process, in KiB."""
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(fields["VmHWM"].split()[0])


def worker_peaks() -> Iterator[int]:
    """Yield the peak of each worker of Ray on this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::MapWorker" in path.read_bytes():
                yield peak_kib(path.with_name("status"))
        except (OSError, KeyError):
            continue


def child(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a part in a process of its own and return what it printed."""
    environment = {**os.environ, "PYTHONPATH": SOURCE, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--folder", str(folder), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def against_ray(folder: Path, count: int, rounds: int) -> None:
    """Print images per second of one process with two threads and of two workers of Ray."""
    runs: dict[str, list[dict[str, Any]]] = {"local": [], "ray": []}
    for _, engine in itertools.product(range(rounds), runs):
        runs[engine].append(child(folder, "run", "--engine", engine, "--images", str(count)))
    for title, value in (
        ("after the start", lambda run: run["steady"]),
        ("with the start", lambda run: run["rows"] / run["seconds"]),
    ):
        local, ray = ([value(run) for run in runs[engine]] for engine in ("local", "ray"))
        ratios = [b / a for a, b in zip(local, ray, strict=True)]
        print(
            f"| images per second, {title}, {count} images | {statistics.median(local):.1f} | "
            f"{statistics.median(ray):.1f} | {statistics.median(ratios):.3f} "
            f"[{min(ratios):.3f}, {max(ratios):.3f}] |"
        )


def memory(folder: Path, engine: str, rounds: int) -> None:
    """Print the peak memory at 1,000 and at 10,000 images."""
    runs: dict[int, list[dict[str, Any]]] = {1000: [], 10000: []}
    for _, count in itertools.product(range(rounds), runs):
        runs[count].append(child(folder / "small", "run", "--engine", engine, "--images", str(count)))
    for process in ("driver", "worker") if engine == "ray" else ("driver",):
        small, large = (statistics.median(run[process] for run in runs[count]) / 1024 for count in runs)
        print(f"| peak memory, {engine}, {process}, MiB | {small:.1f} | {large:.1f} | {large / small:.3f} |")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", choices=["prepare", "throughput", "ray", "memory", "run"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--images", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.part == "prepare":
        prepare(options.folder)
    elif options.part == "throughput":
        throughput(options.folder, options.images or IMAGES, options.rounds)
    elif options.part == "ray":
        against_ray(options.folder, options.images or 4000, options.rounds)
    elif options.part == "memory":
        memory(options.folder, options.engine, options.rounds)
    else:
        engine_run(options.folder, options.images or 1000, options.engine)


if __name__ == "__main__":
    main()
