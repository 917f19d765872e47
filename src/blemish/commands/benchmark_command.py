"""`blemish benchmark`: measure the speed of a model file on this machine."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.commands.shared_options import DeviceOption, ThreadsOption

if TYPE_CHECKING:
    from blemish.errors import BlemishError
    from blemish.inference import Predictor

COLD_STARTS = 3
SYNTHETIC_IMAGES = 16
SYNTHETIC_HW = (480, 640)


def benchmark(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="FILE|RUN",
            help="Model file; or the folder of a training run, which --backend torch needs.",
            show_default=False,
        ),
    ],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE", help="Images, folders or glob patterns.", show_default="synthetic images"
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="Backend to measure: onnxruntime, openvino or torch. Repeatable.",
            show_default="every installed one, without torch",
        ),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images per forward pass for the throughput; latency is of one image.")
    ] = 1,
    count: Annotated[int, typer.Option(min=1, help="Number of images to time.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per backend.")] = False,
) -> None:
    """Measure the speed of a model file: latency per stage, throughput, memory, cold start.

    Each backend runs in its own process, so that its memory and cold start are measured alone, and is printed
    when it ends.

    Examples:
      blemish benchmark --model runs/cars/model.onnx

      blemish benchmark photos/ --model runs/cars --backend onnxruntime --backend torch --count 100
    """
    rows: list[dict[str, Any]] = []
    failure = None
    with _benchmark_images(sources, count) as (paths, process_sources):
        if backend is not None and len(backend) == 1:
            rows.append(_measure(model, backend[0], device, threads, batch_size, paths))
            _print_row(rows[0], as_json=as_json, alone=True)
        else:
            names = backend or _installed_backends()
            for name in names:
                command = [sys.executable, "-m", "blemish", "benchmark", *process_sources, "--model", model]
                command += ["--backend", name, "--device", device, "--json"]
                command += ["--batch-size", str(batch_size), "--count", str(count)]
                command += [] if threads is None else ["--threads", str(threads)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
                if done.returncode:
                    failure = _error_of(done, name)
                    break
                row = json.loads(done.stdout.splitlines()[-1])
                row.pop("schema_version")
                rows.append(row)
                _print_row(row, as_json=as_json, alone=len(names) == 1)
    if rows and not as_json:
        _print_table(rows)
    if failure is not None:
        raise failure


def _print_row(row: dict[str, Any], *, as_json: bool, alone: bool) -> None:
    """Print the measurements of one backend when they are complete; a single backend has only the table."""
    if as_json:
        from blemish.commands.json_output import print_json

        print_json(row)
    elif not alone:
        milliseconds = row["latency_ms"]["total"]["p50"]
        rate = row["images_per_second"]
        typer.echo(f"{row['backend']}: {milliseconds:.1f} ms per image, {rate:.1f} images per second")
    sys.stdout.flush()


def _error_of(done: subprocess.CompletedProcess[str], backend: str) -> BlemishError:
    """Return the error of a failed process, with the code that it printed as JSON."""
    from blemish.errors import BlemishError

    try:
        reported = json.loads(done.stdout.splitlines()[-1])["error"]
    except (ValueError, LookupError):  # the process ended without a document
        message = done.stderr.strip().removeprefix("blemish: ") or f"the process of backend {backend} failed"
        return BlemishError(message, reason="benchmark")
    error = BlemishError(reported["message"])
    error.code = reported["code"]
    return error


def _measure(
    model: str, backend: str, device: str, threads: int | None, batch_size: int, paths: Sequence[Path]
) -> dict[str, Any]:
    """Return the measurements of one backend in this process."""
    from blemish.inference.benchmark import measure

    started = time.perf_counter()
    predictor = _open_predictor(model, backend, device, threads)
    load_seconds = time.perf_counter() - started
    row = measure(predictor, paths, batch_size=batch_size, load_seconds=load_seconds).to_dict()
    row["cold_start_seconds"] = None
    if backend != "torch":
        file = predictor.model_file.path if predictor.model_file is not None else model
        row["cold_start_seconds"] = _cold_start_seconds(str(file), backend, device, threads, paths[0])
    return row


def _open_predictor(model: str, backend: str, device: str, threads: int | None) -> Predictor:
    """Return a predictor of a model file, or of a run's own network for the backend torch."""
    from blemish.inference import load

    if backend != "torch":
        folder = Path(model)
        file: Path | str = folder / "model.onnx" if folder.is_dir() else model
        return load(file, backend=backend, device=device, threads=threads)
    import torch

    from blemish.inference import Predictor
    from blemish.inference.backend import available_cores
    from blemish.models._run_loader import load_run_network
    from blemish.models._torch_backend import TorchBackend

    torch.set_num_threads(threads or available_cores())
    run = Path(model) if Path(model).is_dir() else Path(model).parent
    network, model_file = load_run_network(run)
    best_device = "cuda" if torch.cuda.is_available() else "cpu"
    return Predictor(TorchBackend(network.to(best_device if device == "auto" else device)), model_file)


def _cold_start_seconds(file: str, backend: str, device: str, threads: int | None, path: Path) -> float:
    """Return the seconds of a whole process that predicts one image: the median of several."""
    command = [sys.executable, "-m", "blemish", "predict", str(path), "--model", file]
    command += ["--backend", backend, "--device", device]
    command += [] if threads is None else ["--threads", str(threads)]
    seconds = []
    for _ in range(COLD_STARTS + 1):
        started = time.perf_counter()
        subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def _installed_backends() -> list[str]:
    """Return the names of the installed backends that run model files, which torch does not."""
    from blemish.inference import BACKENDS

    return [name for name, builder in BACKENDS.items() if builder.is_installed()]


@contextmanager
def _benchmark_images(sources: list[str] | None, count: int) -> Iterator[tuple[list[Path], list[str]]]:
    """Yield `count` paths, some of them repeated, and the sources for another process."""
    if sources:
        from blemish.inference.sources import find_paths

        found = list(islice(find_paths(sources), count))
        yield [found[i % len(found)] for i in range(count)], sources
        return
    from blemish.data.synthetic import panels, save_image

    with tempfile.TemporaryDirectory(prefix="blemish-benchmark-") as folder:
        paths = []
        for specimen in panels(min(SYNTHETIC_IMAGES, count), size_hw=SYNTHETIC_HW):
            paths.append(Path(folder) / f"{specimen.id}.jpg")
            save_image(specimen.image, paths[-1])
        yield [paths[i % len(paths)] for i in range(count)], [folder]


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table with one column per backend."""
    from rich.console import Console
    from rich.table import Table

    table = Table(caption=f"milliseconds per image: median (95th percentile) of {rows[0]['images']} images")
    for heading in ("", *(row["backend"] for row in rows)):
        table.add_column(heading, justify="left" if not heading else "right")
    stage_names = {
        "read": "read and decode",
        "prepare": "resize and normalize",
        "infer": "network",
        "decode": "decode outputs",
    }
    for stage in rows[0]["latency_ms"]:
        cells = [
            f"{row['latency_ms'][stage]['p50']:.1f} ({row['latency_ms'][stage]['p95']:.1f})" for row in rows
        ]
        table.add_row(stage_names.get(stage, stage), *cells, end_section=stage == "total")
    totals = {
        "images per second, as a stream": ("images_per_second", "{:.1f}"),
        "peak memory, MiB": ("peak_memory_mib", "{:.0f}"),
        "load, s": ("load_seconds", "{:.2f}"),
        "cold start of the whole process, s": ("cold_start_seconds", "{:.2f}"),
    }
    for title, (key, form) in totals.items():
        table.add_row(title, *("-" if row[key] is None else form.format(row[key]) for row in rows))
    Console().print(table)
