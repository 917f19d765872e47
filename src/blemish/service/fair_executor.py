"""Threads for slow work beside the predictions: bounded in queue and time, and shared by the clients.

Rendering an image or computing a heatmap takes longer than a prediction. Each kind of such work has an
executor of its own, so that it never takes a place in the queue of a model. Clients take turns: the client
that waited longest since its last turn is next, whatever number of requests another one has sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from blemish.errors import BlemishError
from blemish.service.problem_details import Problem

Result = TypeVar("Result")

_NICENESS = 5  # beside a prediction, a thread of this kind gets a quarter of a core
_MAX_REMEMBERED = 1024  # clients whose last turn is remembered


class WorkStopped(BlemishError):
    """The work was stopped because its client disconnected, its time is over, or the server ends."""

    class_code = "work-stopped"


class StopSignal:
    """A request to a thread to stop; `check` is called between the steps of its work.

    Attributes:
        deadline: end of the time for the work, by `time.monotonic`.
    """

    def __init__(self, seconds: float) -> None:
        """Allow `seconds` from now."""
        self.deadline = time.monotonic() + seconds
        self._event = threading.Event()

    def set(self) -> None:
        """Stop the work at its next step."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether `set` has been called."""
        return self._event.is_set()

    @property
    def remaining_seconds(self) -> float:
        """The time that is left, in seconds; at least 0."""
        return max(self.deadline - time.monotonic(), 0.0)

    def check(self) -> None:
        """Return if the work may continue.

        Raises:
            WorkStopped: `canceled`, or `too-slow` if the time is over.
        """
        if self.is_set:
            raise WorkStopped("the result is no longer needed", reason="canceled")
        if not self.remaining_seconds:
            raise WorkStopped("the time is over", reason="too-slow")


@dataclass(eq=False)
class _Task:
    client: str
    work: Callable[[StopSignal], Any]
    stop: StopSignal
    result: asyncio.Future[Any]


class FairExecutor:
    """Runs functions in threads of low priority; clients take turns.

    Every method is called on the event loop. A client that disconnects or runs out of time gives up its place
    in the queue at once; a thread is free again when its function has returned.

    Attributes:
        threads: number of functions that run at once.
        capacity: maximum number of functions that run or wait.
        max_per_client: the same for one client.
        busy_with: what there is too much of, for the message of a refusal.
        limit_name: the name of the limit `capacity` in a refusal.
    """

    def __init__(
        self,
        name: str,
        *,
        threads: int,
        capacity: int,
        max_per_client: int,
        busy_with: str,
        limit_name: str = "queue_size",
    ) -> None:
        self.threads, self.capacity = threads, capacity
        self.max_per_client = min(max_per_client, capacity)
        self.busy_with, self.limit_name = busy_with, limit_name
        self._pool = ThreadPoolExecutor(threads, name, initializer=lower_priority)
        self._waiting: dict[str, deque[_Task]] = {}
        self._running: dict[_Task, None] = {}
        self._turns: OrderedDict[str, int] = OrderedDict()  # number of the last turn of a client
        self._num_turns = 0
        self._seconds_each = 0.0
        self._closed = False

    @property
    def size(self) -> int:
        """Number of functions that run or wait."""
        return len(self._running) + self.num_waiting

    @property
    def num_waiting(self) -> int:
        """Number of functions that wait for a thread."""
        return sum(map(len, self._waiting.values()))

    async def run(self, client: str, work: Callable[[StopSignal], Result], *, seconds: float) -> Result:
        """Return `work(stop)` from a thread, after the turns of the other clients.

        Args:
            client: the client that asks; see `blemish.service.middleware.get_client`.
            work: function that calls `stop.check()` between its steps.
            seconds: maximum time, with the time in the queue.

        Raises:
            Problem: `queue-full`: there are too many functions of this client or of all clients, or the
                others will take longer than `seconds`; `draining`: the executor has been closed.
            TimeoutError: the time is over.
            Exception: the exception of `work`.
        """
        self._admit(client, seconds)
        loop = asyncio.get_running_loop()
        task = _Task(client, work, StopSignal(seconds), loop.create_future())
        self._waiting.setdefault(client, deque()).append(task)
        try:
            async with asyncio.timeout(seconds):
                self._start_next(loop)
                result: Result = await task.result
                return result
        finally:
            task.stop.set()
            self._remove(task)

    def close(self) -> None:
        """Stop everything at its next step, and accept no more."""
        self._closed = True
        for task in [*self._running, *(task for tasks in self._waiting.values() for task in tasks)]:
            task.stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _admit(self, client: str, seconds: float) -> None:
        """Raise if there is no place for one more function of a client; give it one of another client's."""
        if self._closed:
            raise Problem("draining", "The server is stopping. Try again when it is back.")
        counts = Counter(task.client for task in self._running)
        counts.update({name: len(tasks) for name, tasks in self._waiting.items()})
        own = counts[client]
        if self.max_per_client < self.capacity and own >= self.max_per_client:
            raise self._full_problem("queue_size_per_client", self.max_per_client)
        # Before its turn, every other client has at most one turn more than this one has functions.
        turns = sum(min(number, own + 1) for name, number in counts.items() if name != client) + own
        if self.size >= self.threads and turns * self._seconds_each / self.threads >= seconds:
            raise self._full_problem(self.limit_name, self.capacity)
        if self.size < self.capacity:
            return
        largest = max(self._waiting, key=lambda name: counts[name], default=client)
        if counts[largest] <= own + 1:
            raise self._full_problem(self.limit_name, self.capacity)
        victim = self._waiting[largest][-1]
        self._remove(victim)
        if not victim.result.done():
            victim.result.set_exception(self._full_problem(self.limit_name, self.capacity))

    def _full_problem(self, limit: str, value: int) -> Problem:
        return Problem(
            "queue-full",
            f"The server has too many {self.busy_with}. Try again in a moment.",
            limit=(limit, value),
            retry_after_seconds=self.size * self._seconds_each / self.threads,
        )

    def _remove(self, task: _Task) -> None:
        """Remove a task that waits; do nothing for another one."""
        tasks = self._waiting.get(task.client, deque())
        with contextlib.suppress(ValueError):
            tasks.remove(task)
        if not tasks:
            self._waiting.pop(task.client, None)

    def _start_next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting and len(self._running) < self.threads and not self._closed:
            running = Counter(task.client for task in self._running)
            client = min(self._waiting, key=lambda name: (running[name], self._turns.get(name, 0)))
            task = self._waiting[client][0]
            self._remove(task)
            self._num_turns += 1
            self._turns[client] = self._num_turns
            self._turns.move_to_end(client)
            while len(self._turns) > _MAX_REMEMBERED:
                self._turns.popitem(last=False)
            self._running[task] = None
            began = time.monotonic()
            future = self._pool.submit(task.work, task.stop)
            future.add_done_callback(
                lambda done, task=task, began=began: _call_on(loop, self._finish, task, done, began, loop)  # type: ignore[misc]
            )

    def _finish(self, task: _Task, done: Future[Any], began: float, loop: asyncio.AbstractEventLoop) -> None:
        self._seconds_each += 0.3 * (time.monotonic() - began - self._seconds_each)
        del self._running[task]
        if not task.result.done():
            if done.cancelled():
                task.result.cancel()
            elif (error := done.exception()) is not None:
                task.result.set_exception(error)
            else:
                task.result.set_result(done.result())
        self._start_next(loop)


def lower_priority() -> None:
    """Let the calling thread, and those that it starts, give way to the other threads of the process.

    Only Linux has a priority for each thread; elsewhere nothing happens.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _call_on(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
    """Call a function on the event loop; do nothing if the loop has been closed."""
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise
