"""MicroBatcher and AdmissionQueue on their own."""

import asyncio
import threading

import pytest

from blemish.service.micro_batch import AdmissionQueue, MicroBatcher
from blemish.service.problem_details import Problem
from blemish.testing import raises


@pytest.fixture
def held_batcher(tools):
    """Create a batcher whose function is held, and close it at the end."""
    batchers = []

    def create(run, **options):
        held = tools.held_function(run, held=True)
        batchers.append((MicroBatcher(held, **options), held))
        return batchers[-1]

    yield create
    for batcher, held in batchers:
        held.release()
        batcher.close()


def test_micro_batcher_runs_a_single_item_without_waiting(monkeypatch):
    timeouts, sizes = [], []

    class RecordingCondition(threading.Condition):
        def wait(self, timeout=None):
            timeouts.append(timeout)
            return super().wait(timeout)

    def run(items):
        sizes.append(len(items))
        return list(items)

    async def submit_one_after_another():
        return [await batcher.submit(i) for i in range(50)]

    monkeypatch.setattr("threading.Condition", RecordingCondition)
    batcher = MicroBatcher(run, max_batch_size=8)
    assert asyncio.run(submit_one_after_another()) == list(range(50))
    batcher.close()
    assert sizes == [1] * 50  # each on its own
    assert set(timeouts) <= {None}  # the thread waits for an item, and never for a time


def test_micro_batcher_batches_what_arrives_while_a_batch_runs(held_batcher, tools):
    batcher, held = held_batcher(lambda items: [item * 10 for item in items], max_batch_size=8)

    async def submit_all():
        first = asyncio.create_task(batcher.submit(0))
        await tools.wait_until_async(lambda: held.calls)
        rest = [asyncio.create_task(batcher.submit(i)) for i in range(1, 12)]
        await tools.wait_until_async(lambda: batcher.num_queued == 11)
        held.release()
        return await asyncio.gather(first, *rest)

    assert asyncio.run(submit_all()) == [i * 10 for i in range(12)]
    assert [len(items) for items in held.calls] == [1, 8, 3]


def test_micro_batcher_answers_the_other_items_of_a_failed_batch(held_batcher, tools):
    def run(items):
        if 3 in items:
            raise ValueError("three")
        return list(items)

    batcher, held = held_batcher(run, max_batch_size=8)

    async def submit_all():
        tasks = [asyncio.create_task(batcher.submit(0))]
        await tools.wait_until_async(lambda: held.calls)
        tasks += [asyncio.create_task(batcher.submit(i)) for i in range(1, 6)]
        await tools.wait_until_async(lambda: batcher.num_queued == 5)
        held.release()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(submit_all())
    assert [r for r in results if not isinstance(r, Exception)] == [0, 1, 2, 4, 5]
    assert str(results[3]) == "three"


def test_micro_batcher_does_not_repeat_items_without_a_client(held_batcher, tools):
    canceled = threading.Event()

    def run(items):
        if len(items) > 1:
            assert canceled.wait(tools.timeout_seconds)
            raise ValueError("the network took too long")
        return list(items)

    batcher, held = held_batcher(run, max_batch_size=8)

    async def cancel_during_the_batch():
        first = asyncio.create_task(batcher.submit(0))
        await tools.wait_until_async(lambda: held.calls)
        tasks = [asyncio.create_task(batcher.submit(i)) for i in (1, 2, 3)]
        await tools.wait_until_async(lambda: batcher.num_queued == 3)
        held.release()
        await tools.wait_until_async(lambda: len(held.calls) == 2)
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.gather(tasks[0], tasks[2], return_exceptions=True)
        canceled.set()
        return await asyncio.gather(first, tasks[1])

    assert asyncio.run(cancel_during_the_batch()) == [0, 2]
    assert held.calls == [[0], [1, 2, 3], [2]]


def test_micro_batcher_raises_if_a_result_is_missing():
    batcher: MicroBatcher[int, int] = MicroBatcher(lambda items: [], max_batch_size=4)
    with pytest.raises(RuntimeError, match="0 results for 1"):
        asyncio.run(batcher.submit(1))
    batcher.close()


def test_micro_batcher_skips_a_canceled_item(held_batcher, tools):
    batcher, held = held_batcher(list, max_batch_size=1)

    async def cancel_one():
        first = asyncio.create_task(batcher.submit("first"))
        await tools.wait_until_async(lambda: held.calls)
        canceled = asyncio.create_task(batcher.submit("canceled"))
        stays = asyncio.create_task(batcher.submit("stays"))
        await tools.wait_until_async(lambda: batcher.num_queued == 2)
        canceled.cancel()
        await asyncio.gather(canceled, return_exceptions=True)
        held.release()
        await asyncio.gather(first, stays)

    asyncio.run(cancel_one())
    assert held.calls == [["first"], ["stays"]]


def test_micro_batcher_close_runs_the_queued_items(held_batcher, tools):
    batcher, held = held_batcher(list, max_batch_size=1)

    async def submit_and_close():
        tasks = [asyncio.create_task(batcher.submit(i)) for i in range(5)]
        await tools.wait_until_async(lambda: held.calls and batcher.num_queued == 4)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close, tools.timeout_seconds))
        await tools.wait_until_async(lambda: batcher._closed)
        held.release()
        results = await asyncio.gather(*tasks)
        await closing
        with raises("draining"):
            await batcher.submit(9)
        return results

    assert asyncio.run(submit_and_close()) == list(range(5))


def test_admission_queue_counts_in_and_out():
    queue = AdmissionQueue(3)
    queue.enter(2)
    with raises("queue-full"):
        queue.enter(2)
    assert queue.size == 2
    with queue.admitted():
        assert queue.size == 3
    with pytest.raises(RuntimeError), queue.admitted():
        raise RuntimeError
    assert queue.size == 2
    queue.leave(2)
    queue.enter(5)  # more than the capacity is admitted if the queue is empty
    queue.leave(5)


def test_admission_queue_retry_after_grows_with_the_queue():
    queue = AdmissionQueue(10)
    for _ in range(100):
        queue.record_seconds(2.0)
    queue.enter(10)
    with raises("queue-full") as caught:
        queue.check()
    assert isinstance(caught.value, Problem)
    assert 15 <= int(caught.value.headers["Retry-After"]) <= 20
