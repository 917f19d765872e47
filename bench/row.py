"""What a row of the table of speed declares, and what it is given."""

from __future__ import annotations

import importlib.metadata
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class PeerMissing(Exception):
    """A row cannot run because its peer, or a file it needs, is not at hand; the message names it."""


@dataclass(frozen=True)
class Cost:
    """What one call of a side cost.

    Attributes:
        cpu_seconds: of the process and its children, per item.
        wall_seconds: per item.
        megabytes: peak memory of the whole process, for rows about memory.
    """

    cpu_seconds: float
    wall_seconds: float
    megabytes: float = 0.0


Call = Callable[[], "Cost | None"]


@dataclass(frozen=True)
class Hotspot:
    """One line of a profile.

    Attributes:
        where: a function, or a package that is imported.
        ms: own milliseconds per item.
        share: of the whole call, in [0, 1].
    """

    where: str
    ms: float
    share: float


@dataclass(frozen=True)
class Contest:
    """The sides of a row, ready to be called; the runner interleaves them.

    Attributes:
        ours: the name of the side that the goal is about.
        sides: a function per side that does the whole work once. A function that returns a `Cost` has
            measured itself, such as a server in another process.
        items: how many items, such as images, one call handles; costs are printed per item.
        accuracy: what both sides found, such as equal decisions, in one sentence.
        best_of_peers: whether the peer is the fastest of the other sides, by its median; otherwise it is the
            first of them.
        skipped: why a peer is not among the sides, by its name.
        also: names of sides that are measured and printed, and are neither ours nor a peer.
        profile: profiles our side if it works in other processes; None profiles a call in this one.
    """

    ours: str
    sides: Mapping[str, Call]
    items: int = 1
    accuracy: str = ""
    best_of_peers: bool = True
    skipped: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    profile: Callable[[], list[Hotspot]] | None = None


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: what users type after `python -m bench`.
        title: what is measured, for the table.
        peer: what it is compared with.
        goal: the wanted ratio. With `lower` false, how many times as cheap as the peer ours must be (peer /
            ours, at least); with `lower`, which share of the peer's cost ours may take (at most).
        measure: prepares the sides. It raises `PeerMissing` if they cannot run.
        needs: distributions the row needs, such as "ultralytics".
        lower: see `goal`.
        wall: whether the ratio is of wall time instead of CPU time.
        max_cpu_seconds: the most that our side may take per item, whatever the peer takes.
        max_megabytes: the most memory that our side may take; the ratio of such a row is of memory.
        threads: of each side; the process is pinned to as many cores.
        explanation: what the profile of a row that falls short means; the profile itself is measured with
            the row and printed beneath the table.
    """

    name: str
    title: str
    peer: str
    goal: float
    measure: Callable[[Setting], Contest]
    needs: tuple[str, ...] = ()
    lower: bool = False
    wall: bool = False
    max_cpu_seconds: float | None = None
    max_megabytes: float | None = None
    threads: int = 1
    explanation: str = ""

    def goal_text(self) -> str:
        """Return the goal as the table prints it."""
        limit = "" if self.max_cpu_seconds is None else f", ≤ {self.max_cpu_seconds:g} s"
        limit += "" if self.max_megabytes is None else f", ≤ {self.max_megabytes:g} MB"
        return f"{'≤' if self.lower else '≥'} {self.goal:g}{limit}"

    def is_met(self, ratio: float, cpu_seconds: float, megabytes: float = 0.0) -> bool:
        """Return whether a ratio, our CPU seconds per item and our memory reach the goal."""
        fits = self.max_cpu_seconds is None or cpu_seconds <= self.max_cpu_seconds
        fits = fits and (self.max_megabytes is None or megabytes <= self.max_megabytes)
        return fits and (ratio <= self.goal if self.lower else ratio >= self.goal)


@dataclass(frozen=True)
class Setting:
    """What a row is given.

    Attributes:
        folder: an empty folder of its own, removed afterwards.
        stack: closes what the row opened, such as servers.
        pythons: interpreters of peers that have an environment of their own, by distribution.
        data: a folder of real data and weights, or None.
        before: the commit that rows about "before" are compared with.
    """

    folder: Path
    stack: ExitStack
    pythons: Mapping[str, str] = field(default_factory=dict)
    data: Path | None = None
    before: str = ""

    def python(self, distribution: str) -> str:
        """Return the interpreter of a peer: its own, or this one if the peer is installed here.

        Raises:
            PeerMissing: it is in neither.
        """
        if distribution in self.pythons:
            return self.pythons[distribution]
        require(distribution, hint=f"or name an interpreter that has it: --python {distribution}=PYTHON")
        return sys.executable

    def data_file(self, name: str) -> Path:
        """Return a file or folder below `data`.

        Raises:
            PeerMissing: there is none.
        """
        if self.data is None or not (self.data / name).exists():
            raise PeerMissing(f"needs {name} in the folder of --data")
        return self.data / name

    def source_before(self) -> Path:
        """Return the `src` folder of the commit `before`, written below `folder`.

        Raises:
            PeerMissing: this is no git checkout, or it does not have the commit.
        """
        target = self.folder / f"source-{self.before}"
        if not target.is_dir():
            done = subprocess.run(
                ["git", "-C", str(ROOT), "archive", self.before, "src", "recipes"], capture_output=True
            )
            if done.returncode:
                raise PeerMissing(f"needs commit {self.before} in the history of this checkout (--before)")
            with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
                archive.extractall(target, filter="data")
        return target / "src"

    def environment(self, source: Path = ROOT / "src", **more: str) -> dict[str, str]:
        """Return the environment of a child process: bytecode is cached, and caches are the row's own."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        return environment | {
            "PYTHONPATH": str(source),
            "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode"),
            "PYTHONWARNINGS": "ignore",
            "BLEMISH_CACHE": str(self.folder / "cache"),
            **more,
        }


def require(*distributions: str, hint: str = "") -> None:
    """Raise `PeerMissing` if a distribution is not installed."""
    for name in distributions:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise PeerMissing(f"needs {name}: pip install {name}{', ' + hint if hint else ''}") from None


def run_quietly(command: list[str], environment: Mapping[str, str], *, expect: int = 0) -> str:
    """Run a command to its end and return its standard output.

    Raises:
        RuntimeError: it ended with another exit code than `expect`.
    """
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True)
    if done.returncode != expect:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
