"""`blemish benchmark`: how fast a model file is on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from blemish.inference import Predictor

FAILED_IN_PART = 1


def benchmark(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The model file.", show_default=False)],
    source: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Photographs to measure with; drawn ones of 1280 x 960 by default."),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="onnxruntime, openvino, torch (a file in its run), with commas; all there are by default."
        ),
    ] = None,
    photographs: Annotated[int, typer.Option(min=1, help="How many are timed.")] = 50,
    batch_size: Annotated[int, typer.Option(min=1, help="Photographs a run of the network.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="For the network; every core where not given.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "cpu",
    cold: Annotated[bool, typer.Option("--cold/--no-cold", help="Measure cold starts too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON a backend.")] = False,
    alone: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Time a model file stage by stage, on each backend, each in a process of its own."""
    from blemish.hub import local_file
    from blemish.inference.benchmarking import cold_start, draw_photographs, measure
    from blemish.inference.sources import find_sources
    from blemish.modelfile import read_model_file

    path = local_file(file)
    read_model_file(path)
    names = backend.split(",") if backend else _there(path)
    with tempfile.TemporaryDirectory(prefix="blemish-") as folder:
        paths = list(find_sources([source])) if source else draw_photographs(Path(folder))
        if alone:
            speed = measure(
                _loader(path, names[0], device, threads), paths, batch_size=batch_size, rounds=photographs
            )
            typer.echo(json.dumps(speed.to_dict()))
            return
        failed = 0
        for name in names:
            row = _in_a_process(path, name, source or folder, photographs, batch_size, device, threads)
            if "error" in row:
                failed += 1
                typer.echo(json.dumps(row) if as_json else f"{name}: {row['error']}")
                continue
            if cold and name != "torch":
                row["cold_start_seconds"] = round(cold_start(path, paths[0], backend=name), 3)
            typer.echo(json.dumps(row) if as_json else "\n".join(_lines(row)))
    if failed:
        raise typer.Exit(FAILED_IN_PART if failed < len(names) else 2)


def _there(path: Path) -> list[str]:
    """The backends that can run this file here."""
    from importlib.util import find_spec

    names = ["onnxruntime"] + (["openvino"] if find_spec("openvino") else [])
    if find_spec("torch") and (path.parent / "weights.safetensors").is_file() and path.name == "model.onnx":
        names.append("torch")
    return names


def _loader(path: Path, backend: str, device: str, threads: int | None) -> Callable[[], Predictor]:
    def load() -> Predictor:
        from blemish import inference

        if backend != "torch":
            return inference.load(path, backend=backend, device=device, threads=threads)
        import torch

        from blemish.export.rebuilding import network_of_run
        from blemish.models.backend import TorchBackend

        if threads:
            torch.set_num_threads(threads)
        network, model_file = network_of_run(path.parent)
        where = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
        return inference.Predictor(TorchBackend(network.to(where)), model_file)

    return load


def _in_a_process(
    path: Path,
    backend: str,
    source: str,
    photographs: int,
    batch_size: int,
    device: str,
    threads: int | None,
) -> dict[str, Any]:
    """Measured alone, so that memory is the backend's own and no library slows another."""
    command = [
        *(sys.executable, "-m", "blemish", "benchmark", str(path), "--alone"),
        *("--backend", backend, "--source", source, "--device", device),
        *("--photographs", str(photographs), "--batch-size", str(batch_size)),
        *(("--threads", str(threads)) if threads else ()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        said: Sequence[str] = done.stderr.strip().splitlines()
        return {"backend": backend, "error": (said[-1] if said else "it ended").removeprefix("blemish: ")}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _lines(row: dict[str, Any]) -> list[str]:
    times = row["milliseconds"]
    how = f"batch {row['batch_size']}, {row['photographs']} photographs"
    speed = f"{row['photographs_per_second']:.1f} photographs a second as a stream ({how})"
    lines = [f"{row['backend']}, {row['precision']}: {speed}"]
    titles = {"read": "read", "prepare": "prepare", "infer": "network", "decode": "outputs", "total": "all"}
    for stage, title in titles.items():
        cells = "  ".join(f"{name} {value:8.2f} ms" for name, value in times[stage].items())
        lines.append(f"  {title:8} {cells}")
    memory = f"{row['peak_megabytes']:.0f} MB" if row["peak_megabytes"] else "unknown"
    start = f", cold start {row['cold_start_seconds']:.2f} s" if row.get("cold_start_seconds") else ""
    lines.append(f"  memory   {memory} at most, loaded in {row['load_seconds']:.2f} s{start}")
    return lines
