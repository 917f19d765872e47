"""The service compared with its peers on this machine: throughput, single client, overload, memory, start.

    python bench/serve.py                                   all but LitServe
    python bench/serve.py --litserve PYTHON                 with an interpreter that has litserve
    python bench/serve.py --only throughput --seconds 20

The clients run in their own process and send images of 200 kB from memory. Their CPU time is printed,
because on a small machine it is missing for the servers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from peers.clients import Connection, request
from peers.servers import (
    awake,
    blemish,
    busy_seconds,
    damagelens,
    get,
    images,
    litserve,
    make_model,
    pause,
    processor_seconds,
)

HERE = Path(__file__).parent
CLIENTS = 32


def measured(process: subprocess.Popen[str], arguments: dict) -> dict:
    """Run a load; return its result with the server's CPU time per answer and the CPUs of other programs."""
    before, busy, began = processor_seconds(process.pid), busy_seconds(), time.perf_counter()
    got = in_own_process({**arguments, "warm": 0})
    spent, wall = processor_seconds(process.pid) - before, time.perf_counter() - began
    others = (busy_seconds() - busy - spent) / wall - got["clients_cpu"]
    return {**got, "server_cpu": spent / max(got["answered"], 1), "others": max(others, 0.0)}


def in_own_process(arguments: dict) -> dict:
    """Run a load from another process, so that its CPU time is measured on its own."""
    done = subprocess.run(
        [sys.executable, str(HERE / "peers" / "clients.py"), json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def predict_rate(file: Path, paths: list[str], seconds: float) -> dict:
    """Return the images per second of `Predictor.stream` over files, and the p50 of the unbatched call."""
    code = f"""
import itertools, json, statistics, time
from pathlib import Path
from blemish.inference import load
predictor = load({str(file)!r})
paths = [Path(p) for p in {paths!r}]
for _ in predictor.stream(paths[:8]): pass
began, count, cpu = time.perf_counter(), 0, time.process_time()
for outcome in predictor.stream(itertools.cycle(paths)):
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
    print(f"\n{CLIENTS} clients, images of {size} kB. All servers are measured in turn,")
    print(f"{options.repeats} times {options.seconds:g} s, so that other work affects all of them.\n")
    print(
        "| model | server | images/s, median | best | server's CPU ms per image | p50 ms | p99 ms "
        "| clients' CPU | others' CPU | ready after s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in options.models:
        file, state = make_model(name, folder)
        peers = {
            "blemish": partial(blemish, file),
            "FastAPI + eager torch": partial(damagelens, name, state),
        }
        if options.openvino and find_spec("openvino"):
            peers["blemish, OpenVINO"] = partial(blemish, file, "--backend", "openvino")
        if options.litserve:
            peers["LitServe, same file"] = partial(litserve, options.litserve, file)
        rates: dict[str, list[dict]] = {peer: [] for peer in (*peers, "predict")}
        ready: dict[str, float] = {}
        load = {"kind": "closed", "images": paths, "clients": CLIENTS}
        with contextlib.ExitStack() as stack:
            asked = {}
            for peer, start in peers.items():
                made, port, path = start()
                process = stack.enter_context(made)
                ready[peer] = process.ready_seconds
                asked[peer] = process, {**load, "port": port, "path": path}
                in_own_process({**asked[peer][1], "clients": 8, "seconds": 2, "warm": 0})
                pause(process)  # some servers poll all the time, at the cost of the others
            for _ in range(options.repeats):
                for peer, (process, arguments) in asked.items():
                    with awake(process):
                        rates[peer].append(measured(process, {**arguments, "seconds": options.seconds}))
                    print(f"  {name}, {peer}: {rates[peer][-1]}", file=sys.stderr, flush=True)
                rates["predict"].append(predict_rate(file, paths, options.seconds))
                print(f"  {name}, predict: {rates['predict'][-1]}", file=sys.stderr, flush=True)
        for peer, rounds in rates.items():
            print(f"| {name} | {peer} | {row(rounds)} | {f'{ready[peer]:.1f}' if peer in ready else ''} |")
            bad = {s: n for r in rounds for s, n in r.get("statuses", {}).items() if s != "200"}
            if bad:
                print(f"  statuses beside 200: {bad}")
        print()
        for peer, target in (("FastAPI + eager torch", 2.5), ("LitServe, same file", 1.2), ("predict", 0.85)):
            if peer in rates:
                pairs = list(zip(rates["blemish"], rates[peer], strict=True))
                ratios = sorted(ours["rate"] / theirs["rate"] for ours, theirs in pairs)
                cpu = statistics.median(theirs["server_cpu"] / ours["server_cpu"] for ours, theirs in pairs)
                print(
                    f"{name}: {statistics.median(ratios):.2f} times {peer} ({ratios[0]:.2f} to "
                    f"{ratios[-1]:.2f}; target: {target}); by CPU time {cpu:.2f} times"
                )
        print()


def row(rounds: list[dict]) -> str:
    """Return the columns of one server in the table."""

    def median(key: str, digits: int = 0, factor: float = 1.0) -> str:
        values = [r[key] for r in rounds if key in r]
        return f"{factor * statistics.median(values):.{digits}f}" if values else ""

    best = max(r["rate"] for r in rounds)
    return " | ".join(
        [
            median("rate", 1),
            f"{best:.1f}",
            median("server_cpu", 1, 1000),
            median("p50", 0, 1000),
            median("p99", 0, 1000),
            median("clients_cpu", 2),
            median("others", 2),
        ]
    )


def single_client(folder: Path, paths: list[str], options: argparse.Namespace) -> None:
    print("\nA single client and the unbatched call, p50 in ms, in turn (target: at most 1.15 times)\n")
    for name in options.models:
        file, _ = make_model(name, folder)
        pairs = []
        made, port, path = blemish(file)
        arguments = {"kind": "closed", "port": port, "path": path, "images": paths, "clients": 1}
        with made:
            for _ in range(options.repeats):
                served = in_own_process({**arguments, "seconds": options.seconds, "warm": 1})
                pairs.append((served["p50"], predict_rate(file, paths, 1)["alone_p50"]))
                print(f"  {name}: {pairs[-1]}", file=sys.stderr, flush=True)
        ratio = statistics.median(served / alone for served, alone in pairs)
        served, alone = (1000 * min(column) for column in zip(*pairs, strict=True))
        print(
            f"  {name}: {ratio:.2f} times in the median turn; at best served {served:.1f}, called {alone:.1f}"
        )


def overload(folder: Path, paths: list[str], options: argparse.Namespace) -> None:
    file, _ = make_model("resnet18", folder)
    made, port, path = blemish(file)
    common = {"port": port, "path": path, "images": paths}
    closed = {**common, "kind": "closed", "clients": CLIENTS, "seconds": options.seconds}
    with made:
        # The peak before and after, because the other work of the machine changes from minute to minute.
        peaks = [in_own_process(closed)["rate"]]
        offered = 4 * peaks[0]
        got = in_own_process({**common, "kind": "open", "rate": offered, "seconds": options.overload_seconds})
        peaks.append(in_own_process(closed)["rate"])
        peak = statistics.mean(peaks)
        print(f"\nOverload: {got['offered']:.0f} a second offered")
        print(f"  peak {peaks[0]:.1f} a second before, {peaks[1]:.1f} after")
        print(f"  accepted {got['rate']:.1f}/s = {got['rate'] / peak:.0%} of peak (target: 90 %)")
        print(
            "  refused within {refused_p50:.3f} s (p50), {refused_p99:.3f} (p99), {refused_most:.3f} at most "
            "(target: 0.1)".format(**got)
        )
        print(f"  statuses {got['statuses']}; clients' CPU {got['clients_cpu']:.0%}")


def memory(folder: Path, paths: list[str], options: argparse.Namespace) -> None:
    file, _ = make_model("tiny", folder)
    small = folder / "small.jpg"
    small.write_bytes(images(1, (320, 240), 10)[0])
    made, port, path = blemish(file)
    arguments = {"kind": "closed", "port": port, "path": path, "images": [str(small)], "clients": 16}
    print(f"\nMemory over {options.requests} requests of 10 kB; the memory for links grows up to 128 MB\n")
    print("| requests | resident MB | for links MB |\n|---|---|---|")
    with made as process:
        done = 0
        while done < options.requests:
            got = in_own_process({**arguments, "seconds": options.requests / 2000, "warm": 0})
            done += sum(got["statuses"].values())
            resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]
            links = re.search(r"^blemish_link_bytes (\S+)", get(port, "/metrics")[1], re.MULTILINE)[1]
            print(f"| {done} | {int(resident) / 1024:.0f} | {float(links) / 2**20:.0f} |", flush=True)


def start(folder: Path, paths: list[str], options: argparse.Namespace) -> None:
    print("\nFrom the start of the process to its first answer, s (target: 3, with fusion 6)\n")
    for name in ("resnet18", "fusion"):
        file, _ = make_model(name, folder)
        took = []
        for _ in range(options.repeats):
            began = time.perf_counter()
            made, port, path = blemish(file)
            with made:
                arguments = {"port": port, "path": path, "images": paths[:1]}
                status = ask_once(**arguments)
                assert status == 200, status
                took.append(time.perf_counter() - began)
        print(f"  {name}: {min(took):.2f} at best, {statistics.median(took):.2f} in the median")


def ask_once(port: int, path: str, images: list[str]) -> int:
    """Return the status of one request."""

    async def ask() -> int:
        connection = Connection(port)
        try:
            return await connection.send(request(path, Path(images[0]).read_bytes()))
        finally:
            connection.close()

    return asyncio.run(ask())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = {f.__name__: f for f in (throughput, single_client, overload, memory, start)}
    parser.add_argument("--only", choices=parts, action="append")
    parser.add_argument("--folder", type=Path, help="store the model files there, for the next run")
    parser.add_argument("--models", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--seconds", type=float, default=8, help="duration of one measurement")
    parser.add_argument("--overload-seconds", type=float, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--openvino", action="store_true", help="also with the OpenVINO backend")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument(
        "--litserve", metavar="PYTHON", help="an interpreter that has litserve and onnxruntime"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for i, data in enumerate(images()):
            path = folder / f"{i}.jpg"
            path.write_bytes(data)
            paths.append(str(path))
        for part, run in parts.items():
            if not options.only or part in options.only:
                run(folder, paths, options)


if __name__ == "__main__":
    main()
