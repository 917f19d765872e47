"""How many replicas of the service a load needs: a simulation of its queues from measured service times.

    python bench/scale_out.py                                the tables of docs/deployment.md
    python bench/scale_out.py --measure                      measure a server on this machine, and compare
    python bench/scale_out.py --setup 0.0052 --each 0.0249   with other service times, in seconds

A replica is a queue of at most 64 images and one network, which takes up to 8 of the queued images per
forward pass, as the service does. Images arrive at random times (Poisson), and a load balancer that knows
nothing of the queues gives each to a random replica. A forward pass over b images takes `setup + each * b`
seconds, with a random spread. An image that finds the queue full is refused.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import tempfile
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0


@dataclass(frozen=True)
class Service:
    """The service times of one replica.

    Attributes:
        setup: seconds of a forward pass that do not depend on the number of images.
        each: seconds for each image.
        spread: standard deviation of a forward pass as a share of its time; the times are gamma distributed.
        max_batch: images in one forward pass.
        capacity: images that are computed or queued.
    """

    setup: float
    each: float
    spread: float = 0.2
    max_batch: int = 8
    capacity: int = 64

    @property
    def peak(self) -> float:
        """Images per second of one replica with a full queue."""
        return self.max_batch / (self.setup + self.each * self.max_batch)

    def draw(self, random: np.random.Generator, batch: int) -> float:
        """Return the seconds of one forward pass."""
        mean = self.setup + self.each * batch
        if not self.spread:
            return mean
        shape = 1 / self.spread**2
        return float(random.gamma(shape, mean / shape))


@dataclass
class Replica:
    """The state of one replica in a simulation."""

    waiting: deque[float] = field(default_factory=deque)
    computing: list[float] = field(default_factory=list)
    in_progress: int = 0
    area: float = 0.0  # images in progress, integrated over time
    changed: float = 0.0

    def record(self, now: float, change: int) -> None:
        """Change the number of images in progress."""
        self.area += self.in_progress * (now - self.changed)
        self.in_progress, self.changed = self.in_progress + change, now


@dataclass(frozen=True)
class Outcome:
    """What a simulation or a measurement found.

    Attributes:
        rate: answers per second.
        refused: share of the images that found a full queue.
        p50: median seconds from arrival to answer.
        p99: 99th percentile of them.
        in_progress: images that a replica computes or queues, on average over time.
    """

    rate: float
    refused: float
    p50: float
    p99: float
    in_progress: float


def simulate(
    service: Service, replicas: int, rate: float, seconds: float, *, regular: bool = False, seed: int = SEED
) -> Outcome:
    """Return what happens to images that arrive at a rate; the first tenth of the time is not counted.

    Args:
        service: of every replica.
        replicas: their number.
        rate: images per second, over all replicas.
        seconds: of simulated time.
        regular: whether images arrive at equal distances in time, as those of bench/peers/clients.py.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    pods = [Replica() for _ in range(replicas)]
    events: list[tuple[float, int, int]] = [(0.0, -1, 0)]  # time, replica, number
    latencies: list[float] = []
    arrived = refused = number = 0
    warm = seconds / 10

    def pause() -> float:
        return 1 / rate if regular else float(random.exponential(1 / rate))

    def start(pod: Replica, index: int, now: float) -> None:
        nonlocal number
        size = min(len(pod.waiting), service.max_batch)
        pod.computing = [pod.waiting.popleft() for _ in range(size)]
        number += 1
        heapq.heappush(events, (now + service.draw(random, size), index, number))

    while events:
        now, index, _ = heapq.heappop(events)
        if index < 0:
            if now > seconds:
                break
            heapq.heappush(events, (now + pause(), -1, 0))
            index = int(random.integers(replicas))
            pod = pods[index]
            arrived += now > warm
            if pod.in_progress >= service.capacity:
                refused += now > warm
                continue
            pod.record(now, 1)
            pod.waiting.append(now)
            if not pod.computing:
                start(pod, index, now)
            continue
        pod = pods[index]
        pod.record(now, -len(pod.computing))
        latencies += [now - at for at in pod.computing if at > warm]
        pod.computing = []
        if pod.waiting:
            start(pod, index, now)
    span = seconds - warm
    p50, p99 = np.percentile(latencies, (50, 99)) if latencies else (math.nan, math.nan)
    mean = sum(pod.area for pod in pods) / replicas / seconds
    return Outcome(len(latencies) / span, refused / max(arrived, 1), float(p50), float(p99), mean)


def print_tables(service: Service, seconds: float) -> None:
    print(f"\n{service}")
    print(f"peak of one replica {service.peak:.1f} images/s; {seconds:g} s simulated, seed {SEED}\n")
    print("One replica:\n\n| load, share of the peak | answers/s | refused | p50 ms | p99 ms | in progress |")
    print("|---|---|---|---|---|---|")
    for share in (0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 2.0, 4.0):
        print(f"| {share:.0%} {columns(simulate(service, 1, share * service.peak, seconds))}")
    print("\nReplicas for a load, p99 at most 10 times the time of one image, and none refused:\n")
    print("| load, images/s | replicas | load of each, share of the peak | p50 ms | p99 ms | in progress |")
    print("|---|---|---|---|---|---|")
    goal = 10 * (service.setup + service.each)
    for rate in (10, 25, 50, 100, 200, 400):
        for replicas in range(max(1, math.floor(rate / service.peak)), 1000):
            found = simulate(service, replicas, rate, seconds)
            if found.p99 <= goal and not found.refused:
                break
        load = rate / replicas / service.peak
        print(
            f"| {rate} | {replicas} | {load:.0%} | {1000 * found.p50:.0f} | {1000 * found.p99:.0f} "
            f"| {found.in_progress:.1f} |"
        )


def columns(found: Outcome) -> str:
    return (
        f"| {found.rate:.1f} | {found.refused:.1%} | {1000 * found.p50:.0f} | {1000 * found.p99:.0f} "
        f"| {found.in_progress:.1f} |"
    )


def measure(seconds: float) -> None:
    """Measure a server with ResNet-18 on this machine at several loads, and simulate the same loads."""
    servers: Any = import_module("peers.servers")  # in this folder, as for bench/serve.py
    in_own_process: Any = import_module("serve").in_own_process

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = []
        for i, data in enumerate(servers.images()):
            path = folder / f"{i}.jpg"
            path.write_bytes(data)
            paths.append(str(path))
        file, _ = servers.make_model("resnet18", folder)
        made, port, path = servers.blemish(file)
        common = {"port": port, "path": path, "images": paths}
        times = partial(batch_seconds, partial(servers.get, port, "/metrics"))
        with made:
            in_own_process({**common, "kind": "closed", "clients": 8, "seconds": 3, "warm": 0})
            # One image at a time, then full batches: the two points of the line.
            points = []
            for clients in (1, 32):
                before = times()
                found = in_own_process(
                    {**common, "kind": "closed", "clients": clients, "seconds": seconds, "warm": 0}
                )
                after = times()
                batches, images_done = after[0] - before[0], after[1] - before[1]
                points.append((images_done / batches, clients / found["rate"], found["rate"]))
            peak = points[1][2]
            one = points[0][1]
            service = fit(one, peak)
            print(
                f"closed loop: 1 client {1000 * one:.1f} ms each, 32 clients {peak:.1f}/s in batches of "
                f"{points[1][0]:.1f}"
            )
            print("\n| load, share of the peak | | answers/s | refused | p50 ms |\n|---|---|---|---|---|")
            for share in (0.5, 0.8, 2.0, 4.0):
                rate = share * peak
                got = in_own_process({**common, "kind": "open", "rate": rate, "seconds": seconds})
                statuses = {int(k): v for k, v in got["statuses"].items()}
                refused = (statuses.get(429, 0) + statuses.get(503, 0)) / sum(statuses.values())
                row = f"{got['rate']:.1f} | {refused:.1%} | {1000 * got['p50']:.0f} |"
                print(f"| {share:.0%} | measured | {row}")
                found = simulate(service, 1, rate, 20 * seconds, regular=True)
                row = f"{found.rate:.1f} | {found.refused:.1%} | {1000 * found.p50:.0f} |"
                print(f"| | simulated | {row}", flush=True)
        print(f"\n--setup {service.setup:.4f} --each {service.each:.4f}")
        print(json.dumps(points))


def fit(one: float, peak: float, max_batch: int = 8) -> Service:
    """Return the service times that give the seconds of a single image and the peak with full batches.

    Args:
        one: seconds of one image at a time.
        peak: images per second with full batches.
        max_batch: images in a full batch.
    """
    setup = max((one - 1 / peak) / (1 - 1 / max_batch), 0.0)
    return Service(setup, one - setup if setup else 1 / peak)


def batch_seconds(metrics: partial[tuple[int, str]]) -> tuple[float, float]:
    """Return the number of forward passes and of the images in them, from `/metrics`."""
    lines = dict(line.rsplit(" ", 1) for line in metrics()[1].splitlines() if not line.startswith("#"))
    count = sum(float(v) for k, v in lines.items() if k.startswith("blemish_batch_size_count"))
    return count, sum(float(v) for k, v in lines.items() if k.startswith("blemish_batch_size_sum"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", action="store_true", help="measure a server on this machine")
    parser.add_argument("--setup", type=float, default=0.0, help="seconds of a forward pass without images")
    parser.add_argument("--each", type=float, default=0.0298, help="seconds for each image")
    parser.add_argument("--spread", type=float, default=0.2)
    parser.add_argument("--seconds", type=float, default=2000)
    options = parser.parse_args()
    if options.measure:
        measure(options.seconds)
    else:
        print_tables(Service(options.setup, options.each, options.spread), options.seconds)


if __name__ == "__main__":
    main()
