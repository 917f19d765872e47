"""Which weights learn, how fast, and how that changes; learning rates are a function of the step alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from blemish.config.training_schema import OptimizerConfig, ScheduleConfig
from blemish.errors import BadRecipe, UnknownName
from blemish.models._network import Network

GENTLE = 0.1  # of the learning rate, for what was learned before
_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def freeze(
    network: Network, trainable: Sequence[str] | None, *, batch_norm_frozen: bool = False
) -> list[str]:
    """Let only some stages learn.

    Args:
        network: changed in place.
        trainable: stages, or prefixes of parameter names; None for all. The head always learns.
        batch_norm_frozen: whether running statistics that came with loaded weights stay as they are; those of
            layers that began at random are nobody's, and learn.

    Returns:
        Names of the modules that must stay in evaluation mode: those where nothing learns, so that dropout
        and running statistics rest there too, and batch normalisation that is kept.

    Raises:
        UnknownName: no stage or parameter of that name.
    """
    names = [name for name, _ in network.named_parameters()]
    if trainable is not None:
        prefixes = [p for wanted in (*trainable, "head") for p in _prefixes(network, wanted, names)]
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(any(_below(name, p) for p in prefixes))
    still = []
    for name, module in network.named_modules():
        own = list(module.parameters())
        frozen = bool(own) and not any(p.requires_grad for p in own)
        kept = isinstance(module, _BATCH_NORM) and f"{name}.running_mean" in network.loaded
        if name and (frozen or (batch_norm_frozen and kept)):
            still.append(name)
    return still


def pretrained_rates(network: Network, part: OptimizerConfig) -> dict[str, float]:
    """A lower learning rate for what a detector has from a file, where a recipe names no rate at all.

    Under fresh heads a pretrained backbone that learns as fast as they do forgets what it knew: an SSD's last
    map fell silent in 60 steps of AdamW at 6e-4 (figures in docs/systems/voc-ssd300-resnet50.md).

    Returns:
        `lr_by_stage` of an optimizer: a tenth of the learning rate for each stage but the head that was loaded
        whole. Empty where the recipe says a rate or `lr_by_stage`, or where something of the head was loaded.
    """
    if not network.owns_loss or {"learning_rate", "lr_by_stage"} & part.model_fields_set:
        return {}
    names = [name for name, _ in network.named_parameters()]
    held = {
        stage: [n in network.loaded for n in names if any(_below(n, p) for p in prefixes)]
        for stage, prefixes in network.stages.items()
    }
    if any(held.pop("head", ())):
        return {}
    return {stage: part.learning_rate * GENTLE for stage, loaded in held.items() if all(loaded)}


def parameter_groups(network: Network, part: OptimizerConfig) -> list[dict[str, Any]]:
    """What an optimizer takes: weights by learning rate and decay, frozen ones left out.

    Raises:
        UnknownName: a group that fits no parameter.
        BadRecipe: nothing learns.
    """
    names = [name for name, _ in network.named_parameters()]
    fits = {group: _prefixes(network, group, names) for group in part.lr_by_stage}
    plain = _undecayed(network) if not part.decay_norms else set()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        best, rate = -1, part.learning_rate
        for group, prefixes in fits.items():
            longest = max((len(p) for p in prefixes if _below(name, p)), default=-1)
            if longest > best:
                best, rate = longest, part.lr_by_stage[group]
        decay = 0.0 if name in plain else part.weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    if not groups:
        raise BadRecipe("nothing in the network learns: name at least one stage in model.trainable")
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay, "initial_lr": rate}
        for (rate, decay), parameters in groups.items()
    ]


def build_optimizer(network: Network, part: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer of a recipe over the weights that learn."""
    groups = parameter_groups(network, part)
    if part.name == "sgd":
        return torch.optim.SGD(groups, lr=part.learning_rate, momentum=part.momentum, nesterov=part.nesterov)
    kind = torch.optim.AdamW if part.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=part.learning_rate, betas=part.betas)


def lr_multiplier(
    part: ScheduleConfig,
    step: int,
    steps_per_epoch: int,
    epochs: int,
    history: Sequence[Mapping[str, float]] = (),
    monitor: str = "",
) -> float:
    """What learning rates are multiplied by at one step.

    Args:
        part: the schedule.
        step: from 0, over all epochs.
        steps_per_epoch: steps of the optimizer.
        epochs: of the whole training.
        history: validation metrics of the epochs before this step's, in order.
        monitor: the metric that `plateau` looks at where the recipe names none.

    Source:
        torch.optim.lr_scheduler's CosineAnnealingLR, OneCycleLR (cosine, momentum left alone),
        ReduceLROnPlateau (absolute threshold 0) and MultiStepLR, as functions of the step.
    """
    total = steps_per_epoch * epochs
    if part.name == "one-cycle":
        return _one_cycle(step, total, part.pct_start)
    warm = part.warmup_epochs * steps_per_epoch
    if step < warm:
        return (step + 1) / (warm + 1)
    if part.name == "cosine":
        share = (step - warm) / max(total - warm, 1)
        return part.min_lr_ratio + (1 - part.min_lr_ratio) * (1 + math.cos(math.pi * min(share, 1))) / 2
    if part.name == "multistep":
        return part.factor ** sum(step >= m * steps_per_epoch for m in part.milestones)
    if part.name == "plateau":
        metric = part.metric or monitor
        return max(
            part.factor ** _cuts(part, [row[metric] for row in history if metric in row], metric),
            part.min_lr_ratio,
        )
    return 1.0


def smaller_is_better(metric: str) -> bool:
    """Whether a metric is a loss or an error."""
    return any(word in metric for word in ("loss", "error"))


def improves(value: float, best: float | None, metric: str, min_delta: float = 0.0) -> bool:
    """Whether `value` is a gain over `best`; nothing gains from a NaN."""
    if math.isnan(value):
        return False
    if best is None or math.isnan(best):
        return True
    return value < best - min_delta if smaller_is_better(metric) else value > best + min_delta


def _cuts(part: ScheduleConfig, values: Sequence[float], metric: str) -> int:
    best: float | None = None
    waiting = cuts = 0
    for value in values:
        if improves(value, best, metric):
            best, waiting = value, 0
        else:
            waiting += 1
        if waiting > part.patience:
            cuts, waiting = cuts + 1, 0
    return cuts


def _one_cycle(
    step: int, total: int, pct_start: float, start: float = 1 / 25, end: float = 1 / 25e4
) -> float:
    def between(first: float, last: float, share: float) -> float:
        return last + (first - last) / 2 * (1 + math.cos(math.pi * min(max(share, 0), 1)))

    peak = pct_start * total - 1
    if step <= peak:
        return between(start, 1.0, step / peak if peak > 0 else 1.0)
    return between(1.0, end, (step - peak) / max(total - 1 - peak, 1e-9))


def _prefixes(network: Network, wanted: str, names: Sequence[str]) -> tuple[str, ...]:
    if wanted in network.stages:
        return network.stages[wanted]
    below = [p for p in (wanted, f"backbone.{wanted}") if any(_below(name, p) for name in names)]
    if not below:
        raise UnknownName("stage", wanted, network.stages, where="the recipe")
    return (below[0],)


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _undecayed(network: Network) -> set[str]:
    """Biases, and everything in normalisation layers."""
    plain = {name for name, _ in network.named_parameters() if name.endswith(".bias")}
    for name, module in network.named_modules():
        if isinstance(module, _NORMS):
            plain |= {f"{name}.{inner}" for inner, _ in module.named_parameters(recurse=False)}
    return plain
