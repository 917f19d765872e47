"""Where our side of a row spends its time: a row that falls short of its goal prints these lines."""

from __future__ import annotations

import cProfile
import pstats
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.row import Contest, Hotspot

LINES = 6


def of_contest(contest: Contest, lines: int = LINES) -> list[Hotspot]:
    """Profile our side once more, after its rounds.

    Args:
        contest: its sides have been called, so that nothing is measured that happens only once.
        lines: number of functions, the most expensive first.
    """
    if contest.profile is not None:
        return contest.profile()[:lines]
    return of_call(contest.sides[contest.ours], contest.items)[:lines]


def of_call(call: Callable[[], object], items: int) -> list[Hotspot]:
    """Return the functions that a call spends its time in; work on other threads counts as waiting."""
    profile = cProfile.Profile(time.process_time)
    profile.runcall(call)
    return of_stats(pstats.Stats(profile), items)


def of_stats(stats: pstats.Stats, items: int) -> list[Hotspot]:
    """Return the functions of a profile by their own time.

    Args:
        stats: of cProfile.
        items: images, or the like, that were worked on.
    """
    own: dict[str, float] = defaultdict(float)
    for function, values in stats.stats.items():  # type: ignore[attr-defined]
        own[_name(*function)] += values[2]
    return hotspots(own, items)


def of_imports(command: Sequence[str], environment: Mapping[str, str]) -> list[Hotspot]:
    """Return the packages that a Python command imports, by the time of their own modules.

    Args:
        command: what follows the interpreter, such as `["-m", "blemish", "--help"]`.
        environment: of the process.
    """
    line = [sys.executable, "-X", "importtime", *command]
    done = subprocess.run(line, env=dict(environment), capture_output=True, text=True)
    packages: dict[str, float] = defaultdict(float)
    for own, module in re.findall(r"^import time: +(\d+) \| +\d+ \| +(\S+)", done.stderr, re.MULTILINE):
        packages[f"import {'.'.join(module.split('.')[: 1 + module.startswith('torch.')])}"] += int(own) / 1e6
    return hotspots(packages, 1)


def hotspots(seconds: Mapping[str, float], items: int) -> list[Hotspot]:
    """Return the lines of a profile, the most expensive first.

    Args:
        seconds: own time of each place.
        items: images, or the like, that they were spent on.
    """
    whole = sum(seconds.values()) or 1.0
    ordered = sorted(seconds.items(), key=lambda pair: -pair[1])
    return [Hotspot(where, 1000 * spent / items, spent / whole) for where, spent in ordered]


def _name(file: str, line: int, function: str) -> str:
    """Return the place of a function without folders of this machine."""
    if file == "~":
        return function.strip("<>{}").removeprefix("built-in method ").split(" at 0x")[0]
    parts = Path(file).parts
    anchor = max((i for i, part in enumerate(parts) if part in ("site-packages", "src", "bench")), default=-2)
    return f"{'/'.join(parts[anchor + 1 if anchor >= 0 else -1 :])}:{line}({function})"
