"""The data loaders of a training: batch sizes, worker processes, and the data module that Lightning asks."""

from __future__ import annotations

import os
from typing import Any

import lightning.pytorch as pl
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from blemish.config.training_schema import TrainingConfig
from blemish.training.batch_sampler import EpochBatchSampler, collate

Loader = DataLoader[Any]

MAX_WORKERS_ON_CPU = 4
MAX_WORKERS_ON_GPU = 16


class DataModule(pl.LightningDataModule):  # type: ignore[misc]
    """The data loaders of one training.

    Args:
        train: training items by (epoch, position).
        validation: validation items by (epoch, position), without randomness.
        config: batch sizes and worker processes.
        weights: (n,) how often each training image is drawn; None draws each once.
        first_epoch: the epoch that a resumed training starts with.
        workers: number of worker processes; see `worker_count`.
        pinned: whether batches are in pinned memory, from which copies to a GPU are fastest.
    """

    def __init__(
        self,
        train: Dataset[Any],
        validation: Dataset[Any],
        config: TrainingConfig,
        *,
        weights: NDArray[Any] | None = None,
        first_epoch: int = 0,
        workers: int = 0,
        pinned: bool = False,
    ) -> None:
        super().__init__()
        self.train, self.validation, self.config = train, validation, config
        self.weights, self.first_epoch = weights, first_epoch
        self.workers, self.pinned = workers, pinned

    def train_dataloader(self) -> Loader:
        """Return the loader of training batches, in the order of each epoch."""
        rank, world = self._rank_and_world()
        size = self.config.batch_size
        assert isinstance(size, int)  # noqa: S101  (`auto` was replaced)
        batches = EpochBatchSampler(
            len(self.train),  # type: ignore[arg-type]
            size,
            seed=self.config.seed,
            weights=self.weights,
            first_epoch=self.first_epoch,
            rank=rank,
            world=world,
        )
        return self._loader(self.train, batches)

    def val_dataloader(self) -> Loader:
        """Return the loader of validation batches, always in the same order."""
        rank, world = self._rank_and_world()
        size = self.config.validation_batch_size or self.config.batch_size
        assert isinstance(size, int)  # noqa: S101  (`auto` was replaced)
        count = len(self.validation)  # type: ignore[arg-type]
        # A process without images would never join the exchange of results, and all others would wait for it:
        # it repeats the images of another process, and each prediction counts once.
        world = min(world, count)
        batches = EpochBatchSampler(count, size, shuffle=False, rank=rank % world, world=world)
        return self._loader(self.validation, batches)

    def _rank_and_world(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _loader(self, dataset: Dataset[Any], batches: EpochBatchSampler) -> Loader:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.workers,
            multiprocessing_context=self.config.start_method if self.workers else None,
            persistent_workers=self.workers > 0,
            pin_memory=self.pinned,
        )


def worker_count(config: TrainingConfig, *, on_cpu: bool) -> int:
    """Return the number of processes that load images.

    Args:
        config: its key `workers`; a number is returned as it is.
        on_cpu: whether the network is trained on the same cores.
    """
    if config.workers != "auto":
        return int(config.workers)
    cores = usable_cores()
    if on_cpu:
        return min(cores // 2, MAX_WORKERS_ON_CPU)
    return min(max(cores - 1, 1), MAX_WORKERS_ON_GPU)


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not available on macOS and Windows
        return os.cpu_count() or 1
