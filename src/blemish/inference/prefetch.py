"""Work done in threads a few items ahead of whoever takes the results, in order, in flat memory."""

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
    """`work` of each item, in order; what `work` or `items` raise comes out where it stands.

    Args:
        work: run in threads; may be run for items whose results nobody takes any more.
        items: taken from only as the results are, in the thread that takes them.
        threads: how many.
        ahead: how many items are worked on or waiting while the caller holds a result.

    Example:
        >>> list(prefetched(abs, [-1, 2, -3], threads=2, ahead=2))
        [1, 2, 3]
    """
    waiting = iter(items)
    head = list(itertools.islice(waiting, 2))
    if len(head) < 2:  # a pool of threads costs more than one item gains
        yield from map(work, head)
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads, thread_name_prefix=THREAD_NAME)
    under_way: deque[Future[Result]] = deque()
    waiting = itertools.chain(head, waiting)
    try:
        while True:
            # One more than `ahead`: the one that is handed out next.
            for item in itertools.islice(waiting, ahead + 1 - len(under_way)):
                under_way.append(pool.submit(work, item))
            if not under_way:
                return
            yield under_way.popleft().result()
    finally:
        # A stream left unfinished may be collected in a reader's own thread, which cannot wait for itself.
        inside = threading.current_thread().name.startswith(THREAD_NAME)
        pool.shutdown(wait=not inside, cancel_futures=True)
