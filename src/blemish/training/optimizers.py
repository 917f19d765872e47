"""Frozen stages, the optimizer, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from blemish.config.training_schema import OptimizerConfig, ScheduleConfig
from blemish.errors import BadRecipe, UnknownName
from blemish.models._network import Network
from blemish.training.monitored_metrics import monitor_direction
from blemish.training.progress import improves
from blemish.training.step_settings import warmup_steps

PRETRAINED_LR_RATIO = 0.1  # of the learning rate, for pretrained stages below a new head
_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def freeze(
    network: Network, trainable: Sequence[str] | None, *, batch_norm_frozen: bool = False
) -> list[str]:
    """Freeze all stages but some.

    Args:
        network: changed in place.
        trainable: stages, or prefixes of parameter names; None for all. The head is always trained.
        batch_norm_frozen: whether batch normalization with loaded running statistics keeps them; layers that
            start at random still update theirs.

    Returns:
        Names of the modules that must stay in evaluation mode: those without trainable parameters, so that
        their dropout and running statistics do not change, and batch normalization that is kept.

    Raises:
        UnknownName: there is no stage or parameter of that name.
    """
    names = [name for name, _ in network.named_parameters()]
    if trainable is not None:
        prefixes = [p for stage in (*trainable, "head") for p in _prefixes_of(network, stage, names)]
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(any(_is_below(name, p) for p in prefixes))
    frozen_modules = []
    for name, module in network.named_modules():
        own = list(module.parameters())
        is_frozen = bool(own) and not any(p.requires_grad for p in own)
        is_kept = isinstance(module, _BATCH_NORM) and f"{name}.running_mean" in network.loaded
        if name and (is_frozen or (batch_norm_frozen and is_kept)):
            frozen_modules.append(name)
    return frozen_modules


def lr_of_pretrained_stages(network: Network, config: OptimizerConfig) -> dict[str, float]:
    """Return lower learning rates for the pretrained stages of a detector with a new head.

    At the learning rate of a new head, a pretrained backbone forgets its features: the last feature map of an
    SSD was 0 everywhere after 60 steps of AdamW at 6e-4 (docs/systems/voc-ssd300-resnet50.md).

    Args:
        network: with its weights loaded.
        config: the section `training.optimizer`.

    Returns:
        Values for `lr_by_stage`: a tenth of the learning rate for every stage but the head that was loaded
        completely. Empty if the recipe sets a learning rate, `lr_by_stage` or `layer_decay`, or if the head
        was loaded.
    """
    chosen = {"learning_rate", "lr_by_stage", "layer_decay"} & config.model_fields_set
    if not network.owns_loss or chosen:
        return {}
    names = [name for name, _ in network.named_parameters()]
    is_loaded = {
        stage: [n in network.loaded for n in names if any(_is_below(n, p) for p in prefixes)]
        for stage, prefixes in network.stages.items()
    }
    if any(is_loaded.pop("head", ())):
        return {}
    rate = config.learning_rate * PRETRAINED_LR_RATIO
    return {stage: rate for stage, loaded in is_loaded.items() if all(loaded)}


def parameter_groups(network: Network, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Return the trainable parameters grouped by learning rate and weight decay, as optimizers take them.

    Raises:
        UnknownName: a name in `lr_by_stage` matches no parameter.
        BadRecipe: no parameter is trainable ("bad-recipe.nothing-trainable").
    """
    names = [name for name, _ in network.named_parameters()]
    prefixes_by_stage = {stage: _prefixes_of(network, stage, names) for stage in config.lr_by_stage}
    decayed = _decayed_rates(network, config)
    undecayed = _undecayed(network) if not config.decay_norms else set()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        length = -1
        rate = next((r for prefix, r in decayed.items() if _is_below(name, prefix)), config.learning_rate)
        for stage, prefixes in prefixes_by_stage.items():
            longest = max((len(p) for p in prefixes if _is_below(name, p)), default=-1)
            if longest > length:
                length, rate = longest, config.lr_by_stage[stage]
        decay = 0.0 if name in undecayed else config.weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    if not groups:
        raise BadRecipe(
            "model.trainable: no parameter of the network is trainable. Name at least one stage",
            reason="nothing-trainable",
        )
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay, "initial_lr": rate}
        for (rate, decay), parameters in groups.items()
    ]


def _decayed_rates(network: Network, config: OptimizerConfig) -> dict[str, float]:
    """Return the learning rate of each stage's prefixes after `layer_decay`; empty if it is 1.

    Source:
        Clark et al. 2020 (ELECTRA), layer-wise learning rate decay; timm's option `layer_decay`.
    """
    if config.layer_decay == 1:
        return {}
    backward = [stage for stage in reversed(list(network.stages)) if stage != "head"]
    return {
        prefix: config.learning_rate * config.layer_decay**depth
        for depth, stage in enumerate(backward, start=1)
        for prefix in network.stages[stage]
    }


def build_optimizer(
    network: Network, config: OptimizerConfig, *, fused: bool = True
) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe over the trainable parameters.

    Args:
        network: its parameters that require a gradient are optimized.
        config: `training.optimizer`.
        fused: whether the optimizer is fused on a CPU: a loop over the parameters costs more than their
            update. On other devices torch takes a fast way by itself.
    """
    groups = parameter_groups(network, config)
    on_cpu = all(p.device.type == "cpu" for group in groups for p in group["params"])
    chosen = True if fused and on_cpu else None
    if config.name == "sgd":
        return torch.optim.SGD(
            groups,
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=config.nesterov,
            fused=chosen,
        )
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.learning_rate, betas=config.betas, fused=chosen)


def match_memory_format(optimizer: torch.optim.Optimizer) -> None:
    """Give the loaded state of an optimizer the memory format of its parameters.

    Fused optimizers on a CPU read both as flat memory, and would mix up elements without a warning.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            is_alike = isinstance(value, torch.Tensor) and value.shape == parameter.shape
            if is_alike and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(value)


def lr_multiplier(
    schedule: ScheduleConfig,
    step: int,
    steps_per_epoch: int,
    epochs: int,
    history: Sequence[Mapping[str, float]] = (),
    monitor: str = "",
) -> float:
    """Return the factor of every learning rate at one step.

    Args:
        schedule: the section `training.schedule`.
        step: optimizer step from 0, counted over all epochs.
        steps_per_epoch: optimizer steps.
        epochs: maximum number of epochs.
        history: metrics of the completed epochs, in order.
        monitor: the metric that `plateau` watches if the schedule names none.

    Source:
        torch.optim.lr_scheduler's CosineAnnealingLR, OneCycleLR (cosine, without momentum), ReduceLROnPlateau
        (absolute threshold 0) and MultiStepLR, as functions of the step.
    """
    total = steps_per_epoch * epochs
    if schedule.name == "one-cycle":
        return _one_cycle(step, total, schedule.pct_start)
    warmup = warmup_steps(schedule, steps_per_epoch, epochs)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule.name == "cosine":
        share = min((step - warmup) / max(total - warmup, 1), 1)
        return schedule.min_lr_ratio + (1 - schedule.min_lr_ratio) * (1 + math.cos(math.pi * share)) / 2
    if schedule.name == "multistep":
        return schedule.factor ** sum(step >= m * steps_per_epoch for m in schedule.milestones)
    if schedule.name == "plateau":
        metric = schedule.metric or monitor
        values = [row[metric] for row in history if metric in row]
        return max(schedule.factor ** _reductions(schedule, values, metric), schedule.min_lr_ratio)
    return 1.0


def _reductions(schedule: ScheduleConfig, values: Sequence[float], metric: str) -> int:
    """Return how often `plateau` has reduced the learning rate after these values of its metric."""
    best: float | None = None
    waiting = count = 0
    for value in values:
        if improves(value, best, monitor_direction(metric)):
            best, waiting = value, 0
        else:
            waiting += 1
        if waiting > schedule.patience:
            count, waiting = count + 1, 0
    return count


def _one_cycle(
    step: int, total: int, pct_start: float, start: float = 1 / 25, end: float = 1 / 25e4
) -> float:
    def anneal(first: float, last: float, share: float) -> float:
        return last + (first - last) / 2 * (1 + math.cos(math.pi * min(max(share, 0), 1)))

    peak = pct_start * total - 1
    if step <= peak:
        return anneal(start, 1.0, step / peak if peak > 0 else 1.0)
    return anneal(1.0, end, (step - peak) / max(total - 1 - peak, 1e-9))


def _prefixes_of(network: Network, stage: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the prefixes of parameter names that a stage, or a prefix itself, stands for."""
    if stage in network.stages:
        return network.stages[stage]
    matching = [p for p in (stage, f"backbone.{stage}") if any(_is_below(name, p) for name in names)]
    if not matching:
        raise UnknownName("stage", stage, network.stages, where="the recipe")
    return (matching[0],)


def _is_below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _undecayed(network: Network) -> set[str]:
    """Return the names of biases and of all parameters of normalization layers."""
    names = {name for name, _ in network.named_parameters() if name.endswith(".bias")}
    for name, module in network.named_modules():
        if isinstance(module, _NORMS):
            names |= {f"{name}.{inner}" for inner, _ in module.named_parameters(recurse=False)}
    return names
