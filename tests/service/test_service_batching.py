"""The batcher and the gate by themselves."""

import asyncio
import threading
import time

import pytest

from blemish.service.micro_batch import AdmissionQueue, MicroBatcher
from blemish.service.problem_details import Problem


def test_one_alone_does_not_wait():
    batcher = MicroBatcher(lambda items: list(items), largest=8)

    async def alone():
        times = []
        for i in range(50):
            began = time.perf_counter()
            assert await batcher.ask(i) == i
            times.append(time.perf_counter() - began)
        return sorted(times)

    assert asyncio.run(alone())[25] < 0.005
    batcher.close()


def test_what_arrives_while_a_batch_runs_is_the_next_batch():
    sizes, go = [], threading.Event()

    def run(items):
        sizes.append(len(items))
        go.wait(5)
        return [item * 10 for item in items]

    async def ask_all():
        first = asyncio.create_task(batcher.ask(0))
        while not sizes:  # the first one is in the network
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(batcher.ask(i)) for i in range(1, 12)]
        await asyncio.sleep(0.05)
        go.set()
        return await asyncio.gather(first, *rest)

    batcher = MicroBatcher(run, largest=8)
    assert asyncio.run(ask_all()) == [i * 10 for i in range(12)]
    assert sizes == [1, 8, 3]
    batcher.close()


def test_one_that_cannot_be_answered_does_not_cost_the_others_their_answers():
    go = threading.Event()

    def run(items):
        go.wait(5)
        if 3 in items:
            raise ValueError("three")
        return list(items)

    async def ask_all():
        tasks = [asyncio.create_task(batcher.ask(i)) for i in range(6)]
        await asyncio.sleep(0.02)
        go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    batcher = MicroBatcher(run, largest=8)
    answers = asyncio.run(ask_all())
    assert [a for a in answers if not isinstance(a, Exception)] == [0, 1, 2, 4, 5]
    assert str(answers[3]) == "three"
    batcher.close()


def test_too_few_answers_are_an_error_and_not_a_mix_up():
    batcher = MicroBatcher(lambda items: [], largest=4)
    with pytest.raises(RuntimeError, match="0 answers to 1"):
        asyncio.run(batcher.ask(1))
    batcher.close()


def test_nobody_works_for_one_who_left():
    seen, go = [], threading.Event()

    def run(items):
        seen.extend(items)
        go.wait(5)
        return list(items)

    async def leave():
        first = asyncio.create_task(batcher.ask("first"))
        await asyncio.sleep(0.02)
        left = asyncio.create_task(batcher.ask("left"))
        stays = asyncio.create_task(batcher.ask("stays"))
        await asyncio.sleep(0.02)
        left.cancel()
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, stays)

    batcher = MicroBatcher(run, largest=1)
    asyncio.run(leave())
    assert seen == ["first", "stays"]
    batcher.close()


def test_closing_answers_what_waits():
    batcher = MicroBatcher(lambda items: (time.sleep(0.02), list(items))[1], largest=1)

    async def ask_and_close():
        tasks = [asyncio.create_task(batcher.ask(i)) for i in range(5)]
        await asyncio.sleep(0.01)
        await asyncio.to_thread(batcher.close)
        answers = await asyncio.gather(*tasks)
        with pytest.raises(Problem, match="draining"):
            await batcher.ask(9)
        return answers

    assert asyncio.run(ask_and_close()) == list(range(5))


def test_a_gate_counts_in_and_out():
    gate = AdmissionQueue(3)
    gate.enter(2)
    with pytest.raises(Problem) as caught:
        gate.enter(2)
    assert caught.value.code == "queue_full"
    assert gate.inside == 2
    with gate.entered():
        assert gate.inside == 3
    with pytest.raises(RuntimeError), gate.entered():
        raise RuntimeError
    assert gate.inside == 2
    gate.leave(2)
    gate.enter(5)  # more than the whole queue, and nobody else is there
    gate.leave(5)


def test_retry_after_grows_with_what_is_waiting():
    gate = AdmissionQueue(10)
    for _ in range(100):
        gate.learn(2.0)
    gate.enter(10)
    with pytest.raises(Problem) as caught:
        gate.check()
    assert 15 <= int(caught.value.headers["Retry-After"]) <= 20
