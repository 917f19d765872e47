"""The mean loss of an epoch, the moving average of the weights, and what counts as an improvement."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from blemish.config.training_schema import TrainingConfig
from blemish.training import lightning_module
from blemish.training.lightning_module import ImageLightningModule, ema_decay, update_average
from blemish.training.progress import improves


def test_improves_ignores_nan_and_follows_the_direction():
    assert not improves(float("nan"), 0.1, "max")
    assert improves(0.1, float("nan"), "max")
    assert improves(0.1, 0.2, "min")
    assert not improves(0.1, 0.2, "max")
    assert not improves(0.105, 0.1, "max", min_delta=0.01)
    assert not improves(0.095, 0.1, "min", min_delta=0.01)


def test_update_average_moves_weights_and_copies_counters():
    first, second = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    second.weight.data.fill_(3)
    second.num_batches_tracked.fill_(7)
    update_average(first, second, 0.75)
    assert first.weight.tolist() == [1.5, 1.5]
    assert first.num_batches_tracked == 7


def test_update_average_without_counters():
    first, second = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    first.weight.data.zero_()
    second.weight.data.fill_(2)
    update_average(first, second, 0.75)
    assert first.weight.tolist() == [[0.5, 0.5]]


def module_of_epoch(sizes, others=None):
    """Return what `mean_of` reads of a module: images per batch, and the sums of other devices."""
    strategy = SimpleNamespace(reduce=lambda own, reduce_op: own + others)
    trainer = SimpleNamespace(world_size=1 if others is None else 2, strategy=strategy)
    return SimpleNamespace(_batch_sizes=sizes, device="cpu", trainer=trainer)


def test_mean_of_weights_every_image_equally():
    losses = [torch.tensor(1.0), torch.tensor(2.0, dtype=torch.bfloat16), torch.tensor(9.0)]
    assert ImageLightningModule.mean_of(module_of_epoch([4, 4, 1]), losses) == pytest.approx(21 / 9)
    # Another device has 3 images with a loss of 5, which weigh less than the 9 images here.
    assert (
        ImageLightningModule.mean_of(module_of_epoch([4, 4, 1], torch.tensor([15.0, 3.0])), losses) == 36 / 12
    )
    assert np.isnan(ImageLightningModule.mean_of(module_of_epoch([]), []))


def test_ema_decay_is_smaller_in_the_first_steps():
    assert [ema_decay(0.5, step, 2000) for step in (0, 1, 5, 8, 1000)] == [0.1, 2 / 11, 0.4, 0.5, 0.5]
    assert ema_decay(0.999, 0, 2000) == 0.1


@pytest.mark.parametrize(
    ("steps", "decay"), [(150, 1 - 1 / 15), (6300, 1 - 1 / 630), (10**6, 0.9999), (5, 0)]
)
def test_ema_decay_auto_averages_over_a_tenth_of_the_steps(steps, decay):
    assert ema_decay("auto", 10**7, steps) == pytest.approx(decay)


def test_moving_average_is_updated_once_per_optimizer_step(monkeypatch):
    """Five batches, two of them per step: the last step of the epoch has one."""
    updates = []
    monkeypatch.setattr(
        lightning_module, "update_average", lambda averaged, network, decay: updates.append(decay)
    )
    training = TrainingConfig(ema=0.999, accumulate_grad_batches=2, tensorboard=False)
    trainer = SimpleNamespace(is_last_batch=False)
    module: Any = SimpleNamespace(
        recipe=SimpleNamespace(training=training),
        trainer=trainer,
        averaged=object(),
        network=None,
        epoch=2,
        steps_per_epoch=3,
    )
    seen = []
    for batch_idx in range(5):
        trainer.is_last_batch = batch_idx == 4
        ImageLightningModule.on_train_batch_end(module, None, None, batch_idx)
        seen.append(len(updates))
    assert seen == [0, 1, 1, 2, 3]
    assert updates == [ema_decay(0.999, step, 9) for step in (6, 7, 8)]
