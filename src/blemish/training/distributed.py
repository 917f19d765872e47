"""Which process of several this is, where others start them: torchrun, SLURM, or a person by hand.

All of them learn; the first alone writes. The run's folder and the data lie where every process sees them.
"""

from __future__ import annotations

import os
from pathlib import Path

from blemish.config.training_schema import TrainingConfig
from blemish.errors import BadRecipe


def rank_of(part: TrainingConfig) -> int:
    """This process's number among all that learn together; 0 for one that is alone, or starts the others."""
    if not started_by_others(part):
        return 0
    told = _told(part)
    if told is not None:
        return told
    node, local = (int(os.environ.get(name) or 0) for name in ("NODE_RANK", "LOCAL_RANK"))
    return node * part.devices + local


def started_by_others(part: TrainingConfig) -> bool:
    """Whether every process of the training reads the recipe by itself."""
    return part.nodes > 1 or (part.devices > 1 and _told(part) is not None)


def _told(part: TrainingConfig) -> int | None:
    """The number that torchrun or SLURM gave this process; None where neither started it as one of several.

    SLURM numbers the processes of every job, also those that learn alone or start others themselves.
    """
    if os.environ.get("RANK", "").isdecimal():
        return int(os.environ["RANK"])
    asked_for = os.environ.get("SLURM_NTASKS") == str(part.devices * part.nodes)
    if (part.nodes > 1 or asked_for) and os.environ.get("SLURM_PROCID", "").isdecimal():
        return int(os.environ["SLURM_PROCID"])
    return None


def check_agreement(part: TrainingConfig, folder: Path | str | None) -> None:
    """Refuse what processes that start by themselves would each decide in their own way.

    Args:
        part: of the recipe.
        folder: of the run, as it was given; None where Blemish would choose it.

    Raises:
        BadRecipe: the folder or the batch size is left to chance.
    """
    if not started_by_others(part):
        return
    if folder is None:
        raise BadRecipe(
            "several nodes learn together: give them one folder with --output, where all of them see it"
        )
    if part.batch_size == "auto":
        raise BadRecipe(
            "training.batch_size: auto is found by each process for itself; give several nodes a number"
        )
