"""Measure rows of the table of speed, each against its peers, and write `docs/results.json`.

    python -m bench --list
    python -m bench info refusal --repeat 7
    python -m bench --all --python litserve=/envs/litserve/bin/python --data DATA

Each row runs in a process of its own, pinned to as many cores as it has threads; its sides take turns after a
warm-up. A row whose peer is not installed reports it in one line and leaves its last figures alone.
The exit code is 1 if a row that ran misses its goal.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench import measure, profiles, results
from bench.row import PeerMissing, Row, Setting, require
from bench.rows import all_rows

MISSING = 3  # the exit code of the process of one row whose peer is missing


def main() -> int:
    """Run the command line and return its exit code."""
    rows = all_rows()
    options = parser().parse_args()
    if options.list:
        for row in rows.values():
            print(f"{row.name:22} {row.goal_text():8} {row.title}; peer: {row.peer}")
        return 0
    unknown = [name for name in options.rows if name not in rows]
    if unknown or not (options.rows or options.all):
        problem = f"no row is named {', '.join(unknown)}" if unknown else "name rows, or give --all"
        print(f"bench: {problem}. `python -m bench --list` prints the names", file=sys.stderr)
        return 2
    names = list(rows) if options.all else options.rows
    if options.here:
        return run_row(rows[names[0]], options)
    code = 0
    for name in names:
        command = [sys.executable, "-m", "bench", name, "--here", *child_arguments(options)]
        done = subprocess.run(command, cwd=results.ROOT)
        code = max(code, done.returncode if done.returncode != MISSING else 0)
    return code


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="names from --list")
    parser.add_argument("--list", action="store_true", help="print the rows with their goals and peers")
    parser.add_argument("--all", action="store_true", help="run every row")
    parser.add_argument("--repeat", type=int, default=5, help="rounds after the warm-up [default: 5]")
    parser.add_argument("--output", type=Path, default=results.RESULTS, help="[default: docs/results.json]")
    parser.add_argument("--data", type=Path, help="folder of real images and weights that some rows need")
    parser.add_argument("--before", default="a4f6b6b", help="commit of rows about before [default: a4f6b6b]")
    parser.add_argument(
        "--python", action="append", default=[], metavar="NAME=PYTHON",
        help="interpreter with the peer NAME, such as litserve. Repeatable.",
    )  # fmt: skip
    parser.add_argument("--profile", action="store_true", help="profile one call of our side instead")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # the process of one row
    return parser


def child_arguments(options: argparse.Namespace) -> list[str]:
    """Return the arguments that the process of one row gets."""
    arguments = ["--repeat", str(options.repeat), "--output", str(options.output.resolve())]
    arguments += ["--before", options.before, *(["--profile"] if options.profile else [])]
    arguments += ["--data", str(options.data.resolve())] if options.data else []
    return arguments + [word for pair in options.python for word in ("--python", pair)]


def run_row(row: Row, options: argparse.Namespace) -> int:
    """Measure one row in this process, print it and write its entry."""
    measure.pin(row.threads)
    pythons = dict(pair.split("=", 1) for pair in options.python)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        os.environ["BLEMISH_CACHE"] = str(Path(name) / "cache")
        setting = Setting(Path(name), stack, pythons, options.data, options.before)
        try:
            require(*(need for need in row.needs if need not in pythons))
            contest = row.measure(setting)
        except PeerMissing as error:
            print(f"{row.name}: skipped, {error}", flush=True)
            return MISSING
        if options.profile:
            for spot in profiles.of_contest(contest, 25):
                print(f"{spot.ms:10.3f} ms {spot.share:5.0%}  {spot.where}")
            return 0
        costs = measure.measure(contest, options.repeat)
        command = f"python -m bench {row.name} --repeat {options.repeat}"
        entry = results.summarize(row, contest, costs, command)
        if not entry["met"]:
            entry["profile"] = results.profile_entry(profiles.of_contest(contest))
    results.write({row.name: entry}, options.output)
    for name, side in entry["sides"].items():
        print(f"  {name}: CPU {side['cpu_ms']['median']:g} ms, clock {side['wall_ms']['median']:g} ms")
    print(" | ".join(results.line(row.name, entry)), flush=True)
    return 0 if entry["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
