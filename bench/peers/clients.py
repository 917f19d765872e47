"""Clients of a server, in their own process; prints the measurements as JSON.

Argument: JSON with kind (closed, open or probe), port, path, images, seconds, and clients or rate.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys
import time
from pathlib import Path

import numpy as np


def request(path: str, image: bytes) -> bytes:
    head = (
        b'--cut\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n"
    )
    body = head + image + b"\r\n--cut--\r\n"
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=cut\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class Connection:
    """One keep-alive connection that sends prepared bytes and reads only the answer."""

    def __init__(self, port: int) -> None:
        self.port, self.writer = port, None

    async def send(self, data: bytes) -> int:
        """Send a request and return the status of the answer, or 0 if the connection broke."""
        if self.writer is not None and self.reader.at_eof():
            self.close()  # the server closed an idle connection
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            self.writer.write(data)
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await self.reader.readexactly(int(length[1]))
            if b"connection: close" in head.lower():
                self.close()
            return int(head[9:12])
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0

    def close(self) -> None:
        """Close the connection."""
        if self.writer is not None:
            self.writer.close()
        self.writer = None


async def closed_loop(port: int, path: str, data: list[bytes], clients: int, seconds: float, warm: float):
    """Let each client send requests without a pause: return rate, latencies, statuses, number of answers."""
    requests = [request(path, image) for image in data]
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    answered = [0]
    began = time.perf_counter()
    start, end = began + warm, began + warm + seconds

    async def client(number: int) -> None:
        connection = Connection(port)
        turn = number
        while (now := time.perf_counter()) < end:
            status = await connection.send(requests[turn % len(requests)])
            turn += 1
            done = time.perf_counter()
            answered[0] += 1
            if start <= done < end:
                statuses[status] = statuses.get(status, 0) + 1
                if status == 200:
                    latencies.append(done - now)
        connection.close()

    await asyncio.gather(*(client(i) for i in range(clients)))
    return len(latencies) / seconds, latencies, statuses, answered[0]


async def open_loop(port: int, path: str, data: list[bytes], rate: float, seconds: float):
    """Send requests at a fixed rate: return (second, status, latency) of each."""
    requests = [request(path, image) for image in data]
    idle: list[Connection] = []
    out: list[tuple[float, int, float]] = []
    tasks: set[asyncio.Task[None]] = set()
    began = time.perf_counter()

    async def one(number: int) -> None:
        connection = idle.pop() if idle else Connection(port)
        at = time.perf_counter()
        status = await connection.send(requests[number % len(requests)])
        out.append((at - began, status, time.perf_counter() - at))
        idle.append(connection)

    for number in range(int(rate * seconds)):
        pause = began + number / rate - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        if len(tasks) < 400:  # as many sockets as a client may have
            task = asyncio.create_task(one(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for connection in idle:
        connection.close()
    return out


async def probe(port: int, path: str, seconds: float, pause: float = 0.05) -> dict:
    """Send GET requests one after the other: each on a connection of its own, and all on one connection."""
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n".encode()
    end = time.perf_counter() + seconds

    async def send_until_end(kept: bool) -> tuple[list[float], dict[int, int]]:
        latencies: list[float] = []
        statuses: dict[int, int] = {}
        connection = Connection(port)
        data = head + (b"\r\n" if kept else b"Connection: close\r\n\r\n")
        while (at := time.perf_counter()) < end:
            status = await connection.send(data)
            latencies.append(time.perf_counter() - at)
            statuses[status] = statuses.get(status, 0) + 1
            await asyncio.sleep(pause)
        connection.close()
        return latencies, statuses

    out = {}
    for name, (latencies, statuses) in zip(
        ("new", "kept"), await asyncio.gather(send_until_end(False), send_until_end(True)), strict=True
    ):
        out[name] = {
            "p50": percentile(latencies, 50),
            "p99": percentile(latencies, 99),
            "max": max(latencies),
            "count": len(latencies),
            "statuses": statuses,
        }
    return out


def load(arguments: dict) -> dict:
    if arguments["kind"] == "probe":
        return asyncio.run(probe(arguments["port"], arguments["path"], arguments["seconds"]))
    data = [Path(p).read_bytes() for p in arguments["images"]]
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    if arguments["kind"] == "closed":
        rate, latencies, statuses, answered = asyncio.run(
            closed_loop(
                arguments["port"],
                arguments["path"],
                data,
                arguments["clients"],
                arguments["seconds"],
                arguments.get("warm", 3.0),
            )
        )
        out = {
            "rate": rate,
            "statuses": statuses,
            "answered": answered,
            "p50": percentile(latencies, 50),
            "p99": percentile(latencies, 99),
        }
    else:
        rows = asyncio.run(
            open_loop(arguments["port"], arguments["path"], data, arguments["rate"], arguments["seconds"])
        )
        accepted = [r for r in rows if r[1] == 200]
        refused = [r[2] for r in rows if r[1] in (429, 503)]
        statuses = {status: sum(r[1] == status for r in rows) for status in {r[1] for r in rows}}
        out = {
            "rate": sum(r[0] + r[2] > 3 for r in accepted) / (arguments["seconds"] - 3),
            "offered": len(rows) / arguments["seconds"],
            "statuses": statuses,
            "refused_p50": percentile(refused, 50),
            "refused_p99": percentile(refused, 99),
            "refused_most": max(refused, default=0.0),
            "p50": percentile([r[2] for r in accepted], 50),
        }
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**out, "clients_cpu": used / (time.perf_counter() - began)}


def percentile(values: list[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else 0.0


if __name__ == "__main__":
    print(json.dumps(load(json.loads(sys.argv[1]))))
