"""The Lightning module of an image-level network: training step, validation, history of the epochs."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from typing import Any, Literal

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
from blemish.training.augmentation.mixup import mix_batch
from blemish.training.image_loss import ImageLoss
from blemish.training.monitored_metrics import TRAIN_LOSS, VAL_LOSS, monitor_direction
from blemish.training.optimizers import build_optimizer, lr_multiplier, match_memory_format
from blemish.training.progress import Progress, improves
from blemish.training.rng import RngPurpose, rng_seed
from blemish.training.step_settings import ema_steps
from blemish.training.validation import Outputs, measure


class ImageLightningModule(pl.LightningModule):  # type: ignore[misc]
    """A network with its loss, its optimizer and its progress.

    Args:
        network: the network; only its head is trained if `from_features` is set.
        recipe: the resolved recipe.
        contract: for the metrics of the validation.
        loss: of a batch.
        steps_per_epoch: optimizer steps.
        validation_samples: the validation images, in the order of their positions.
        monitor: the metric that selects the best epoch.
        frozen_modules: names of modules that stay in evaluation mode: frozen stages, and batch normalization
            that keeps its running statistics.
        state: of the checkpoint to resume from, or None.

    Attributes:
        progress: the completed epochs.
        averaged: the exponential moving average of the network, or None.
        is_best: whether the last epoch is the one to export so far.
        from_features: whether batches contain cached features instead of images.
        channels_last: whether the channels-last memory format is used.
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
        frozen_modules: Sequence[str] = (),
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
        self.frozen_modules = tuple(frozen_modules)
        self.progress = Progress(0, [])
        self.averaged: Network | None = None
        if recipe.training.ema is not None:
            self.averaged = copy.deepcopy(network).requires_grad_(False)
        self._state = state
        if state is not None:
            self._restore(state)
        self._results: list[tuple[Any, ...]] = []  # of the validation batches
        self._losses: list[Tensor] = []  # of the training batches
        self._batch_sizes: list[int] = []  # images in each of them
        self._start_time = 0.0
        self.is_best = False
        self.from_features = False
        self.channels_last = False

    @property
    def epoch(self) -> int:
        """The running epoch, from 0, counted over all resumptions."""
        return self.progress.epoch

    @property
    def eval_network(self) -> Network:
        """The network that is validated and kept: the moving average if there is one."""
        return self.network if self.averaged is None else self.averaged

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer, with the state of the checkpoint."""
        training = self.recipe.training
        # Lightning refuses to clip the gradients of a fused optimizer in mixed precision.
        is_clipped_mixed = training.precision != "fp32" and training.gradient_clip_val is not None
        optimizer = build_optimizer(self.network, training.optimizer, fused=not is_clipped_mixed)
        if self._state is not None:
            optimizer.load_state_dict(self._state["optimizer"])
        return optimizer

    def on_fit_start(self) -> None:
        """Take the memory format, and restore the state of the gradient scaler of a resumed training."""
        if self.channels_last:
            for network in filter(None, (self.network, self.averaged)):
                network.to(memory_format=torch.channels_last)
        match_memory_format(self.trainer.optimizers[0])
        if self._state is not None and self._state.get("precision"):
            self.trainer.precision_plugin.load_state_dict(self._state["precision"])
        self._state = None

    def on_train_epoch_start(self) -> None:
        """Start an epoch."""
        self.network.train()
        for name in self.frozen_modules:
            self.network.get_submodule(name).eval()
        self._losses, self._batch_sizes, self._start_time = [], [], time.perf_counter()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rates and the random state of this step; both are functions of its position."""
        training = self.recipe.training
        step = self.epoch * self.steps_per_epoch + batch_idx // training.accumulate_grad_batches
        multiplier = lr_multiplier(
            training.schedule,
            step,
            self.steps_per_epoch,
            training.epochs,
            self.progress.history,
            self.monitor,
        )
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * multiplier
        self.learning_rate = training.optimizer.learning_rate * multiplier
        seed = rng_seed(training.seed, RngPurpose.FORWARD, self.epoch, batch_idx, self.global_rank)
        torch.manual_seed(seed)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a batch, ()."""
        inputs, target = batch["inputs"], batch["target"]
        inputs, target = mix_batch(self.recipe, inputs, target, self.epoch, batch_idx, self.global_rank)
        loss: Tensor = self.loss(self.run_network(self.network, inputs)[0], target)
        self._losses.append(loss.detach())
        self._batch_sizes.append(len(target))
        return self.scale_to_step(loss, batch_idx)

    def scale_to_step(self, loss: Tensor, batch_idx: int) -> Tensor:
        """Return the loss of a batch, (), scaled so that a last step with fewer batches is not smaller.

        Lightning divides every loss by `accumulate_grad_batches`, also where fewer batches are left.
        """
        every, batches = self.recipe.training.accumulate_grad_batches, int(self.trainer.num_training_batches)
        in_this_step = min(every, batches - batch_idx // every * every)
        return loss if in_this_step == every else loss * (every / in_this_step)

    def run_network(self, network: Network, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the outputs of a network for a batch, or those of its head for cached features."""
        if self.from_features:
            return (network.get_submodule("head")(inputs[0]),)
        outputs: tuple[Tensor, ...] = network(*self.in_memory_format(inputs))
        return outputs

    def in_memory_format(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the inputs of a batch in the memory format of the network's weights."""
        if not self.channels_last:
            return inputs
        return [x.contiguous(memory_format=torch.channels_last) for x in inputs]

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the moving average after an optimizer step."""
        training = self.recipe.training
        every = training.accumulate_grad_batches
        is_step = (batch_idx + 1) % every == 0 or self.trainer.is_last_batch
        if self.averaged is None or training.ema is None or not is_step:
            return
        step = self.epoch * self.steps_per_epoch + batch_idx // every
        decay = ema_decay(training.ema, step, self.steps_per_epoch * training.epochs)
        update_average(self.averaged, self.network, decay)

    def on_validation_epoch_start(self) -> None:
        """Compute the mean training loss, and clear the results of the last validation.

        Raises:
            TrainingFailed: the loss is not finite ("training-failed.loss-not-finite").
        """
        self._train_seconds = time.perf_counter() - self._start_time
        self._results = []
        self._mean_loss = self.mean_of(self._losses)
        if not math.isfinite(self._mean_loss):
            raise TrainingFailed(
                f"the loss of epoch {self.epoch + 1} is {self._mean_loss}. Lower "
                "training.optimizer.learning_rate, or set training.gradient_clip_val=1",
                reason="loss-not-finite",
            )

    def mean_of(self, losses: Sequence[Tensor]) -> float:
        """Return the mean over the images of the epoch on all devices; NaN if there are none.

        Args:
            losses: () of each batch, a mean over its images; the last batch may have fewer images.
        """
        sizes = torch.tensor(self._batch_sizes, dtype=torch.float32, device=self.device)
        values = torch.stack(list(losses)).float() if losses else sizes
        sums = torch.stack([(values * sizes).sum(), sizes.sum()])
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
        return float(sums[0] / sums[1])

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Keep the raw outputs and the loss of a batch."""
        outputs = self.run_network(self.eval_network, batch["inputs"])  # in evaluation mode, by Lightning
        loss = self.loss(outputs[0], batch["target"])
        self._results.append(
            (
                batch["position"].cpu().numpy(),
                batch["placement"].cpu().numpy(),
                [x.float().cpu().numpy() for x in outputs],
                float(loss) * len(batch["position"]),
            )
        )

    def on_validation_epoch_end(self) -> None:
        """Compute the metrics of the epoch and add them to the history."""
        outputs, loss = gather(self.contract, self.gathered_results(), self.validation_samples)
        self.close_epoch(measure(self.contract, outputs), loss)

    def gathered_results(self) -> list[tuple[Any, ...]]:
        """Return the results of the validation batches of all processes."""
        if self.trainer.world_size == 1:
            return self._results
        gathered: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(gathered, self._results)
        return [result for of_rank in gathered for result in of_rank]

    def close_epoch(self, metrics: dict[str, float], validation_loss: float) -> None:
        """Add an epoch to the history, and decide whether it is the best one so far.

        Raises:
            TrainingFailed: a watched metric does not exist ("training-failed.unknown-metric").
        """
        progress, training = self.progress, self.recipe.training
        images = max(sum(self._batch_sizes) * self.trainer.world_size, 1)
        row = {
            "epoch": progress.epoch + 1,
            TRAIN_LOSS: self._mean_loss,
            VAL_LOSS: validation_loss,
            **metrics,
            "learning_rate": self.learning_rate,
            "seconds": self._train_seconds,
            "ms_per_image": 1000 * self._train_seconds / images,
        }
        watched = {"training.monitor": self.monitor}
        if training.schedule.name == "plateau" and training.schedule.metric:
            watched["training.schedule.metric"] = training.schedule.metric
        for key, name in watched.items():
            if name not in row:
                raise TrainingFailed(
                    f"{key}: there is no metric {name!r}; known are {', '.join(row)}", reason="unknown-metric"
                )
        progress.history.append({name: float(value) for name, value in row.items()})
        progress.epoch += 1
        value, direction = row[self.monitor], monitor_direction(self.monitor)
        improved = improves(value, progress.best_value, direction, training.min_delta)
        if improved:
            progress.best_value, progress.waiting = value, 0
        else:
            progress.waiting += 1
        self.is_best = improved or training.export_epoch == "last"
        if self.is_best:
            progress.best_epoch = progress.epoch

    def state(self) -> dict[str, Any]:
        """Return everything a resumed training needs, as tensors and numbers."""
        return {
            **self.progress.state(),
            "network": copy_to_cpu(self.network.state_dict()),
            "averaged": None if self.averaged is None else copy_to_cpu(self.averaged.state_dict()),
            "optimizer": self.trainer.optimizers[0].state_dict(),
            "precision": self.trainer.precision_plugin.state_dict(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        if self.averaged is not None and state["averaged"] is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.progress = Progress.of(state)


def gather(
    contract: Contract, results: Sequence[tuple[Any, ...]], samples: Sequence[Sample]
) -> tuple[Outputs, float]:
    """Return the outputs of batches in the order of the samples, each once, and the mean loss.

    Args:
        contract: names the outputs.
        results: (positions, placements, arrays, summed loss) of each batch.
        samples: the samples that the positions count.
    """
    position = np.concatenate([result[0] for result in results])
    order = np.unique(position, return_index=True)[1]
    placements = np.concatenate([result[1] for result in results])[order]
    arrays = {
        spec.name: np.concatenate([result[2][i] for result in results])[order]
        for i, spec in enumerate(contract.outputs)
    }
    in_order = tuple(samples[i] for i in position[order])
    loss = sum(result[3] for result in results) / max(len(position), 1)
    input_hw = contract.inputs[0].size_hw
    return Outputs(arrays, [unpack_placement(row, input_hw) for row in placements], in_order), loss


def unpack_placement(row: np.ndarray, input_hw: tuple[int, int]) -> Placement:
    """Return a placement from its six numbers in a batch."""
    return Placement(
        (int(row[0]), int(row[1])), input_hw, (float(row[2]), float(row[3])), (float(row[4]), float(row[5]))
    )


def copy_to_cpu(state: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a state dict on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def ema_decay(decay: float | Literal["auto"], step: int, steps: int) -> float:
    """Return the decay of the moving average after a step: smaller in the first steps.

    Args:
        decay: of the recipe.
        step: optimizer step, from 0.
        steps: optimizer steps of the training.

    Source:
        tf.train.ExponentialMovingAverage with `num_updates`.
    """
    if decay == "auto":
        decay = 1 - 1 / ema_steps(decay, steps)
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(averaged: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """Move an averaged copy towards the network: a = decay * a + (1 - decay) * w; integers are copied."""
    averages, news = _floats_and_integers(averaged), _floats_and_integers(network)
    if averages[0]:
        torch._foreach_lerp_(averages[0], news[0], 1 - decay)
    if averages[1]:  # a network without batch normalization has no counters
        torch._foreach_copy_(averages[1], news[1])


def _floats_and_integers(network: torch.nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tensors of a network's state, in its order."""
    tensors = list(network.state_dict().values())
    floats = [tensor for tensor in tensors if tensor.is_floating_point()]
    return floats, [tensor for tensor in tensors if not tensor.is_floating_point()]
