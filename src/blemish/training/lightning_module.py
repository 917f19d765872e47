"""The learning itself, as Lightning runs it: one step, one validation, one row of history an epoch."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from blemish.config.recipe import Recipe
from blemish.errors import TrainingFailed
from blemish.model_file import Contract
from blemish.models._network import Network
from blemish.preprocessing import Placement
from blemish.structures import Sample
from blemish.training.losses import ImageLoss
from blemish.training.mixup import mix
from blemish.training.optimizers import build_optimizer, improves, lr_multiplier
from blemish.training.rng import RngPurpose, number
from blemish.training.validation import Outputs, measure


@dataclass
class Progress:
    """Where a training stands; all of it is in the checkpoint.

    Attributes:
        epoch: complete epochs.
        history: one row of figures a complete epoch.
        best_epoch: counted from 1; 0 before there is one.
        best_value: of the monitored metric.
        waiting: epochs since the best one.
    """

    epoch: int
    history: list[dict[str, float]]
    best_epoch: int = 0
    best_value: float | None = None
    waiting: int = 0


class ImageLightningModule(pl.LightningModule):  # type: ignore[misc]
    """A network, its loss, its optimizer and its progress.

    Args:
        network: learns; or its head alone, where the features below it are cached.
        recipe: resolved.
        contract: for the metrics of the validation.
        loss: of a batch.
        steps_per_epoch: steps of the optimizer.
        batches_per_epoch: batches of one device.
        validation_samples: in the order of their positions.
        monitor: the metric that decides on the best epoch.
        still: names of modules that work as in prediction: frozen stages, and batch normalisation that keeps
            its running statistics.
        state: of a checkpoint to go on from, or None.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        contract: Contract,
        loss: ImageLoss,
        *,
        steps_per_epoch: int,
        validation_samples: Sequence[Sample],
        monitor: str,
        still: Sequence[str] = (),
        state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.contract = contract
        self.loss = loss
        self.steps_per_epoch = steps_per_epoch
        self.validation_samples = tuple(validation_samples)
        self.monitor = monitor
        self.still = tuple(still)
        self.progress = Progress(0, [])
        self.averaged: Network | None = None
        if recipe.training.ema is not None:
            self.averaged = copy.deepcopy(network).requires_grad_(False)
        self._state = state
        if state is not None:
            self._restore(state)
        self._seen: list[tuple[Any, ...]] = []
        self._losses: list[Tensor] = []
        self._started = 0.0
        self._sizes: list[int] = []  # images of each batch that `_losses` counts
        self.is_best = False
        self.from_features = False
        self.channels_last = False

    @property
    def epoch(self) -> int:
        """The running epoch, from 0, over all resumptions."""
        return self.progress.epoch

    @property
    def judged(self) -> Network:
        """What is validated and kept: the averaged copy where there is one."""
        return self.network if self.averaged is None else self.averaged

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer, with the moments of the checkpoint."""
        optimizer = build_optimizer(self.network, self.recipe.training.optimizer)
        if self._state is not None:
            optimizer.load_state_dict(self._state["optimizer"])
        return optimizer

    def on_fit_start(self) -> None:
        """Take over what the precision of a resumed training remembers."""
        if self.channels_last:
            self.network.to(memory_format=torch.channels_last)
        if self._state is not None and self._state.get("precision"):
            self.trainer.precision_plugin.load_state_dict(self._state["precision"])
        self._state = None

    def on_train_epoch_start(self) -> None:
        """Begin an epoch."""
        self.network.train()
        for name in self.still:
            self.network.get_submodule(name).eval()
        self._losses, self._sizes, self._started = [], [], time.perf_counter()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rates and the randomness of this step, both functions of where it stands."""
        part = self.recipe.training
        step = self.epoch * self.steps_per_epoch + batch_idx // part.accumulate_grad_batches
        factor = lr_multiplier(
            part.schedule, step, self.steps_per_epoch, part.epochs, self.progress.history, self.monitor
        )
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
        self.rate = part.optimizer.learning_rate * factor
        torch.manual_seed(number(part.seed, RngPurpose.FORWARD, self.epoch, batch_idx, self.global_rank))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """() the loss of a batch."""
        inputs, target = batch["inputs"], batch["target"]
        inputs, target = mix(self.recipe, inputs, target, self.epoch, batch_idx, self.global_rank)
        loss: Tensor = self.loss(self.answers(self.network, inputs)[0], target)
        self._losses.append(loss.detach())
        self._sizes.append(len(target))
        return self.in_step(loss, batch_idx)

    def in_step(self, loss: Tensor, batch_idx: int) -> Tensor:
        """() the loss of a batch, so that an epoch's last step, of fewer batches, is as long as the others.

        Lightning divides each by `accumulate_grad_batches`, however many there are.
        """
        every, batches = self.recipe.training.accumulate_grad_batches, int(self.trainer.num_training_batches)
        of_step = min(every, batches - batch_idx // every * every)
        return loss if of_step == every else loss * (every / of_step)

    def answers(self, network: Network, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What a network says of a batch, or its head of the features that were kept."""
        if self.from_features:
            return (network.get_submodule("head")(inputs[0]),)
        if self.channels_last:
            inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
        said: tuple[Tensor, ...] = network(*inputs)
        return said

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Average the weights after a step of the optimizer."""
        part = self.recipe.training
        stepped = (batch_idx + 1) % part.accumulate_grad_batches == 0 or self.trainer.is_last_batch
        if self.averaged is None or part.ema is None or not stepped:
            return
        step = self.epoch * self.steps_per_epoch + batch_idx // part.accumulate_grad_batches
        average(self.averaged, self.network, min(part.ema, (1 + step) / (10 + step)))

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation; a loss that is no number ends the training before it.

        Raises:
            TrainingFailed: the loss is no number any more.
        """
        self._trained_seconds = time.perf_counter() - self._started
        self._seen = []
        self._loss = self.mean_of(self._losses)
        if not math.isfinite(self._loss):
            raise TrainingFailed(
                f"the loss of epoch {self.epoch + 1} is {self._loss}: take a smaller "
                "training.optimizer.learning_rate, or training.gradient_clip_val=1"
            )

    def mean_of(self, losses: Sequence[Tensor]) -> float:
        """The mean over the epoch's images, on all devices; NaN where there are none.

        Args:
            losses: () of each batch, a mean over its images; the last batch often has fewer.
        """
        sizes = torch.tensor(self._sizes, dtype=torch.float32, device=self.device)
        mine = torch.stack(list(losses)).float() if losses else sizes
        both = torch.stack([(mine * sizes).sum(), sizes.sum()])
        if self.trainer.world_size > 1:
            both = self.trainer.strategy.reduce(both, reduce_op="sum")
        return float(both[0] / both[1])

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Keep the raw outputs of a batch."""
        network = self.judged
        network.eval()
        answers = self.answers(network, batch["inputs"])
        size = len(batch["position"])
        loss = self.loss(answers[0], batch["target"])
        self._seen.append(
            (
                batch["position"].cpu().numpy(),
                batch["placement"].cpu().numpy(),
                [a.float().cpu().numpy() for a in answers],
                float(loss) * size,
            )
        )

    def on_validation_epoch_end(self) -> None:
        """Turn outputs into the epoch's row of history."""
        seen = self._seen
        if self.trainer.world_size > 1:
            gathered: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(gathered, seen)
            seen = [part for rank in gathered for part in rank]
        outputs, loss = gather(self.contract, seen, self.validation_samples)
        figures = measure(self.contract, outputs)
        self.close_epoch(figures, loss)

    def close_epoch(self, figures: dict[str, float], validation_loss: float) -> None:
        """Write down what the epoch gave, and whether it is the best one yet.

        Raises:
            TrainingFailed: the monitored metric does not exist.
        """
        progress, part = self.progress, self.recipe.training
        row = {
            "epoch": progress.epoch + 1,
            "train_loss": self._loss,
            "val_loss": validation_loss,
            **figures,
            "learning_rate": self.rate,
            "seconds": self._trained_seconds,
            "ms_per_image": 1000 * self._trained_seconds / max(sum(self._sizes) * self.trainer.world_size, 1),
        }
        watched = {"training.monitor": self.monitor}
        if part.schedule.name == "plateau" and part.schedule.metric:
            watched["training.schedule.metric"] = part.schedule.metric
        for key, name in watched.items():
            if name not in row:
                raise TrainingFailed(f"{key}: there is no metric {name!r}; known are {', '.join(row)}")
        progress.history.append({name: float(value) for name, value in row.items()})
        progress.epoch += 1
        self.is_best = improves(row[self.monitor], progress.best_value, self.monitor, part.min_delta)
        if self.is_best:
            progress.best_epoch, progress.best_value, progress.waiting = progress.epoch, row[self.monitor], 0
        else:
            progress.waiting += 1

    def standing(self) -> dict[str, Any]:
        """Where the training stands, as plain numbers."""
        progress = self.progress
        return {
            "epoch": progress.epoch,
            "best_epoch": progress.best_epoch,
            "best_value": progress.best_value,
            "waiting": progress.waiting,
            "history": [dict(row) for row in progress.history],
        }

    def state(self) -> dict[str, Any]:
        """All that a resumed training needs, as plain tensors and numbers."""
        return {
            **self.standing(),
            "network": on_cpu(self.network.state_dict()),
            "averaged": None if self.averaged is None else on_cpu(self.averaged.state_dict()),
            "optimizer": self.trainer.optimizers[0].state_dict(),
            "precision": self.trainer.precision_plugin.state_dict(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        if self.averaged is not None and state["averaged"] is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.progress = Progress(
            state["epoch"],
            [dict(row) for row in state["history"]],
            state["best_epoch"],
            state["best_value"],
            state["waiting"],
        )


def gather(
    contract: Contract, seen: Sequence[tuple[Any, ...]], samples: Sequence[Sample]
) -> tuple[Outputs, float]:
    """Outputs of batches put in the order of the samples, each once, and the mean loss."""
    position = np.concatenate([part[0] for part in seen])
    order = np.unique(position, return_index=True)[1]
    placements = np.concatenate([part[1] for part in seen])[order]
    arrays = {
        spec.name: np.concatenate([part[2][i] for part in seen])[order]
        for i, spec in enumerate(contract.outputs)
    }
    kept = tuple(samples[i] for i in position[order])
    loss = sum(part[3] for part in seen) / max(len(position), 1)
    input_hw = contract.inputs[0].size_hw
    return Outputs(arrays, [unpack_placement(row, input_hw) for row in placements], kept), loss


def unpack_placement(row: np.ndarray, input_hw: tuple[int, int]) -> Placement:
    """A placement from the six numbers that travel in a batch."""
    return Placement(
        (int(row[0]), int(row[1])), input_hw, (float(row[2]), float(row[3])), (float(row[4]), float(row[5]))
    )


def on_cpu(state: dict[str, Any]) -> dict[str, Any]:
    """A copy of a state dict on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


@torch.no_grad()
def average(averaged: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """Move an averaged copy towards the network: a = decay * a + (1 - decay) * w; counters are copied."""
    for mine, new in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if mine.dtype.is_floating_point:
            mine.lerp_(new, 1 - decay)
        else:
            mine.copy_(new)
