"""An attack on a fresh server of this machine, bounded in requests and time; prints a table of its figures.

    python bench/attack.py                       every part
    python bench/attack.py --only health framing
    python bench/attack.py --only links explanations memory     the parts of attack_pictures.py

The server listens on 127.0.0.1, serves a ResNet-18 with random weights, and ends with the script. The clients
run in processes of their own. Two more busy cores than the machine has make every time here longer.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import attack_pictures
from peers.servers import blemish, images, make_model

CLIENTS = Path(__file__).parent / "peers" / "clients.py"
LIVE = "/api/v1/health/live"
HEALTH_TARGET_SECONDS = 0.25


@dataclass
class Figure:
    """One row of the table.

    Attributes:
        attack: what the clients do.
        measured: what was measured, with its unit.
        value: the measurement.
        target: the target; "" for none.
    """

    attack: str
    measured: str
    value: str
    target: str = ""


def start_clients(arguments: dict) -> subprocess.Popen[str]:
    """Start clients in a process of their own."""
    command = [sys.executable, str(CLIENTS), json.dumps(arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result_of(process: subprocess.Popen[str]) -> dict:
    """Wait for clients and return their measurements."""
    output, _ = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"the clients ended with {process.returncode}")
    return json.loads(output)


def health(file: Path, paths: list[str], options: argparse.Namespace) -> list[Figure]:
    """Measure `health/live` without load, under 256 clients, and at 4 times the peak rate."""
    rows = []
    made, port, path = blemish(file, "--threads", "2")
    seconds = options.seconds
    common = {"port": port, "path": path, "images": paths, "warm": 0}
    probe = {"kind": "probe", "port": port, "path": LIVE, "seconds": seconds}

    def measure(attack: str, load: dict | None) -> dict | None:
        clients = None if load is None else start_clients({**common, **load, "seconds": seconds + 2})
        time.sleep(1.5 if load else 0)
        got = result_of(start_clients(probe))
        for name, sent in (("new", "a new connection each"), ("kept", "one connection")):
            timing = got[name]
            bad = {status: n for status, n in timing["statuses"].items() if status != "200"}
            value = "{:.0f} / {:.0f} / {:.0f}".format(*(1000 * timing[k] for k in ("p50", "p99", "max")))
            rows.append(
                Figure(
                    attack,
                    f"health/live, {sent}, p50 / p99 / max, ms ({timing['count']} requests)",
                    value + (f", statuses {bad}" if bad else ""),
                    "p99 of 250" if load else "",
                )
            )
        return None if clients is None else result_of(clients)

    with made:
        result_of(start_clients({**common, "kind": "closed", "clients": 8, "seconds": 2}))
        measure("no other client", None)
        peak = result_of(start_clients({**common, "kind": "closed", "clients": 32, "seconds": seconds}))
        got = measure("256 clients", {"kind": "closed", "clients": 256})
        rows.append(Figure("256 clients", "statuses of their requests", str(got["statuses"])))
        got = measure("4 times the peak rate", {"kind": "open", "rate": 4 * peak["rate"]})
        text = f"peak {peak['rate']:.1f}/s, sent {got['offered']:.1f}/s, accepted {got['rate']:.1f}/s"
        rows.append(Figure("4 times the peak rate", "rates", f"{text}, statuses {got['statuses']}"))
    return rows


def framing(file: Path, paths: list[str], options: argparse.Namespace) -> list[Figure]:
    """Send a request with Content-Length and Transfer-Encoding, and a second one hidden in its body."""
    made, port, _ = blemish(file)
    hidden = f"GET {LIVE} HTTP/1.1\r\nHost: a\r\n\r\n"
    request = (
        f"POST /api/v1/predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(hidden) + 5}\r\n"
        f"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
    )
    with made, socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request.encode())
        answer = b""
        try:
            while data := connection.recv(65536):
                answer += data
            end = "closed"
        except TimeoutError:
            end = "open"
    answers = [line.split()[1].decode() for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    value = f"statuses {', '.join(answers)}; connection {end}"
    return [Figure("Content-Length with Transfer-Encoding", "answers", value, "one answer, closed")]


def images_and_heatmaps(part: str) -> Callable[[Path, list[str], argparse.Namespace], list[Figure]]:
    """Return a part of attack_pictures.py as one of this script."""

    def run(file: Path, paths: list[str], options: argparse.Namespace) -> list[Figure]:
        rows = attack_pictures.PARTS[part](file, attack_pictures.parser().parse_args([]))
        return [Figure(*row) for row in rows]

    return run


PARTS = {
    "health": health,
    "framing": framing,
    **{part: images_and_heatmaps(part) for part in attack_pictures.PARTS},
}


def main() -> None:
    """Run the parts and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--folder", type=Path, help="store the model file there, for the next run")
    parser.add_argument("--seconds", type=float, default=20, help="duration of one measurement, at most 60")
    options = parser.parse_args()
    options.seconds = min(options.seconds, 60.0)
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        file, _ = make_model("resnet18", folder)
        paths = []
        for i, data in enumerate(images()):
            path = Path(name) / f"{i}.jpg"
            path.write_bytes(data)
            paths.append(str(path))
        rows = []
        for part in options.only:
            rows += PARTS[part](file, paths, options)
    print("| attack | measured | result | target |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.attack} | {row.measured} | {row.value} | {row.target} |")


if __name__ == "__main__":
    main()
