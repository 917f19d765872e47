"""The file `docs/results.json`, which the rows write, and the table that the documentation makes of it."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measure import Spread, choose_peer, compare, megabytes, seconds
from bench.row import ROOT, Contest, Cost, Hotspot, Row

RESULTS = ROOT / "docs" / "results.json"
BEGIN, END = "<!-- python -m bench -->", "<!-- end of python -m bench -->"
FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "asimd", "i8mm")
PACKAGES = (
    "numpy", "pillow", "onnxruntime", "openvino", "torch", "torchvision", "lightning", "timm", "ultralytics",
    "litserve", "hotcoco", "faster-coco-eval", "pycocotools", "nncf", "fastapi", "uvicorn", "simplejpeg",
)  # fmt: skip


def summarize(
    row: Row, contest: Contest, costs: Mapping[str, Sequence[Cost]], command: str
) -> dict[str, Any]:
    """Return the entry of a row: sides, ratio, whether the goal is met, machine and versions."""
    peer = choose_peer(costs, contest, wall=row.wall)
    ours = costs[contest.ours]
    ratio = compare(ours, costs[peer], row, wall=row.wall)
    other = compare(ours, costs[peer], row, wall=not row.wall)
    cpu = statistics.median(seconds(ours, wall=False))
    return {
        "title": row.title,
        "goal": row.goal_text(),
        "peer": peer,
        "ours": contest.ours,
        "ratio": _spread(ratio),
        "ratio_of": "memory" if row.max_megabytes is not None else "wall" if row.wall else "cpu",
        "other_ratio": _spread(other),
        "met": row.is_met(ratio.median, cpu, megabytes(ours)),
        "sides": {name: _side(values) for name, values in costs.items()},
        "items": contest.items,
        "accuracy": contest.accuracy,
        "skipped": dict(contest.skipped),
        "also": list(contest.also),
        "explanation": row.explanation,
        "threads": row.threads,
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "packages": installed_versions(),
    }


def _spread(ratio: Spread) -> dict[str, float]:
    return {name: round(value, 3) for name, value in vars(ratio).items()}


def _side(costs: Sequence[Cost]) -> dict[str, Any]:
    side: dict[str, Any] = {"rounds": len(costs)}
    for name, wall in (("cpu_ms", False), ("wall_ms", True)):
        values = [1000 * value for value in seconds(costs, wall=wall)]
        side[name] = {"median": _digits(statistics.median(values)), "min": _digits(min(values))}
    if megabytes(costs):
        side["megabytes"] = _digits(megabytes(costs))
    return side


def profile_entry(hotspots: Sequence[Hotspot]) -> list[dict[str, Any]]:
    """Return the lines of a profile as JSON types."""
    return [{"where": h.where, "ms": _digits(h.ms), "share": round(h.share, 3)} for h in hotspots]


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def machine() -> dict[str, Any]:
    """Return the CPU's name, its flags that matter here, the number of cores, and the load."""
    name, flags = platform.processor(), set[str]()
    info = Path("/proc/cpuinfo")
    for line in info.read_text(encoding="utf-8").splitlines() if info.exists() else ():
        key, _, value = line.partition(":")
        name = value.strip() if key.strip() == "model name" else name
        flags |= set(value.split()) if key.strip() in ("flags", "Features") else set()
    return {
        "cpu": name,
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
    }


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that decide a figure, without those that are absent."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write(entries: Mapping[str, Any], path: Path = RESULTS) -> None:
    """Add or replace entries of rows in the file."""
    rows = read(path) | dict(entries)
    path.write_text(
        json.dumps(dict(sorted(rows.items())), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def read(path: Path = RESULTS) -> dict[str, Any]:
    """Return the entries by row, or an empty mapping if nothing was measured yet."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def line(name: str, entry: Mapping[str, Any]) -> list[str]:
    """Return the cells of one row of the table."""
    ratio, sides = entry["ratio"], entry["sides"]

    def cost(side: str) -> str:
        cpu, wall = sides[side]["cpu_ms"], sides[side]["wall_ms"]
        memory = f", {sides[side]['megabytes']:.0f} MB" if "megabytes" in sides[side] else ""
        return f"{_ms(cpu['median'])} / {_ms(cpu['min'])} / {_ms(wall['median'])}{memory}"

    also = [f"{side}: {cost(side)}" for side in entry.get("also", ())]
    return [
        f"`{name}`",
        entry["title"],
        cost(entry["ours"]),
        f"{entry['peer']}: {cost(entry['peer'])}",
        f"**{ratio['median']:.2f}** ({ratio['low']:.2f} to {ratio['high']:.2f})"
        + {"wall": " by the clock", "memory": " of memory"}.get(entry["ratio_of"], "")
        + (f"; {entry['other_ratio']['median']:.2f} by the clock" if _is_service(entry) else ""),
        f"{entry['goal']}: {'yes' if entry['met'] else 'no'}",
        "; ".join(filter(None, [*also, entry["accuracy"], *_skipped(entry)])),
    ]


def _is_service(entry: Mapping[str, Any]) -> bool:
    """Return whether both cores work, so that images per second are what users get."""
    return bool(entry["threads"] > 1 and entry["ratio_of"] == "cpu")


def _skipped(entry: Mapping[str, Any]) -> list[str]:
    return [f"{name} skipped: {why}" for name, why in entry.get("skipped", {}).items()]


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(entries: Mapping[str, Any]) -> str:
    """Return the table as Markdown, the machines, and the explanations of rows that fall short."""
    head = [
        "row", "what", "Blemish: CPU median / minimum / clock median, ms", "the best peer: the same",
        "ratio: median (rounds)", "goal reached", "accuracy and notes",
    ]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line(*item))} |"
        for item in entries.items()
    ]
    seen: dict[str, list[str]] = {}
    for name, entry in entries.items():
        seen.setdefault(_conditions(entry), []).append(f"`{name}`")
    lines += ["", *(f"- {', '.join(names)}: {text}" for text, names in seen.items())]
    short = {name: entry for name, entry in entries.items() if not entry["met"]}
    if short:
        lines += ["", "Rows that do not reach their goal:", ""]
        lines += [f"- `{name}`: {_reasons(entry)}" for name, entry in short.items()]
    return "\n".join(lines)


def _reasons(entry: Mapping[str, Any]) -> str:
    """Return the explanation of a row that falls short, and the profile of our side."""
    spots = (f"`{h['where']}` {_ms(h['ms'])} ms ({h['share']:.0%})" for h in entry.get("profile", ()))
    profile = ", ".join(spots)
    return " ".join(filter(None, [entry["explanation"], f"Profile: {profile}." if profile else ""]))


def _conditions(entry: Mapping[str, Any]) -> str:
    machine, packages = entry["machine"], entry["packages"]
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    return (
        f"{entry['date']}, {machine['cpu']} ({' '.join(machine['flags'])}), {entry['threads']} of "
        f"{machine['cores']} cores, Python {machine['python']}, {versions}"
    )


def filled(page: str, entries: Mapping[str, Any]) -> str:
    """Return the text of a page with the table between its markers replaced."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(entries)}\n{END}{after}"
