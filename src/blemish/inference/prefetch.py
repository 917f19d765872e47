"""Do work in threads a few items ahead of the consumer, in order and in constant memory."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

THREAD_NAME = "blemish-reader"
Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetched(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int
) -> Generator[Result]:
    """Yield `work` of each item, in order; an exception of `work` or `items` is raised at its position.

    Args:
        work: runs in threads; may also run for items whose results are not consumed.
        items: consumed as the results are, in the consumer's thread.
        threads: number of threads.
        ahead: number of items in progress or waiting while the consumer uses a result.

    Example:
        >>> list(prefetched(abs, [-1, 2, -3], threads=2, ahead=2))
        [1, 2, 3]
    """
    remaining = iter(items)
    head = list(itertools.islice(remaining, 2))
    if len(head) < 2:  # a thread pool costs more than it gains for one item
        yield from map(work, head)
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads, thread_name_prefix=THREAD_NAME)
    pending: deque[Future[Result]] = deque()
    remaining = itertools.chain(head, remaining)
    try:
        while True:
            # One more than `ahead`: the one that is yielded next.
            for item in itertools.islice(remaining, ahead + 1 - len(pending)):
                pending.append(pool.submit(work, item))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        # An unfinished generator may be garbage-collected in a reader thread, which cannot wait for itself.
        is_reader = threading.current_thread().name.startswith(THREAD_NAME)
        pool.shutdown(wait=not is_reader, cancel_futures=True)
