"""Requests that arrive together go through the network together, and one that is alone does not wait.

There is no window to wait in: while a batch runs, whatever arrives gathers, and is the next batch. Under
load batches grow by themselves; a lone request finds the network idle and goes at once.
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
Answer = TypeVar("Answer")


class AdmissionQueue:
    """How many images are worked or waited on at once: by a model, or by those who draw pictures.

    Attributes:
        capacity: the most.
        inside: now.
        full: what the server has where no more are let in.
    """

    def __init__(self, capacity: int, full: str = "as much to do as it takes on") -> None:
        self.capacity = capacity
        self.full = full
        self.inside = 0
        self._seconds_each = 0.1

    def check(self, amount: int = 1) -> None:
        """Problem `queue_full` where `amount` more do not fit now; nothing is reserved."""
        # A batch larger than the whole queue is let in when nobody else is there.
        if self.inside and self.inside + amount > self.capacity:
            raise Problem(
                "queue_full",
                f"The server has {self.full}; try again in a moment.",
                limit=("queue_size", self.capacity),
                retry_after_seconds=self.inside * self._seconds_each,
            )

    def enter(self, amount: int = 1) -> None:
        """Reserve room for `amount`, which `leave` gives back; Problem `queue_full` where there is none."""
        self.check(amount)
        self.inside += amount

    def leave(self, amount: int = 1) -> None:
        """Give back what `enter` reserved."""
        self.inside -= amount

    @contextmanager
    def entered(self, amount: int = 1) -> Iterator[None]:
        """`enter` and, whatever happens, `leave`."""
        self.enter(amount)
        try:
            yield
        finally:
            self.leave(amount)

    def learn(self, seconds_each: float) -> None:
        """Take in how long an image took, for Retry-After."""
        self._seconds_each += 0.1 * (seconds_each - self._seconds_each)


@dataclass(eq=False)
class _Job(Generic[Item, Answer]):
    item: Item
    answer: asyncio.Future[Answer]
    on_start: Callable[[int], None]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def tell(self, what: Callable[[], object]) -> None:
        """Have `what` happen on the event loop; a loop that has closed wants to know nothing any more."""
        try:
            self.loop.call_soon_threadsafe(what)
        except RuntimeError:
            if not self.loop.is_closed():
                raise

    def settle(self, answer: Answer | None, error: Exception | None) -> None:
        def on_loop() -> None:
            if self.answer.done():
                return
            if error is not None:
                self.answer.set_exception(error)
            else:
                self.answer.set_result(answer)  # type: ignore[arg-type]

        self.tell(on_loop)


class MicroBatcher(Generic[Item, Answer]):
    """One thread that answers items in batches, in order of arrival.

    Attributes:
        largest: most items in a batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        largest: int,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
        name: str = "batcher",
    ) -> None:
        """Start the thread.

        Args:
            run: one answer an item, in order; called in the thread.
            largest: most items it takes at once.
            on_batch: told the size of each batch and the seconds it took, in the thread.
            name: of the thread.
        """
        self.largest = largest
        self._run, self._on_batch = run, on_batch
        self._waiting: deque[_Job[Item, Answer]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        return len(self._waiting)

    async def ask(self, item: Item, on_start: Callable[[int], None] = lambda size: None) -> Answer:
        """The answer to `item`.

        Args:
            item: whatever `run` takes.
            on_start: told the size of its batch when that begins, on the event loop.

        Raises:
            Exception: whatever `run` raised for this item alone.
        """
        loop = asyncio.get_running_loop()
        job: _Job[Item, Answer] = _Job(item, loop.create_future(), on_start, loop)
        with self._changed:
            if self._closed:
                raise Problem("draining", "The server is stopping; ask again when it is back.")
            self._waiting.append(job)
            self._changed.notify()
        return await job.answer

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Answer what waits, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_seconds)

    def _take(self) -> list[_Job[Item, Answer]] | None:
        """The next batch, without what nobody waits for any more; None at the end."""
        with self._changed:
            while True:
                batch: list[_Job[Item, Answer]] = []
                while self._waiting and len(batch) < self.largest:
                    job = self._waiting.popleft()
                    if not job.answer.done():
                        batch.append(job)
                if batch:
                    return batch
                if self._closed:
                    return None
                self._changed.wait()

    def _work(self) -> None:
        while (batch := self._take()) is not None:
            size = len(batch)
            for job in batch:
                job.tell(lambda job=job, size=size: job.on_start(size))  # type: ignore[misc]
            began = time.perf_counter()
            self._answer(batch)
            self._on_batch(size, time.perf_counter() - began)
            del batch  # its images must not live on while the thread waits

    def _answer(self, batch: Sequence[_Job[Item, Answer]]) -> None:
        try:
            answers = self._run([job.item for job in batch])
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(answers)} answers to {len(batch)} photographs")
        except Exception as error:
            if len(batch) == 1:
                batch[0].settle(None, error)
                return
            # One of them cannot be answered: the others must not pay for it.
            for job in batch:
                self._answer([job])
            return
        for job, answer in zip(batch, answers, strict=True):
            job.settle(answer, None)
