"""Sections of a recipe about the training itself: optimizer, schedule, loss, loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from blemish.config.fields import Beta, Config, refuse_unused


class OptimizerConfig(Config):
    """The optimizer.

    Attributes:
        name: Optimizer: `adamw`, `adam` or `sgd`.
        learning_rate: Learning rate of every layer that `lr_by_stage` does not name. If neither key is set,
            the pretrained layers of a detector with a new head get a tenth of it.
        nominal_batch_size: Images per optimizer step that the learning rates and the weight decay are meant
            for. With k times as many, the rates are multiplied by the root of k, and by k for `sgd`; the
            weight decay of `adamw` by the root of k, so that it is the same per epoch. The run's recipe has
            the results. Null takes the values as they are, as does a preset of which one of them is set.
        weight_decay: Weight decay; decoupled from the gradient in AdamW, added to it otherwise.
        momentum: Momentum of SGD.
        nesterov: Whether SGD uses Nesterov momentum.
        betas: Decay rates of the moment estimates of Adam and AdamW.
        lr_by_stage: Learning rates by stage or by prefix of parameter names; the longest matching prefix
            wins.
        layer_decay: Factor of the learning rate from each stage to the stage before it, for the stages that
            `lr_by_stage` does not name: the head has `learning_rate`, the last stage of the backbone
            `layer_decay` times it, and the first stages the lowest rates.
        decay_norms: Whether weight decay also applies to biases and normalization layers.
    """

    dependent: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "nominal_batch_size": ("learning_rate", "lr_by_stage", "weight_decay")
    }

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    nominal_batch_size: int | None = Field(default=None, ge=1)
    weight_decay: float = Field(default=0.01, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    lr_by_stage: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    decay_norms: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        refuse_unused(
            self, self.name, {"momentum": ("sgd",), "nesterov": ("sgd",), "betas": ("adam", "adamw")}
        )
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class ScheduleConfig(Config):
    """The learning rate schedule: a function of the step and of past metrics, so that it has no state.

    Attributes:
        name: `none`; `cosine` decays to `min_lr_ratio`; `one-cycle` rises from 1/25 and decays to almost 0;
            `plateau` multiplies by `factor` when `metric` stops improving; `multistep` does so at
            `milestones`.
        warmup_epochs: Epochs of linear warm-up; not used by `one-cycle`.
        warmup_steps: Optimizer steps of linear warm-up, in place of `warmup_epochs`.
        warmup_share: Share of all optimizer steps that warm up, in place of both, so that it also fits
            trainings with fewer epochs.
        min_lr_ratio: Lower bound of the learning rate as a share of its initial value, for `cosine` and
            `plateau`.
        pct_start: Share of the steps that `one-cycle` spends increasing the learning rate.
        metric: Metric that `plateau` watches. Null for `training.monitor`.
        factor: Factor that `plateau` and `multistep` multiply the learning rate by.
        patience: Epochs without improvement after which `plateau` reduces the learning rate.
        milestones: Epochs after which `multistep` reduces the learning rate.
    """

    alternatives = ("warmup_epochs", "warmup_steps", "warmup_share")

    name: Literal["none", "cosine", "one-cycle", "plateau", "multistep"] = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=0, ge=0)
    warmup_share: float = Field(default=0.0, ge=0, lt=1)
    min_lr_ratio: float = Field(default=0.0, ge=0, le=1)
    pct_start: float = Field(default=0.3, gt=0, lt=1)
    metric: str | None = None
    factor: float = Field(default=0.1, gt=0, lt=1)
    patience: int = Field(default=3, ge=0)
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        users: dict[str, tuple[str, ...]] = dict.fromkeys(("metric", "patience"), ("plateau",))
        users |= {"pct_start": ("one-cycle",), "milestones": ("multistep",)}
        users |= {"factor": ("plateau", "multistep"), "min_lr_ratio": ("cosine", "plateau")}
        users |= dict.fromkeys(self.alternatives, ("none", "cosine", "plateau", "multistep"))
        refuse_unused(self, self.name, users)
        if sum(bool(getattr(self, name)) for name in self.alternatives) > 1:
            raise ValueError(f"expected one of {', '.join(self.alternatives)}")
        return self


class LossConfig(Config):
    """The loss function of image-level networks; detectors have their own.

    Attributes:
        name: Loss: `cross-entropy` or `focal` for classification; `bce` or `focal` for multilabel; `mse`,
            `smooth-l1` or `giou` for localization. Null for the first of these.
        label_smoothing: Label smoothing of `cross-entropy` and `bce`.
        class_weights: `balanced` weights labels by how rare they are: n / (labels x count) for
            `cross-entropy`, negatives / positives for `bce` and `focal`. `bce` corrects its probabilities for
            the weights, so that they remain those of the labels' own frequency.
        gamma: Focusing parameter of `focal`.
        options: Further options of the loss, such as `beta` of `smooth-l1` or those of a plug-in.
    """

    name: str | None = None
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    gamma: float = Field(default=2.0, ge=0)
    options: dict[str, Any] = Field(default_factory=dict)


class CallbackConfig(Config):
    """A callback that a plug-in registers; see `blemish.training.register_callback`.

    Attributes:
        name: Name of the callback.
        options: Options of the callback.
    """

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class LoggerConfig(Config):
    """One of Lightning's loggers, in addition to the files that every run writes.

    Attributes:
        name: Lightning's class name, with or without `Logger`: `mlflow`, `wandb`, `csv`.
        options: Keyword arguments of that class.
    """

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class TrainingConfig(Config):
    """The training loop.

    Attributes:
        epochs: Maximum number of epochs.
        batch_size: Images per step and device; `auto` finds the largest that fits into memory and writes it
            into the run's recipe.
        validation_batch_size: Images per validation step. Null for `batch_size`.
        optimizer: Optimizer.
        schedule: Learning rate schedule.
        loss: Loss function of image-level networks.
        monitor: Validation metric that selects the best epoch. Null for the task's primary metric.
        export_epoch: Epoch whose weights are exported: the `best` by `monitor`, or the `last`, which is the
            better choice at the end of `one-cycle` or `cosine` if few images are validated.
        min_precision: Precision that the threshold of each label has to reach on the validation images; among
            such thresholds, the one with the best F1 is chosen. A label that cannot reach it is marked as not
            reliable: a person has to review its decisions. Null requires none. Not for classification and
            localization, which have no thresholds.
        patience: Epochs without improvement after which training stops. Null never stops early.
        min_delta: Smallest change of the monitored metric that counts as an improvement.
        seed: Random seed of the training.
        precision: Floating-point precision: `fp32`, or mixed precision in `bf16` or `fp16`.
        workers: Processes that load images; `auto` chooses by the number of CPU cores.
        start_method: How these processes are started. Null for the platform's default.
        accumulate_grad_batches: Batches per optimizer step.
        gradient_clip_val: Maximum norm of the gradient. Null does not clip.
        ema: Decay of an exponential moving average of the weights, which is then validated and exported;
            `auto` averages over a tenth of all optimizer steps, at most over 10,000. Null turns it off.
        balanced_sampling: Whether images with rare labels are drawn more often.
        channels_last: Whether to use the channels-last memory format. Null tries both for a few passes on a
            CPU, takes the faster one, and records it in the run's recipe; below 100 steps it is not used.
        batch_norm: `train`, or `frozen` to keep the running statistics of pretrained layers; layers with
            random weights still learn theirs.
        feature_cache: `auto` caches the features of a frozen backbone if augmentation changes nothing; `on`
            also turns augmentation off for it; `off`.
        devices: Number of devices per node.
        nodes: Number of machines.
        loggers: Lightning loggers, in addition to metrics.csv and TensorBoard.
        tensorboard: Whether to write TensorBoard files.
        callbacks: Callbacks of plug-ins, called in this order.
    """

    epochs: int = Field(default=30, ge=1)
    batch_size: int | Literal["auto"] = 32
    validation_batch_size: int | None = Field(default=None, ge=1)
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    monitor: str | None = None
    export_epoch: Literal["best", "last"] = "best"
    min_precision: float | None = Field(default=None, gt=0, lt=1)
    patience: int | None = Field(default=10, ge=1)
    min_delta: float = Field(default=0.0, ge=0)
    seed: int = Field(default=0, ge=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    workers: int | Literal["auto"] = "auto"
    start_method: Literal["fork", "spawn", "forkserver"] | None = None
    accumulate_grad_batches: int = Field(default=1, ge=1)
    gradient_clip_val: float | None = Field(default=None, gt=0)
    ema: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] | None = None
    balanced_sampling: bool = False
    channels_last: bool | None = None
    batch_norm: Literal["train", "frozen"] = "train"
    feature_cache: Literal["auto", "on", "off"] = "auto"
    devices: int = Field(default=1, ge=1)
    nodes: int = Field(default=1, ge=1)
    loggers: tuple[LoggerConfig, ...] = ()
    tensorboard: bool = True
    callbacks: tuple[CallbackConfig, ...] = ()

    @field_validator("feature_cache", mode="before")
    @classmethod
    def _bool_to_on_off(cls, value: Any) -> Any:
        """Undo YAML 1.1, which reads a bare `on` or `off` as a boolean."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @field_validator("batch_size", "workers")
    @classmethod
    def _check_minimum(cls, value: int | str, info: Any) -> int | str:
        minimum = 1 if info.field_name == "batch_size" else 0
        if isinstance(value, int) and value < minimum:
            raise ValueError(f"expected at least {minimum}, or auto")
        return value
