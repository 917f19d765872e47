"""`blemish benchmark`: how fast a model file is on this machine."""

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
    from blemish.inference import Predictor

COLD_STARTS = 3
DRAWN = 16  # images that are drawn where none were given
DRAWN_HW = (480, 640)


def benchmark(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="The model file, or for torch its run's folder.", show_default=False
        ),
    ],
    source: Annotated[
        list[str] | None,
        typer.Option("--source", metavar="DIR", help="Images; drawn ones where not given."),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="onnxruntime, openvino or torch, once each; what is installed where not given."),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Of the stream; latency is of one at a time.")] = 1,
    count: Annotated[int, typer.Option(min=1, help="Images to time.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON a backend.")] = False,
) -> None:
    """Time a model file on this machine: latency by stage, throughput, memory, cold start.

    Each backend runs in a process of its own, so that memory and cold start are its own too.
    """
    from blemish.errors import BlemishError

    with _images(source, count) as (images, places):
        if backend is not None and len(backend) == 1:
            found = [_measured(file, backend[0], device, threads, batch_size, images)]
        else:
            found = []
            for name in backend or _installed(file):
                command = [sys.executable, "-m", "blemish", "benchmark", file, "--backend", name, "--json"]
                command += ["--device", device, "--batch-size", str(batch_size), "--count", str(count)]
                command += [] if threads is None else ["--threads", str(threads)]
                for place in places:
                    command += ["--source", place]
                done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
                if done.returncode:
                    raise BlemishError(done.stderr.strip().removeprefix("blemish: ") or f"{name} failed")
                found.append(json.loads(done.stdout.splitlines()[-1]))
    if as_json:
        for speed in found:
            typer.echo(json.dumps(speed))
        return
    _print_table(found)


def _measured(
    file: str, backend: str, device: str, threads: int | None, batch_size: int, images: Sequence[Path]
) -> dict[str, Any]:
    from blemish.inference.benchmark import measure

    started = time.perf_counter()
    predictor = _predictor(file, backend, device, threads)
    speed = measure(
        predictor, images, batch_size=batch_size, load_seconds=time.perf_counter() - started
    ).to_dict()
    speed["cold_start_seconds"] = None
    if backend != "torch":
        model = predictor.model_file.path if predictor.model_file is not None else file
        speed["cold_start_seconds"] = _cold_start(str(model), backend, device, threads, images[0])
    return speed


def _predictor(file: str, backend: str, device: str, threads: int | None) -> Predictor:
    from blemish.inference import load

    if backend != "torch":
        folder = Path(file)
        model: Path | str = folder / "model.onnx" if folder.is_dir() else file
        return load(model, backend=backend, device=device, threads=threads)
    import torch

    from blemish.inference import Predictor
    from blemish.inference.backend import available_cores
    from blemish.models._run_loader import load_run_network
    from blemish.models._torch_backend import TorchBackend

    torch.set_num_threads(threads or available_cores())
    run = Path(file) if Path(file).is_dir() else Path(file).parent
    network, model_file = load_run_network(run)
    there = "cuda" if torch.cuda.is_available() else "cpu"
    return Predictor(TorchBackend(network.to(there if device == "auto" else device)), model_file)


def _cold_start(model: str, backend: str, device: str, threads: int | None, image: Path) -> float:
    """Seconds of a whole process that looks at one image, the median of a few."""
    command = [sys.executable, "-m", "blemish", "predict", str(image), "--model", model]
    command += ["--backend", backend, "--device", device]
    command += [] if threads is None else ["--threads", str(threads)]
    seconds = []
    for _ in range(COLD_STARTS + 1):
        started = time.perf_counter()
        subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def _installed(file: str) -> list[str]:
    """The backends that can run this file here; torch where the run's weights lie beside it."""
    from importlib.util import find_spec

    folder = Path(file) if Path(file).is_dir() else Path(file).parent
    names = ["onnxruntime"]
    if find_spec("openvino") is not None:
        names.append("openvino")
    if find_spec("torch") is not None and all(
        (folder / name).is_file() for name in ("weights.safetensors", "recipe.yaml", "model.onnx")
    ):
        names.append("torch")
    return names


@contextmanager
def _images(sources: list[str] | None, count: int) -> Iterator[tuple[list[Path], list[str]]]:
    """`count` images, given or drawn, some of them twice, and where another process finds them."""
    if sources:
        from blemish.inference.sources import find_sources

        found = list(islice(find_sources(sources), count))
        yield [found[i % len(found)] for i in range(count)], sources
        return
    from blemish.data.synthetic import panels, save_image

    with tempfile.TemporaryDirectory(prefix="blemish-benchmark-") as folder:
        drawn = []
        for specimen in panels(min(DRAWN, count), size_hw=DRAWN_HW):
            drawn.append(Path(folder) / f"{specimen.id}.jpg")
            save_image(specimen.image, drawn[-1])
        yield [drawn[i % len(drawn)] for i in range(count)], [folder]


def _print_table(found: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(caption=f"milliseconds an image, median (95 %), {found[0]['images']} images")
    for heading in ("", *(speed["backend"] for speed in found)):
        table.add_column(heading, justify="left" if not heading else "right")
    words = {
        "read": "read and decode",
        "prepare": "resize and normalise",
        "infer": "network",
        "decode": "decode outputs",
    }
    for stage in found[0]["latency_ms"]:
        cells = [
            f"{speed['latency_ms'][stage]['p50']:.1f} ({speed['latency_ms'][stage]['p95']:.1f})"
            for speed in found
        ]
        table.add_row(words.get(stage, stage), *cells, end_section=stage == "total")
    rows = {
        "images a second, streamed": ("images_per_second", "{:.1f}"),
        "peak memory, MiB": ("peak_memory_mib", "{:.0f}"),
        "load, s": ("load_seconds", "{:.2f}"),
        "cold start of the whole process, s": ("cold_start_seconds", "{:.2f}"),
    }
    for title, (key, form) in rows.items():
        table.add_row(title, *("-" if speed[key] is None else form.format(speed[key]) for speed in found))
    Console().print(table)
