"""What the service costs per image with 32 clients that send JPEGs, against LitServe and eager torch.

The ratio is of CPU time, which other programs disturb least; the table prints that by the clock beside it,
which is of images per second.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from bench import profiles
from bench.peers import servers
from bench.row import Call, Contest, Cost, Hotspot, PeerMissing, Row, Setting, require

CLIENTS = 32
SECONDS = 6.0
LOAD = Path(servers.__file__).with_name("clients.py")


def load(arguments: dict[str, Any]) -> dict[str, Any]:
    """Send images from a process of its own and return what it measured."""
    done = subprocess.run(
        [sys.executable, str(LOAD), json.dumps(arguments)], capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def throughput(setting: Setting, *, name: str, peer: str) -> Contest:
    """Return the sides: the service and one peer with the same network, on the same cores in turn."""
    file, state = servers.make_model(name, setting.folder)
    paths = []
    for number, data in enumerate(servers.images()):
        path = setting.folder / f"{number}.jpg"
        path.write_bytes(data)
        paths.append(str(path))
    if peer == "LitServe":
        started = servers.litserve(setting.python("litserve"), file)
    else:
        require("fastapi", "torch")
        started = servers.damagelens(name, state)
    running: dict[str, tuple[Any, dict[str, Any]]] = {}
    for label, (made, port, path) in (("blemish serve", servers.blemish(file)), (peer, started)):
        try:
            process = setting.stack.enter_context(made)
        except RuntimeError as error:
            raise PeerMissing(f"{label} does not start: {error}") from error
        arguments = {"kind": "closed", "port": port, "path": path, "images": paths, "clients": CLIENTS}
        load({**arguments, "clients": 8, "seconds": 2, "warm": 0})
        servers.pause(process)
        running[label] = process, {**arguments, "seconds": SECONDS, "warm": 0}

    def side(label: str) -> Call:
        process, arguments = running[label]

        def call() -> Cost:
            with servers.awake(process):
                before = servers.processor_seconds(process.pid)
                found = load(arguments)
                spent = servers.processor_seconds(process.pid) - before
            assert set(found["statuses"]) == {"200"}, found["statuses"]
            return Cost(spent / found["answered"], 1 / found["rate"])

        return call

    def profile() -> list[Hotspot]:
        process, arguments = running["blemish serve"]
        with servers.awake(process):
            return sampled(setting, process.pid, arguments)

    sides = {label: side(label) for label in running}
    accuracy = "every answer has status 200 on both sides"
    return Contest("blemish serve", sides, accuracy=accuracy, profile=profile)


def sampled(setting: Setting, pid: int, arguments: dict[str, Any]) -> list[Hotspot]:
    """Return where a process spends its time under load, sampled by py-spy.

    Raises:
        PeerMissing: py-spy is not installed.
    """
    program = Path(setting.python("py-spy")).with_name("py-spy")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "raw.txt"
        command = [str(program), "record", "--pid", str(pid), "--format", "raw", "--native"]
        command += ["--duration", str(int(SECONDS) - 1), "--output", str(target)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            load(arguments)
        counts: Counter[str] = Counter()
        for line in target.read_text().splitlines():
            stack, _, number = line.rpartition(" ")
            counts[stack.rpartition(";")[2]] += int(number)
    return profiles.hotspots({name: count / 100 for name, count in counts.items()}, 1)


def row(name: str, peer: str, goal: float) -> Row:
    """Return the row of one network and peer."""
    end = "" if peer == "LitServe" else "-torch"
    title = f"`serve`, {name.replace('resnet', 'ResNet-')} at 224 px, JPEG of 1280 x 960, an image"
    return Row(
        f"serve-{name}{end}", title, peer, goal, functools.partial(throughput, name=name, peer=peer),
        needs=("fastapi", "uvicorn"), threads=2,
    )  # fmt: skip


ROWS = tuple(
    row(name, peer, goal)
    for name in ("resnet18", "resnet50")
    for peer, goal in (("LitServe", 1.2), ("FastAPI with eager torch", 2.5))
)
