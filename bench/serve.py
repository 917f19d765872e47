"""The service beside its peers, on this machine: throughput, a lone client, overload, memory.

    python bench/serve.py                                   everything but LitServe
    python bench/serve.py --litserve PYTHON                 an interpreter that has litserve and onnxruntime
    python bench/serve.py --only throughput --seconds 20

Clients run in a process of their own and send photographs of 200 kB that are ready in memory; the
processor time they take is shown, because on a small machine the servers have to do without it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
CLIENTS = 32
LABELS = ["F_Breakage", "F_Crushed", "F_Normal", "R_Breakage", "R_Crushed", "R_Normal"]


def photographs(count: int = 16, size: tuple[int, int] = (1280, 960), kilobytes: int = 200) -> list[bytes]:
    """JPEGs of about so many kilobytes: smooth noise, as large files of a telephone are."""
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
    """A model file and the state it has in torchvision; random weights cost as much as trained ones."""
    file, state = folder / f"{name}.onnx", folder / f"{name}.pt"
    code = f"""
import torch, torchvision
from blemish.export.onnx import export_module
from blemish.modelfile import *
torch.manual_seed(0)
model = torchvision.models.{name}(num_classes=6).eval()
torch.save(model.state_dict(), {str(state)!r})
class Tuple(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
    def forward(self, image):
        return (self.inner(image),)
inputs = (InputSpec(name="image", size_hw=(224, 224)),)
outputs = (OutputSpec(name="logits", role="scores", activation="logits"),)
graph = export_module(Tuple(model).eval(), (torch.rand(2, 3, 224, 224),), inputs, outputs)
write_model_file({str(file)!r}, graph, Contract(name={name!r}, architecture={name!r}, task="classification",
    labels=tuple(LabelSpec(name=n, title=n) for n in {LABELS!r}), inputs=inputs, outputs=outputs,
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
    """A server process, once it is ready; gone afterwards."""
    began = time.perf_counter()
    # A session of its own: some servers leave workers behind, which have to go with them.
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while time.perf_counter() - began < 90:
            if process.poll() is not None:
                raise RuntimeError(f"it ended with {process.returncode}: {command}")
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
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


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
    command = [sys.executable, str(HERE / "peers" / "damagelens_server.py"), name, str(state), str(port)]
    return server(command, port, "/ready"), port, "/predict"


def litserve(python: str, file: Path):
    port = free_port()
    script = str(HERE / "peers" / "litserve_server.py")
    command = [python, script, str(file), str(port), str(len(os.sched_getaffinity(0)))]
    return server(command, port, "/health"), port, "/predict"


def processor_seconds(root: int) -> float:
    """Processor time that a process and its children have used."""
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


def measured(process: subprocess.Popen[str], arguments: dict) -> dict:
    """A load, and the server's processor time for each answer, which a busy machine changes little."""
    before = processor_seconds(process.pid)
    got = in_own_process({**arguments, "warm": 0})
    spent = processor_seconds(process.pid) - before
    return {**got, "server_cpu": spent / max(got["answered"], 1)}


def in_own_process(arguments: dict) -> dict:
    """Run a load from another process, so that its processor time can be told apart."""
    done = subprocess.run(
        [sys.executable, str(HERE / "peers" / "clients.py"), json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def predict_rate(file: Path, paths: list[str], seconds: float) -> dict:
    """Photographs a second of `blemish predict`'s own stream over files, and the unbatched call's p50."""
    code = f"""
import itertools, json, statistics, time
from pathlib import Path
from blemish.inference import load
predictor = load({str(file)!r})
paths = [Path(p) for p in {paths!r}]
for _ in predictor.predict_many(paths[:8]): pass
began, count, cpu = time.perf_counter(), 0, time.process_time()
for outcome in predictor.predict_many(itertools.cycle(paths)):
    assert outcome.error is None
    count += 1
    if time.perf_counter() - began > {seconds}: break
rate = count / (time.perf_counter() - began)
cpu = (time.process_time() - cpu) / count
data = [p.read_bytes() for p in paths]
alone = []
for i in range(60):
    at = time.perf_counter()
    predictor.predict(data[i % len(data)])
    alone.append(time.perf_counter() - at)
print(json.dumps({{"rate": rate, "server_cpu": cpu, "alone_p50": statistics.median(alone[10:])}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def throughput(folder: Path, paths: list[str], options: argparse.Namespace) -> None:
    size = Path(paths[0]).stat().st_size // 1000
    print(f"\n{CLIENTS} clients, photographs of {size} kB, {options.seconds:g} s each,")
    print(f"best and median of {options.repeats} rounds (the machine may have other work)\n")
    print(
        "| model | server | photographs/s, best | median | p50 ms | p99 ms | clients' CPU | ready after s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in options.models:
        file, state = make_model(name, folder)
        peers = {
            "blemish": partial(blemish, file),
            "FastAPI + eager torch": partial(damagelens, name, state),
        }
        if find_spec("openvino"):
            peers["blemish, OpenVINO"] = partial(blemish, file, "--backend", "openvino")
        if options.litserve:
            peers["LitServe, same file"] = partial(litserve, options.litserve, file)
        rates: dict[str, list[dict]] = {peer: [] for peer in (*peers, "predict")}
        ready: dict[str, float] = {}
        for _ in range(options.repeats):  # in turn, so that a busy minute hits all of them
            for peer, start in peers.items():
                made, port, path = start()
                with made as process:
                    ready[peer] = process.ready_seconds
                    warm = {"kind": "closed", "port": port, "path": path, "photographs": paths, "clients": 8}
                    in_own_process({**warm, "seconds": 2, "warm": 0})
                    rates[peer].append(
                        measured(
                            process,
                            {
                                "kind": "closed",
                                "port": port,
                                "path": path,
                                "photographs": paths,
                                "clients": CLIENTS,
                                "seconds": options.seconds,
                            },
                        )
                    )
                print(f"  {name}, {peer}: {rates[peer][-1]}", file=sys.stderr, flush=True)
            rates["predict"].append(predict_rate(file, paths, options.seconds))
        for peer, rounds in rates.items():
            best = max(rounds, key=lambda r: r["rate"])
            median = statistics.median(r["rate"] for r in rounds)
            least = min(r["server_cpu"] for r in rounds) * 1000
            rest = "| | |"
            if "p50" in best:
                rest = f"{best['p50'] * 1000:.0f} | {best['p99'] * 1000:.0f} | {best['clients_cpu']:.0%}"
                rest += f" | {ready[peer]:.1f}"
            print(f"| {name} | {peer} | {best['rate']:.1f} | {median:.1f} | {least:.1f} | {rest} |")
            bad = {s: n for r in rounds for s, n in r.get("statuses", {}).items() if s != "200"}
            if bad:
                print(f"  statuses beside 200: {bad}")
        best = {peer: max(r["rate"] for r in rounds) for peer, rounds in rates.items()}
        cpu = {peer: min(r["server_cpu"] for r in rounds) for peer, rounds in rates.items()}
        for peer, wanted in (("FastAPI + eager torch", 2.5), ("LitServe, same file", 1.2), ("predict", 0.85)):
            if peer in best:
                print(
                    f"  {name}: {best['blemish'] / best[peer]:.2f} times {peer} (wanted: {wanted}); "
                    f"by processor time {cpu[peer] / cpu['blemish']:.2f} times"
                )


def lone(folder: Path, paths: list[str], options: argparse.Namespace) -> None:
    print("\nA lone client beside the unbatched call, median ms (wanted: at most 1.15 times)\n")
    for name in options.models:
        file, _ = make_model(name, folder)
        pairs = []
        for _ in range(options.repeats):
            made, port, path = blemish(file)
            with made:
                served = in_own_process(
                    {
                        "kind": "closed",
                        "port": port,
                        "path": path,
                        "photographs": paths,
                        "clients": 1,
                        "seconds": options.seconds,
                    }
                )
            pairs.append((served["p50"], predict_rate(file, paths, 1)["alone_p50"]))
        served, alone = min(p[0] for p in pairs), min(p[1] for p in pairs)
        print(f"  {name}: served {served * 1000:.1f}, called {alone * 1000:.1f}: {served / alone:.2f} times")


def overload(folder: Path, paths: list[str], options: argparse.Namespace) -> None:
    file, _ = make_model("resnet18", folder)
    made, port, path = blemish(file)
    with made:
        common = {"port": port, "path": path, "photographs": paths}
        peak = in_own_process({**common, "kind": "closed", "clients": CLIENTS, "seconds": options.seconds})[
            "rate"
        ]
        got = in_own_process(
            {**common, "kind": "open", "rate": 4 * peak, "seconds": options.overload_seconds}
        )
        times, accepted = got["offered"] / peak, got["rate"] / peak
        print(f"\nOverload: {got['offered']:.0f} a second offered, {times:.1f} times the peak of {peak:.1f}")
        print(f"  accepted {got['rate']:.1f}/s = {accepted:.0%} of peak (wanted: 90 %)")
        print(
            "  refused within {refused_p50:.3f} s (p50), {refused_p99:.3f} (p99), {refused_most:.3f} at most "
            "(wanted: 0.1)".format(**got)
        )
        print(f"  statuses {got['statuses']}; clients' CPU {got['clients_cpu']:.0%}")


def memory(folder: Path, paths: list[str], options: argparse.Namespace) -> None:
    file, _ = make_model("resnet18", folder)
    small = folder / "small.jpg"
    small.write_bytes(photographs(1, (320, 240), 10)[0])
    made, port, path = blemish(file)
    print(f"\nMemory over {options.requests} requests of 10 kB, MB resident\n")
    with made as process:
        done = 0
        while done < options.requests:
            got = in_own_process(
                {
                    "kind": "closed",
                    "port": port,
                    "path": path,
                    "photographs": [str(small)],
                    "clients": 16,
                    "seconds": 15,
                    "warm": 0,
                }
            )
            done += sum(got["statuses"].values())
            resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]
            print(f"  {done:6d}  {int(resident) / 1024:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["throughput", "lone", "overload", "memory"], action="append")
    parser.add_argument("--models", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--overload-seconds", type=float, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument(
        "--litserve", metavar="PYTHON", help="an interpreter that has litserve and onnxruntime"
    )
    options = parser.parse_args()
    parts = {"throughput": throughput, "lone": lone, "overload": overload, "memory": memory}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = []
        for i, data in enumerate(photographs()):
            path = folder / f"{i}.jpg"
            path.write_bytes(data)
            paths.append(str(path))
        for part, run in parts.items():
            if not options.only or part in options.only:
                run(folder, paths, options)


if __name__ == "__main__":
    main()
