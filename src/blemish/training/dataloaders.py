"""Loaders of a training: how many processes, how many images a step, and Lightning's way to ask."""

from __future__ import annotations

import os
from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader, Dataset

from blemish.config.training_schema import TrainingConfig
from blemish.training.image_dataset import EpochBatchSampler, collate

Loader = DataLoader[Any]


class DataModule(pl.LightningDataModule):  # type: ignore[misc]
    """The loaders of one training.

    Args:
        train: items by (epoch, position).
        validation: likewise, nothing of it random.
        part: batch sizes, workers and how they start.
        weights: how often each training image is drawn; None for once each.
        first_epoch: where a resumed training goes on.
        workers: processes; see `worker_count`.
        pinned: whether batches are put where a GPU copies them from fastest.
    """

    def __init__(
        self,
        train: Dataset[Any],
        validation: Dataset[Any],
        part: TrainingConfig,
        *,
        weights: Any = None,
        first_epoch: int = 0,
        workers: int = 0,
        pinned: bool = False,
    ) -> None:
        super().__init__()
        self.train, self.validation, self.part = train, validation, part
        self.weights, self.first_epoch = weights, first_epoch
        self.workers, self.pinned = workers, pinned

    def train_dataloader(self) -> Loader:
        """Batches of an epoch, in its own order."""
        rank, world = self._place()
        size = self.part.batch_size
        assert isinstance(size, int)  # noqa: S101  (auto was resolved)
        batches = EpochBatchSampler(
            len(self.train),  # type: ignore[arg-type]
            size,
            seed=self.part.seed,
            weights=self.weights,
            first_epoch=self.first_epoch,
            rank=rank,
            world=world,
        )
        return self._loader(self.train, batches)

    def val_dataloader(self) -> Loader:
        """Batches of the validation, always in one order."""
        rank, world = self._place()
        size = self.part.validation_batch_size or self.part.batch_size
        assert isinstance(size, int)  # noqa: S101
        count = len(self.validation)  # type: ignore[arg-type]
        # A process without an image would never come to where all gather what they saw, and all would
        # wait for it: it repeats another's, and each prediction counts once.
        world = min(world, count)
        batches = EpochBatchSampler(count, size, shuffle=False, rank=rank % world, world=world)
        return self._loader(self.validation, batches)

    def _place(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _loader(self, dataset: Dataset[Any], batches: EpochBatchSampler) -> Loader:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.workers,
            multiprocessing_context=self.part.start_method if self.workers else None,
            persistent_workers=self.workers > 0,
            pin_memory=self.pinned,
        )


def worker_count(part: TrainingConfig, *, on_cpu: bool) -> int:
    """Processes that load images.

    Args:
        part: the recipe's wish.
        on_cpu: whether the network learns on the same cores.
    """
    if part.workers != "auto":
        return int(part.workers)
    cores = usable_cores()
    return min(cores // 2, 4) if on_cpu else min(max(cores - 1, 1), 16)


def usable_cores() -> int:
    """Cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
