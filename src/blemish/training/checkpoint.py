"""Checkpoints that survive a crash: written beside their target, synced, renamed, and verified by a digest.

A file contains one line of text, `blemish-checkpoint 1 SHA256`, and then the output of torch.save.
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

MAX_CHECKPOINTS = 2  # the newest ones are kept
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
        """Return the file of the state after `epoch` completed epochs."""
        return self.folder / f"epoch-{epoch:05d}.ckpt"

    def best_path(self, epoch: int) -> Path:
        """Return the file of the weights of the best epoch, counted from 1."""
        return self.folder / f"best-{epoch:05d}.ckpt"

    def save(self, state: dict[str, Any], best_weights: dict[str, Any] | None) -> None:
        """Write the state after an epoch; if the epoch is the best one, its weights first.

        Args:
            state: contains `epoch`, the number of completed epochs, and `best_epoch`.
            best_weights: the state dict of this epoch if it is the best one, else None.

        Raises:
            TrainingFailed: the disk is full ("training-failed.checkpoint"); earlier checkpoints are intact.
        """
        epoch = int(state["epoch"])
        try:
            if best_weights is not None:
                write_checkpoint(self.best_path(epoch), {"network": best_weights})
            write_checkpoint(self.path(epoch), state)
        except StorageFull as error:
            raise TrainingFailed(
                f"the checkpoint of epoch {epoch} cannot be saved: {error}. The checkpoint before it is "
                "intact: free some space and continue with --resume",
                reason="checkpoint",
            ) from error
        self._delete_old()

    def newest(self) -> dict[str, Any] | None:
        """Return the newest state that is intact and whose best weights are; log a warning for damaged files.

        Returns:
            None if there is no state.

        Raises:
            TrainingFailed: every state is damaged ("training-failed.no-intact-checkpoint").
        """
        damages = []
        for path in sorted(self.folder.glob("epoch-*.ckpt"), reverse=True):
            try:
                state = read_checkpoint(path)
                best = self.best_path(int(state["best_epoch"]))
                if state["best_epoch"]:
                    _read_payload(best)
            except BadWeights as error:
                damages.append(error)
                continue
            for damage in damages:
                _log.warning("%s; the checkpoint before it is used", damage)
            return state
        if damages:
            raise TrainingFailed(
                f"{self.folder}: no checkpoint is intact ({damages[0]}). Restore a file from a backup, or "
                "delete the folder to start again at epoch 1",
                reason="no-intact-checkpoint",
            )
        return None

    def best_weights(self, epoch: int) -> dict[str, Any]:
        """Return the state dict of the best epoch.

        Raises:
            BadWeights: the file is missing or damaged.
        """
        weights: dict[str, Any] = read_checkpoint(self.best_path(epoch))["network"]
        return weights

    def _delete_old(self) -> None:
        """Keep the newest states and the best weights that they refer to."""
        states = sorted(self.folder.glob("epoch-*.ckpt"))
        for path in states[:-MAX_CHECKPOINTS]:
            path.unlink(missing_ok=True)
        # Best weights are written before the state that refers to them, so an older state refers to the
        # newest best weights at or before its epoch.
        oldest = int(states[-MAX_CHECKPOINTS:][0].stem.split("-")[1]) if states else 0
        best_files = sorted(self.folder.glob("best-*.ckpt"))
        for path in [p for p in best_files if int(p.stem.split("-")[1]) <= oldest][:-1]:
            path.unlink(missing_ok=True)


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state completely, or not at all.

    Raises:
        StorageFull: it cannot be written; an earlier file at `path` is intact.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    header = _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n"
    write_atomically(path, header, payload)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a state that `write_checkpoint` wrote.

    Raises:
        BadWeights: the file is missing or damaged ("bad-weights.checkpoint").
    """
    import torch

    payload = _read_payload(path)
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state


def _read_payload(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadWeights(
            f"{path}: the checkpoint cannot be read ({error.strerror})", reason="checkpoint"
        ) from error
    header, _, payload = data.partition(b"\n")
    if not header.startswith(_MAGIC) or hashlib.sha256(payload).hexdigest().encode() != header[len(_MAGIC) :]:
        raise BadWeights(f"{path}: the checkpoint is damaged", reason="checkpoint")
    return payload


def find_leftovers(folder: Path) -> Sequence[Path]:
    """Return the partial files that a killed process left behind."""
    return sorted(folder.glob(".*.tmp"))
