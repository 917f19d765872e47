"""A time limit for each run of a graph in ONNX Runtime, so that a graph that never ends is an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from blemish.errors import NetworkTooSlow

MAX_RUN_SECONDS = 300.0  # far above the time of any useful forward pass


def run_session(
    session: Any, outputs: Sequence[str] | None, feeds: Mapping[str, Any], *, max_seconds: float, place: str
) -> list[Any]:
    """Return what `session.run` returns, or end it after a time.

    ONNX Runtime ends a run between two nodes, also those of the body of a loop; one node is never
    interrupted.

    Args:
        session: an `onnxruntime.InferenceSession`.
        outputs: names of the outputs; None for all.
        feeds: arrays by input name.
        max_seconds: limit for the run.
        place: the file, for the message.

    Raises:
        NetworkTooSlow: the run took longer.
        Exception: what ONNX Runtime raises.
    """
    import onnxruntime as ort

    options = ort.RunOptions()
    options.log_severity_level = 4  # errors are raised as exceptions
    watcher = _watcher(max_seconds)
    number = watcher.start(options)
    try:
        return list(session.run(outputs, feeds, options))
    except Exception as error:  # its exceptions have no common class
        if not options.terminate:
            raise
        raise NetworkTooSlow(
            f"{place}: one run of the network took longer than {max_seconds:g} seconds and was stopped. "
            "Check that its graph ends, or use smaller batches or a faster device."
        ) from error
    finally:
        watcher.end(number)


class _Watcher:
    """One thread that ends the runs of this process that take too long.

    All runs have the same limit, so the oldest one ends first, and a run that starts while the thread sleeps
    cannot end before it wakes: starting and ending a run cost an entry in a dictionary each. The thread ends
    when it wakes and nothing runs.
    """

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._runs: dict[int, tuple[float, Any]] = {}  # by number: when it must end, its options
        self._next_number = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, options: Any) -> int:
        """Watch a run; return its number for `end`."""
        with self._lock:
            self._next_number += 1
            self._runs[self._next_number] = (time.monotonic() + self._max_seconds, options)
            if self._thread is None or not self._thread.is_alive():  # a forked process has no threads
                self._thread = threading.Thread(target=self._watch, name="blemish-run-limit", daemon=True)
                self._thread.start()
            return self._next_number

    def end(self, number: int) -> None:
        """Stop watching a run."""
        with self._lock:
            self._runs.pop(number)

    def _watch(self) -> None:
        while True:
            with self._lock:
                wait = self._end_late_runs()
                if wait is None:
                    self._thread = None
                    return
            time.sleep(wait)

    def _end_late_runs(self) -> float | None:
        """End the runs that are too late; return the seconds until the next, or None if nothing runs."""
        if not self._runs:
            return None
        now = time.monotonic()
        for must_end, options in self._runs.values():
            if must_end > now:
                return must_end - now
            options.terminate = True
        return self._max_seconds  # until a run that starts now


@cache
def _watcher(max_seconds: float) -> _Watcher:
    return _Watcher(max_seconds)
