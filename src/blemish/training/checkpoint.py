"""Checkpoints that survive anything: written beside, synced, renamed, and proved by a digest when read.

A file holds one line of text, `blemish-checkpoint 1 SHA256`, and then what torch.save writes.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.errors import BadWeights, StorageFull, TrainingFailed
from blemish.model_file import write_atomically

KEPT = 2  # newest checkpoints that stay
_MAGIC = b"blemish-checkpoint 1 "
_log = logging.getLogger("blemish.training")


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one run.

    Attributes:
        folder: `RUN/checkpoints`.
    """

    folder: Path

    def path(self, epoch: int) -> Path:
        """Of the state after `epoch` complete epochs."""
        return self.folder / f"epoch-{epoch:05d}.ckpt"

    def best_path(self, epoch: int) -> Path:
        """Of the weights of the best epoch, counted from 1."""
        return self.folder / f"best-{epoch:05d}.ckpt"

    def save(self, state: dict[str, Any], best_weights: dict[str, Any] | None) -> None:
        """Write the state after an epoch, and the best weights first where this epoch is the best.

        Args:
            state: holds `epoch`, complete epochs, and `best_epoch`.
            best_weights: a state dict, where this epoch is the best one yet.

        Raises:
            TrainingFailed: the disk is full; the checkpoints before this one are intact.
        """
        epoch = int(state["epoch"])
        try:
            if best_weights is not None:
                write_checkpoint(self.best_path(epoch), {"network": best_weights})
            write_checkpoint(self.path(epoch), state)
        except StorageFull as error:
            raise TrainingFailed(
                f"training stopped after epoch {epoch} because it could not be saved: {error}; the "
                "checkpoint before it is intact: make room and go on with --resume"
            ) from error
        self._forget_old()

    def newest(self) -> dict[str, Any] | None:
        """The newest state that is whole and whose best weights are; damaged ones are reported, passed over.

        Returns:
            None where there is no state at all.

        Raises:
            TrainingFailed: there are states, and no training can go on from any of them.
        """
        damages = []
        for path in sorted(self.folder.glob("epoch-*.ckpt"), reverse=True):
            try:
                state = read_checkpoint(path)
                best = self.best_path(int(state["best_epoch"]))
                if state["best_epoch"]:
                    _payload(best)
            except BadWeights as error:
                damages.append(error)
                continue
            for damage in damages:
                _log.warning("%s; the one before it is used", damage)
            return state
        if damages:
            raise TrainingFailed(
                f"{self.folder}: no checkpoint is left to go on from ({damages[0]}); put the file back from "
                "a copy, or remove the folder and begin again at epoch 1"
            )
        return None

    def best_weights(self, epoch: int) -> dict[str, Any]:
        """The state dict of the best epoch.

        Raises:
            BadWeights: missing or damaged.
        """
        weights: dict[str, Any] = read_checkpoint(self.best_path(epoch))["network"]
        return weights

    def _forget_old(self) -> None:
        """Keep the newest states and the best weights that they name."""
        states = sorted(self.folder.glob("epoch-*.ckpt"))
        for path in states[:-KEPT]:
            path.unlink(missing_ok=True)
        # A best file is written before the state that names it, so what an older state may name is the
        # newest best file at or before its epoch.
        oldest = int(states[-KEPT:][0].stem.split("-")[1]) if states else 0
        bests = sorted(self.folder.glob("best-*.ckpt"))
        needless = [p for p in bests if int(p.stem.split("-")[1]) <= oldest][:-1]
        for path in needless:
            path.unlink(missing_ok=True)


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state, complete or not at all.

    Raises:
        StorageFull: it could not be written; what stood at `path` is intact.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    header = _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n"
    write_atomically(path, header, payload)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `write_checkpoint` wrote.

    Raises:
        BadWeights: missing or damaged.
    """
    import torch

    payload = _payload(path)
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state


def _payload(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadWeights(f"{path}: the checkpoint cannot be read ({error.strerror})") from error
    header, _, payload = data.partition(b"\n")
    if not header.startswith(_MAGIC) or hashlib.sha256(payload).hexdigest().encode() != header[len(_MAGIC) :]:
        raise BadWeights(f"{path}: the checkpoint is damaged")
    return payload


def leftovers(folder: Path) -> Sequence[Path]:
    """Half-written files that a killed process left behind."""
    return sorted(folder.glob(".*.tmp"))
