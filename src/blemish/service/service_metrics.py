"""What the service counts, as Prometheus reads it."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

_Labels = tuple[tuple[str, str], ...]


class ServiceMetrics:
    """Counters, histograms and gauges, safe to use from any thread.

    Label values come from a closed set (routes, model names, status numbers), so that a client cannot
    make the table grow.

    Example:
        >>> telemetry = ServiceMetrics()
        >>> telemetry.count("cells_total", "Cells seen.", model="car")
        >>> print(telemetry.text())
        # HELP cells_total Cells seen.
        # TYPE cells_total counter
        cells_total{model="car"} 1
        <BLANKLINE>
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._help: dict[str, tuple[str, str]] = {}
        self._counts: dict[str, dict[_Labels, float]] = {}
        self._histograms: dict[str, tuple[tuple[float, ...], dict[_Labels, list[float]]]] = {}
        self._gauges: dict[str, list[tuple[_Labels, Callable[[], float]]]] = {}

    def count(self, name: str, description: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            self._help.setdefault(name, ("counter", description))
            table = self._counts.setdefault(name, {})
            table[key] = table.get(key, 0) + amount

    def observe(
        self, name: str, description: str, value: float, buckets: tuple[float, ...] = SECONDS, **labels: str
    ) -> None:
        """Put a value into a histogram; the last three numbers of a row are beyond, count and sum."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            self._help.setdefault(name, ("histogram", description))
            bounds, table = self._histograms.setdefault(name, (buckets, {}))
            row = table.setdefault(key, [0.0] * (len(bounds) + 3))
            row[bisect_left(bounds, value)] += 1
            row[-2] += 1
            row[-1] += value

    def gauge(self, name: str, description: str, read: Callable[[], float], **labels: str) -> None:
        """Show whatever `read` says when somebody asks."""
        with self._lock:
            self._help.setdefault(name, ("gauge", description))
            self._gauges.setdefault(name, []).append((tuple(sorted(labels.items())), read))

    def text(self) -> str:
        """The whole table in Prometheus' text format."""
        with self._lock:
            lines: list[str] = []
            for name, (kind, description) in self._help.items():
                lines += [f"# HELP {name} {description}", f"# TYPE {name} {kind}"]
                for key, value in self._counts.get(name, {}).items():
                    lines.append(f"{name}{_braces(dict(key))} {value:.12g}")
                for key, read in self._gauges.get(name, []):
                    lines.append(f"{name}{_braces(dict(key))} {read():.12g}")
                if name in self._histograms:
                    lines += self._histogram_lines(name)
        return "\n".join(lines) + "\n"

    def _histogram_lines(self, name: str) -> list[str]:
        bounds, table = self._histograms[name]
        lines = []
        for key, row in table.items():
            below = 0.0
            for bound, amount in zip((*map(str, bounds), "+Inf"), row, strict=False):
                below += amount
                lines.append(f"{name}_bucket{_braces({**dict(key), 'le': bound})} {below:.12g}")
            lines.append(f"{name}_sum{_braces(dict(key))} {row[-1]:.9g}")
            lines.append(f"{name}_count{_braces(dict(key))} {row[-2]:.12g}")
        return lines


def _braces(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    clean = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in clean) + "}"
