"""FairExecutor: turns, limits, time and cancellation; every order is fixed by events."""

import asyncio
import threading

import pytest

from blemish.service.fair_executor import FairExecutor, StopSignal, WorkStopped
from blemish.testing import raises

FULL = "queue-full"


@pytest.fixture
def executor():
    made = []

    def make(**options):
        options = {"threads": 1, "capacity": 64, "max_per_client": 64} | options
        made.append(FairExecutor("test", busy_with="functions", **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Held:
    """Functions that write their name and wait until they are released."""

    def __init__(self):
        self.started = []
        self.stops = []
        self._release = threading.Semaphore(0)

    def work(self, name):
        def run(stop):
            self.started.append(name)
            self.stops.append(stop)
            assert self._release.acquire(timeout=120)
            return name

        return run

    def release(self, number=1):
        self._release.release(number)


def test_fair_executor_lets_clients_take_turns(executor, tools):
    one, held = executor(), Held()

    async def main():
        flood = [asyncio.ensure_future(one.run("a", held.work(f"a{i}"), seconds=120)) for i in range(20)]
        await tools.wait_until_async(lambda: held.started)
        others = [asyncio.ensure_future(one.run(c, held.work(c), seconds=120)) for c in ("b", "c")]
        await asyncio.sleep(0)
        assert one.size == 22
        held.release(22)
        assert await asyncio.gather(*flood, *others) == [*(f"a{i}" for i in range(20)), "b", "c"]
        await tools.wait_until_async(lambda: one.size == 0)

    asyncio.run(main())
    assert held.started[:4] == ["a0", "b", "c", "a1"]


def test_fair_executor_gives_the_second_thread_to_another_client(executor, tools):
    one, held = executor(threads=2), Held()

    async def main():
        tasks = [asyncio.ensure_future(one.run("a", held.work("a0"), seconds=120))]
        await tools.wait_until_async(lambda: held.started)
        one.threads = 1  # both of the next wait
        tasks += [asyncio.ensure_future(one.run(c, held.work(c), seconds=120)) for c in ("a", "b")]
        await asyncio.sleep(0)
        one.threads = 2
        one._start_next(asyncio.get_running_loop())
        await tools.wait_until_async(lambda: len(held.started) == 2)
        held.release(3)
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert held.started == ["a0", "b", "a"]


def test_fair_executor_refuses_more_than_its_limits(executor, tools):
    one, held = executor(capacity=4, max_per_client=3), Held()

    async def main():
        tasks = [asyncio.ensure_future(one.run("a", held.work("a"), seconds=120)) for _ in range(3)]
        await tools.wait_until_async(lambda: held.started)
        with raises(FULL) as refused:
            await one.run("a", held.work("a"), seconds=120)
        assert refused.value.limit == ("queue_size_per_client", 3)
        b = asyncio.ensure_future(one.run("b", held.work("b"), seconds=120))
        await asyncio.sleep(0)
        # The queue is full: a client with fewer functions takes the place of the last of the busiest one.
        c = asyncio.ensure_future(one.run("c", held.work("c"), seconds=120))
        with raises(FULL) as displaced:
            await tasks[2]
        assert displaced.value.limit == ("queue_size", 4)
        # Nobody has more than the others: the next one is refused.
        with raises(FULL):
            await asyncio.gather(one.run("b", held.work("b"), seconds=120))
        held.release(4)
        assert await asyncio.gather(*tasks[:2], b, c) == ["a", "a", "b", "c"]

    asyncio.run(main())


def test_fair_executor_stops_the_work_of_a_client_that_left(executor, tools):
    one, held = executor(), Held()

    async def main():
        running, waiting = (
            asyncio.ensure_future(one.run("a", held.work(n), seconds=120)) for n in ("first", "second")
        )
        await tools.wait_until_async(lambda: held.started)
        waiting.cancel()
        running.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        assert one.num_waiting == 0
        assert one.size == 1  # the thread is busy until its function sees the signal
        with raises("work-stopped.canceled"):
            held.stops[0].check()
        held.release()
        await tools.wait_until_async(lambda: one.size == 0)

    asyncio.run(main())
    assert held.started == ["first"]


def test_fair_executor_ends_a_request_after_its_time(executor, tools):
    one, held = executor(), Held()

    async def main():
        with pytest.raises(TimeoutError):
            await one.run("a", held.work("a"), seconds=0.01)
        await tools.wait_until_async(lambda: held.stops)
        with pytest.raises(WorkStopped):
            held.stops[0].check()
        held.release()
        await tools.wait_until_async(lambda: one.size == 0)

    asyncio.run(main())


def test_fair_executor_refuses_what_would_not_be_done_in_time(executor, tools):
    one, held = executor(), Held()

    async def main():
        one._seconds_each = 10.0
        tasks = [asyncio.ensure_future(one.run("a", held.work("a"), seconds=120)) for _ in range(3)]
        await tools.wait_until_async(lambda: held.started)
        with raises(FULL) as refused:  # after three others of the same client
            await one.run("a", held.work("a"), seconds=30)
        assert refused.value.retry_after_seconds >= 10
        # After the one that runs, another client has its turn.
        tasks.append(asyncio.ensure_future(one.run("b", held.work("b"), seconds=30)))
        held.release(4)
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert held.started == ["a", "b", "a", "a"]


def test_fair_executor_raises_the_error_of_the_work(executor):
    def fail(stop):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(executor().run("a", fail, seconds=120))


def test_fair_executor_that_is_closed_accepts_nothing(executor):
    one = executor()
    one.close()
    with raises("draining"):
        asyncio.run(one.run("a", lambda stop: None, seconds=1))


def test_stop_signal_names_the_reason():
    stop = StopSignal(60)
    stop.check()
    assert 0 < stop.remaining_seconds <= 60
    with raises("work-stopped.too-slow"):
        StopSignal(0).check()
    stop.set()
    with pytest.raises(WorkStopped):
        stop.check()
