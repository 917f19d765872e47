"""The order of an epoch: a permutation that depends on the seed and the epoch alone."""

import numpy as np
import pytest

from blemish.training.batch_sampler import EpochBatchSampler


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(("count", "size"), [(10, 4), (9, 4), (1, 4), (12, 4)])
def test_epoch_batch_sampler_permutes_each_epoch(count, size, world):
    def epoch(number):
        seen = []
        for rank in range(world):
            batches = EpochBatchSampler(count, size, seed=5, rank=rank, world=world)
            batches.set_epoch(number)
            listed = list(batches)
            assert len(listed) == len(batches)
            assert all(key[0] == number for batch in listed for key in batch)
            seen += [key[1] for batch in listed for key in batch]
        return seen

    first = epoch(0)
    assert first == epoch(0)
    assert len(set(first)) >= min(count, len(first)) - world
    if count > 4:
        assert first != epoch(1)


def test_epoch_batch_sampler_leaves_out_a_last_batch_of_one():
    assert [len(b) for b in EpochBatchSampler(9, 4)] == [4, 4]
    assert [len(b) for b in EpochBatchSampler(1, 4)] == [1]
    assert [len(b) for b in EpochBatchSampler(9, 4, shuffle=False)] == [4, 4, 1]


def test_epoch_batch_sampler_resumes_at_an_epoch():
    whole = EpochBatchSampler(10, 4, seed=1)
    whole.set_epoch(3)
    resumed = EpochBatchSampler(10, 4, seed=1, first_epoch=2)
    resumed.set_epoch(1)
    assert list(whole) == list(resumed)


def test_epoch_batch_sampler_draws_by_weight():
    weights = np.array([1.0] * 2 + [0.1] * 20)
    batches = EpochBatchSampler(22, 4, weights=weights, seed=0)
    drawn = []
    for epoch in range(200):
        batches.set_epoch(epoch)
        drawn += [key[1] for batch in batches for key in batch]
    assert abs(np.mean(np.array(drawn) < 2) - 0.5) < 0.05
