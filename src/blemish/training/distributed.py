"""The rank of this process among those that torchrun, SLURM or a user started.

All of them train; the first one alone writes. Every process must see the run's folder and the data.
"""

from __future__ import annotations

import os
from pathlib import Path

from blemish.config.training_schema import TrainingConfig
from blemish.errors import BadRecipe


def rank_of(config: TrainingConfig) -> int:
    """Return the rank of this process among those of the training; 0 if it is alone or starts the others."""
    if not is_started_externally(config):
        return 0
    rank = _launcher_rank(config)
    if rank is not None:
        return rank
    node, local = (int(os.environ.get(name) or 0) for name in ("NODE_RANK", "LOCAL_RANK"))
    return node * config.devices + local


def is_started_externally(config: TrainingConfig) -> bool:
    """Return whether a launcher starts every process of the training, and each reads the recipe itself."""
    return config.nodes > 1 or (config.devices > 1 and _launcher_rank(config) is not None)


def _launcher_rank(config: TrainingConfig) -> int | None:
    """Return the rank that torchrun or SLURM gave this process; None if neither started it as one of several.

    SLURM numbers the processes of every job, also of those that train alone or start others themselves.
    """
    if os.environ.get("RANK", "").isdecimal():
        return int(os.environ["RANK"])
    is_job_of_this_size = os.environ.get("SLURM_NTASKS") == str(config.devices * config.nodes)
    if (config.nodes > 1 or is_job_of_this_size) and os.environ.get("SLURM_PROCID", "").isdecimal():
        return int(os.environ["SLURM_PROCID"])
    return None


def check_agreement(config: TrainingConfig, folder: Path | str | None) -> None:
    """Refuse settings that processes started by a launcher would choose differently.

    Args:
        config: the section `training`.
        folder: of the run, as the user gave it; None if Blemish would choose it.

    Raises:
        BadRecipe: the folder or the batch size is not fixed ("bad-recipe.processes-disagree").
    """
    if not is_started_externally(config):
        return
    if folder is None:
        raise BadRecipe(
            "several processes train together, and each would choose a folder. Give one that all of them see "
            "with --output",
            reason="processes-disagree",
        )
    if config.batch_size == "auto":
        raise BadRecipe(
            "training.batch_size: each process would find its own `auto`. Give a number",
            reason="processes-disagree",
        )
