"""Images, model files and server processes for bench/serve.py."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
LABELS = ["F_Breakage", "F_Crushed", "F_Normal", "R_Breakage", "R_Crushed", "R_Normal"]


def images(count: int = 16, size: tuple[int, int] = (1280, 960), kilobytes: int = 200) -> list[bytes]:
    """Return JPEGs of about `kilobytes` each, of smooth noise, like large files of a phone."""
    generator = np.random.default_rng(7)
    out = []
    for _ in range(count):
        coarse = generator.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        grain = generator.normal(0, 6, (size[1], size[0], 1))
        image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
        low, high, data = 5, 97, b""
        while low <= high:
            quality = (low + high) // 2
            with io.BytesIO() as buffer:
                image.save(buffer, "JPEG", quality=quality)
                data = buffer.getvalue()
            low, high = (quality + 1, high) if len(data) < kilobytes * 1000 else (low, quality - 1)
        out.append(data)
    return out


def make_model(name: str, folder: Path) -> tuple[Path, Path]:
    """Write a model file and its torch state with random weights, and return their paths.

    Args:
        name: a model of torchvision, `fusion`, or `tiny`, whose cost is negligible.
        folder: the output folder; existing files are used.
    """
    file, state = folder / f"{name}.onnx", folder / f"{name}.pt"
    if file.exists():
        return file, state
    code = f"""
import torch, torchvision
from blemish.export.onnx_export import export_module, export_network
from blemish.model_file import *
from blemish.models import create
torch.manual_seed(0)
name, inputs, outputs = {name!r}, None, (OutputSpec(name="logits", role="scores", activation="logits"),)
if name == "fusion":
    model = create(name, task="classification", label_count={len(LABELS)}).eval()
    inputs, outputs, graph = model.inputs, model.outputs, export_network(model)
else:
    if name == "tiny":
        parts = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, {len(LABELS)})
        model, side = torch.nn.Sequential(*parts).eval(), 32
    else:
        model, side = getattr(torchvision.models, name)(num_classes={len(LABELS)}).eval(), 224
    class Tuple(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
        def forward(self, image):
            return (self.inner(image),)
    inputs = (InputSpec(name="image", size_hw=(side, side)),)
    graph = export_module(Tuple(model).eval(), (torch.rand(2, 3, side, side),), inputs, outputs)
torch.save(model.state_dict(), {str(state)!r})
write_model_file({str(file)!r}, graph, Contract(name=name, architecture=name, task="classification",
    labels=tuple(LabelSpec(name=n, display_name=n) for n in {LABELS!r}), inputs=inputs, outputs=outputs,
    decoder=DecoderSpec(name="scores")))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    return file, state


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port: int, path: str) -> tuple[int, str]:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@contextmanager
def server(command: list[str], port: int, ready: str):
    """Start a server process and yield it once it is ready; end it afterwards."""
    began = time.perf_counter()
    # A new session: some servers leave workers behind, which must end too.
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while time.perf_counter() - began < 90:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}: {command}")
            try:
                if get(port, ready)[0] == 200:
                    break
            except OSError:
                pass
            time.sleep(0.02)
        else:
            raise RuntimeError(f"not ready: {command}")
        process.ready_seconds = time.perf_counter() - began
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def pause(process: subprocess.Popen[str]) -> None:
    """Pause a server and its workers until `awake`."""
    os.killpg(process.pid, signal.SIGSTOP)


@contextmanager
def awake(process: subprocess.Popen[str]):
    """Resume a paused server for the duration of a `with` block."""
    os.killpg(process.pid, signal.SIGCONT)
    try:
        yield
    finally:
        pause(process)


def blemish(file: Path, *options: str):
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "blemish",
        "serve",
        "--model",
        f"m={file}",
        "--port",
        str(port),
        *options,
    ]
    return server(command, port, "/api/v1/health/ready"), port, "/api/v1/predict"


def damagelens(name: str, state: Path):
    port = free_port()
    command = [sys.executable, str(HERE / "damagelens_server.py"), name, str(state), str(port)]
    return server(command, port, "/ready"), port, "/predict"


def litserve(python: str, file: Path):
    port = free_port()
    script = str(HERE / "litserve_server.py")
    command = [python, script, str(file), str(port), str(len(os.sched_getaffinity(0)))]
    return server(command, port, "/health"), port, "/predict"


def processor_seconds(root: int) -> float:
    """Return the CPU time of a process and its children in seconds."""
    parents, used = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            used[int(entry.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    total, wave = 0.0, {root}
    while wave:
        total += sum(used.get(pid, 0.0) for pid in wave)
        wave = {pid for pid, parent in parents.items() if parent in wave}
    return total


def busy_seconds() -> float:
    """Return the CPU time of all processes of this machine in seconds."""
    user, nice, system, _, _, interrupt, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + interrupt + soft) / os.sysconf("SC_CLK_TCK")
