"""Measure the sides of a row in turn, so that other work of the machine affects all of them alike."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.row import Contest, Cost, Row


@dataclass(frozen=True)
class Spread:
    """Ratios of several rounds: median, lowest and highest."""

    median: float
    low: float
    high: float


def pin(threads: int) -> None:
    """Pin this process and its children to as many cores as threads, and set the pools of libraries to it."""
    if hasattr(os, "sched_setaffinity"):
        available = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, available[-threads:])
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)


def measure(contest: Contest, repeat: int) -> dict[str, list[Cost]]:
    """Call every side once to warm up, then `repeat` times in turn; return the costs per item by side."""
    costs: dict[str, list[Cost]] = {name: [] for name in contest.sides}
    names = list(contest.sides)
    for turn in range(repeat + 1):
        for name in names if turn % 2 else reversed(names):
            cost = _timed(contest, name)
            if turn:
                costs[name].append(cost)
    return costs


def _timed(contest: Contest, name: str) -> Cost:
    cpu, wall = cpu_seconds(), time.perf_counter()
    own = contest.sides[name]()
    if own is not None:
        return own
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    return Cost(cpu / contest.items, wall / contest.items)


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def choose_peer(costs: Mapping[str, Sequence[Cost]], contest: Contest, *, wall: bool) -> str:
    """Return the name of the peer: the cheapest of the other sides, or the first."""
    others = [name for name in costs if name not in (contest.ours, *contest.also)]
    if not contest.best_of_peers:
        return others[0]
    return min(others, key=lambda name: statistics.median(seconds(costs[name], wall=wall)))


def seconds(costs: Sequence[Cost], *, wall: bool) -> list[float]:
    """Return the CPU seconds, or the wall seconds, of several calls."""
    return [cost.wall_seconds if wall else cost.cpu_seconds for cost in costs]


def megabytes(costs: Sequence[Cost]) -> float:
    """Return the largest peak memory of several calls."""
    return max(cost.megabytes for cost in costs)


def compare(ours: Sequence[Cost], peer: Sequence[Cost], row: Row, *, wall: bool) -> Spread:
    """Return the ratio that the goal of a row is about, of the rounds one by one."""
    pairs = list(zip(seconds(ours, wall=wall), seconds(peer, wall=wall), strict=True))
    if row.max_megabytes is not None:
        pairs = [(a.megabytes, b.megabytes) for a, b in zip(ours, peer, strict=True)]
    ratios = [(a / b if row.lower else b / a) for a, b in pairs]
    return Spread(statistics.median(ratios), min(ratios), max(ratios))
