"""Batching of concurrent requests without a waiting time.

There is no window to wait in: while one batch runs, new items queue up and form the next batch. Under load
the batches grow by themselves; a single request finds the network idle and starts at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from blemish.service.problem_details import Problem

Item = TypeVar("Item")
Result = TypeVar("Result")


class AdmissionQueue:
    """A limit on the number of images that are processed or queued at once, by one model or by the renderer.

    Attributes:
        capacity: maximum number.
        size: current number.
        busy_with: what the server has too much of, for the message of a refusal.
    """

    def __init__(self, capacity: int, busy_with: str = "images to process") -> None:
        self.capacity = capacity
        self.busy_with = busy_with
        self.size = 0
        self._seconds_each = 0.1

    def check(self, amount: int = 1) -> None:
        """Raise if there is no space for `amount` more; reserve nothing.

        Raises:
            Problem: `queue-full`, with the time after which to try again.
        """
        # A batch larger than the whole queue is admitted when the queue is empty.
        if self.size and self.size + amount > self.capacity:
            raise Problem(
                "queue-full",
                f"The server has too many {self.busy_with}. Try again in a moment.",
                limit=("queue_size", self.capacity),
                retry_after_seconds=self.size * self._seconds_each,
            )

    def enter(self, amount: int = 1) -> None:
        """Reserve space for `amount`, which `leave` releases.

        Raises:
            Problem: `queue-full`.
        """
        self.check(amount)
        self.size += amount

    def leave(self, amount: int = 1) -> None:
        """Release space that `enter` reserved."""
        self.size -= amount

    @contextmanager
    def admitted(self, amount: int = 1) -> Iterator[None]:
        """Reserve space for the duration of a `with` block."""
        self.enter(amount)
        try:
            yield
        finally:
            self.leave(amount)

    def record_seconds(self, seconds_each: float) -> None:
        """Update the moving average of the time for one image, from which `Retry-After` is computed."""
        self._seconds_each += 0.1 * (seconds_each - self._seconds_each)


@dataclass(eq=False)
class _Job(Generic[Item, Result]):
    item: Item
    result: asyncio.Future[Result]
    on_start: Callable[[int], None]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def call_on_loop(self, function: Callable[[], object]) -> None:
        """Call a function on the event loop; do nothing if the loop has been closed."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            if not self.loop.is_closed():
                raise

    def finish(self, result: Result | None, error: Exception | None) -> None:
        def on_loop() -> None:
            if self.result.done():
                return
            if error is not None:
                self.result.set_exception(error)
            else:
                self.result.set_result(result)  # type: ignore[arg-type]

        self.call_on_loop(on_loop)


class MicroBatcher(Generic[Item, Result]):
    """A thread that processes items in batches, in order of arrival.

    Attributes:
        max_batch_size: maximum number of items in a batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        max_batch_size: int,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
        name: str = "batcher",
    ) -> None:
        """Start the thread.

        Args:
            run: function that returns one result for each item, in order; called in the thread.
            max_batch_size: maximum number of items in one call of `run`.
            on_batch: called in the thread with the size of each batch and its duration in seconds.
            name: name of the thread.
        """
        self.max_batch_size = max_batch_size
        self._run, self._on_batch = run, on_batch
        self._queue: deque[_Job[Item, Result]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def num_queued(self) -> int:
        """Number of items that no batch has taken yet."""
        return len(self._queue)

    async def submit(self, item: Item, on_start: Callable[[int], None] = lambda size: None) -> Result:
        """Return the result for `item` once its batch has run.

        Args:
            item: an item that `run` accepts.
            on_start: called on the event loop with the size of the item's batch when that starts.

        Raises:
            Problem: `draining`, the batcher has been closed.
            Exception: the exception that `run` raised for this item alone.
        """
        loop = asyncio.get_running_loop()
        job: _Job[Item, Result] = _Job(item, loop.create_future(), on_start, loop)
        with self._changed:
            if self._closed:
                raise Problem("draining", "The server is stopping. Try again when it is back.")
            self._queue.append(job)
            self._changed.notify()
        return await job.result

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Process the queued items, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_seconds)

    def _take_batch(self) -> list[_Job[Item, Result]] | None:
        """Return the next batch without canceled items, or None once the batcher is closed and empty."""
        with self._changed:
            while True:
                batch: list[_Job[Item, Result]] = []
                while self._queue and len(batch) < self.max_batch_size:
                    job = self._queue.popleft()
                    if not job.result.done():
                        batch.append(job)
                if batch:
                    return batch
                if self._closed:
                    return None
                self._changed.wait()

    def _work(self) -> None:
        while (batch := self._take_batch()) is not None:
            size = len(batch)
            for job in batch:
                job.call_on_loop(lambda job=job, size=size: job.on_start(size))  # type: ignore[misc]
            began = time.perf_counter()
            self._run_batch(batch)
            self._on_batch(size, time.perf_counter() - began)
            del batch  # its images must not stay in memory while the thread waits

    def _run_batch(self, batch: Sequence[_Job[Item, Result]]) -> None:
        try:
            results = self._run([job.item for job in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} images")
        except Exception as error:
            if len(batch) == 1:
                batch[0].finish(None, error)
                return
            # One item of the batch fails: run each alone, so that the others get their results. No client
            # waits for those whose deadline passed, as after a network that never ended.
            for job in batch:
                if not job.result.done():
                    self._run_batch([job])
            return
        for job, result in zip(batch, results, strict=True):
            job.finish(result, None)
