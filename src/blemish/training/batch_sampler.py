"""Batches of an epoch: their order, how processes share them, and their assembly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from blemish.training.rng import RngPurpose, rng_stream
from blemish.training.step_count import count_batches

# What the randomness of one image depends on: (epoch, position), and a third number, how often the image was
# drawn before in this epoch, if it was.
Key = tuple[int, ...]


class EpochBatchSampler(Sampler[list[Key]]):
    """Batches of (epoch, position) in an order that depends on (seed, epoch) alone.

    Lightning calls `set_epoch` with the number of epochs since it started, to which `first_epoch` is added.

    Args:
        count: number of images.
        batch_size: images per batch and device.
        seed: of the recipe.
        shuffle: whether the order is random.
        weights: (count,) how often each image is drawn, on average; None draws each once.
        first_epoch: the epoch that a resumed training starts with.
        rank: of this process among `world`.
        world: number of processes that share the images.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        weights: NDArray[Any] | None = None,
        first_epoch: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.weights = weights
        self.first_epoch = self.epoch = first_epoch
        self.rank, self.world = rank, world

    @property
    def sampler(self) -> EpochBatchSampler:
        """This object: Lightning looks up `set_epoch` at `batch_sampler.sampler`."""
        return self

    def set_epoch(self, epochs_since_start: int) -> None:
        """Choose the order of another epoch."""
        self.epoch = self.first_epoch + epochs_since_start

    def order(self) -> NDArray[np.int64]:
        """Return the positions of the epoch for all processes, (count,)."""
        if not self.shuffle:
            return np.arange(self.count)
        random = rng_stream(self.seed, RngPurpose.ORDER, self.epoch)
        if self.weights is not None:
            share = self.weights / self.weights.sum()
            return random.choice(self.count, self.count, p=share)
        return random.permutation(self.count)

    def __iter__(self) -> Iterator[list[Key]]:
        order, epoch = self.order(), self.epoch
        if self.world > 1 and self.shuffle:  # every process takes the same number of steps
            order = np.resize(order, -(-self.count // self.world) * self.world)
        drawn: Counter[int] = Counter()
        keys: list[Key] = []
        for position in order.tolist():
            repetition = drawn[position]
            keys.append((epoch, position, repetition) if repetition else (epoch, position))
            drawn[position] += 1
        own = keys[self.rank :: self.world]
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield own[start : start + self.batch_size]

    def __len__(self) -> int:
        if not self.shuffle:
            return -(-len(range(self.rank, self.count, self.world)) // self.batch_size)
        return count_batches(self.count, self.batch_size, self.world)


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one batch.

    Args:
        items: from a data set, each with `inputs`, `target`, `position` and `placement`.

    Returns:
        `inputs`, a tuple of (b, C, H, W) float32; `target`, (b, …), or a list of b dictionaries for
        detectors; `position`, (b,) int64; `placement`, (b, 6) float64.
    """
    targets = [i["target"] for i in items]
    return {
        "inputs": tuple(torch.stack(column) for column in zip(*(i["inputs"] for i in items), strict=True)),
        "target": targets if isinstance(targets[0], dict) else torch.stack(targets),
        "position": torch.tensor([i["position"] for i in items]),
        "placement": torch.from_numpy(np.stack([i["placement"] for i in items])),
    }
