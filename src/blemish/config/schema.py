"""The parts of a recipe: what each key means, what it may be, and what stands where nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from blemish.config.image_level_options import HeadSpec, Pixels
from blemish.imaging import LIMITS, Limits

Share = Field(default=0.0, ge=0, le=1)
Beta = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Config(BaseModel):
    """One part of a recipe: frozen, and a key nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_ground_truth_for_a_number(cls, value: Any, info: Any) -> Any:
        """Python counts true as 1; a recipe that says `batch_size: true` means something else."""
        if _holds(value, bool) and _numbers_only(cls.model_fields[info.field_name].annotation):
            raise ValueError("takes a number, not true or false")
        return value


class ModelConfig(Config):
    """Which network, and what of it learns.

    Attributes:
        name: registry name.
        weights: `default` for the published ones, `none` for random ones, or a file.
        weights_licence: of a file, as the user states it; it travels in the model file.
        input_size: pixels: a number, (height, width), or a number by input name; None for the architecture's.
        resize: how an image becomes the input; None for `stretch`, or `shortest` if `resize_to` is given.
        resize_to: pixels of the shorter side before the centre crop.
        trainable: stages, or prefixes of parameter names, that learn; None for all. The head always learns.
        head: None for the architecture's own.
        options: further options of the architecture.
    """

    name: str = "resnet18"
    weights: str = "default"
    weights_licence: str = ""
    input_size: Pixels | tuple[Pixels, Pixels] | dict[str, Pixels] | None = None
    resize: Literal["stretch", "letterbox", "shortest"] | None = None
    resize_to: int | None = Field(default=None, ge=1)
    trainable: tuple[str, ...] | None = None
    head: HeadSpec | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("input_size")
    @classmethod
    def _names_an_input(cls, value: Any) -> Any:
        if value == {}:
            raise ValueError("give pixels, or a number for each named input")
        return value


class SplitConfig(Config):
    """How images are put into splits where the data set does not say.

    Attributes:
        anew: also where the set has a training and a validation split: they are drawn again from both
            together, and its test split is left alone. For sets that are judged after learning from both,
            as Pascal VOC's trainval.
        fractions: share of each split; they add up to 1.
        seed: of the draw.
        group_by: what must stay together: `column:NAME`, `pattern:REGEX`, `near-duplicates`, or nothing.
    """

    fractions: dict[Literal["train", "val", "test"], float] = {"train": 0.8, "val": 0.2}
    seed: int = Field(default=0, ge=0)
    group_by: str | None = None
    anew: bool = False

    @field_validator("fractions")
    @classmethod
    def _add_up(cls, value: dict[Any, float]) -> dict[Any, float]:
        if any(not 0 < share < 1 for share in value.values()) or abs(sum(value.values()) - 1) > 1e-6:
            raise ValueError("the fractions lie between 0 and 1 and add up to 1")
        if not {"train", "val"} <= set(value):
            raise ValueError("the fractions name at least train and val")
        return value


class TilesConfig(Config):
    """How large images are cut before anything is learned; for detection and segmentation.

    Attributes:
        size: side of a tile, pixels of the image.
        overlap: of neighbouring tiles, a share of `size`.
        min_visible: share of an object's area that a tile must show to teach it. A smaller piece is no
            target, so that a detector learns the place as background; in validation it is neither right nor
            wrong to find.
        empty: tiles without objects, as a share of those with some; further ones are left out, but for
            validation.
        limit_megapixels: larger images are refused.
    """

    size: int = Field(ge=32)
    overlap: float = Field(default=0.25, ge=0, le=0.9)
    min_visible: float = Field(default=0.3, gt=0, le=1)
    empty: float = Field(default=0.5, ge=0)
    limit_megapixels: float = Field(default=178, gt=0)

    @property
    def limits(self) -> Limits:
        """What images are refused."""
        return replace(LIMITS, max_pixels=int(self.limit_megapixels * 1e6))


class DataConfig(Config):
    """What is learned from.

    Attributes:
        path: the data set.
        images: the folder that a table's paths are relative to.
        format: where it is not to be recognised.
        options: further options of the format, such as the columns of a table.
        split: how to split where the data set has no splits.
        white_level: what counts as white in 16-bit images.
        normalization: mean and standard deviation that go with the `weights`, ImageNet's, those of the
            training images, or none.
        licence: as the user states it; it travels in the model file.
        photo_cache_gb: GB of disk for reduced copies of large images; 0 for none.
        tiles: how large images are cut; None to learn from whole ones.
    """

    path: str | None = None
    images: str | None = None
    format: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    split: SplitConfig = SplitConfig()
    white_level: int = Field(default=65535, ge=1, le=65535)
    normalization: Literal["weights", "imagenet", "dataset", "none"] = "weights"
    licence: str = ""
    photo_cache_gb: float = Field(default=8.0, ge=0)
    tiles: TilesConfig | None = None


class CropConfig(Config):
    """A random part of the image, stretched to the input.

    Attributes:
        scale: smallest and largest share of the image's area.
        ratio: narrowest and widest width / height.
        min_box_share: how much of a box must remain; the crop is drawn again until it does.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    min_box_share: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError("scale holds two shares of the area, 0 < smallest <= largest <= 1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError("ratio holds two numbers, 0 < narrowest <= widest")
        return self


class AugmentationConfig(Config):
    """What is changed at random in training images, the labels with them.

    Attributes:
        horizontal_flip: probability.
        vertical_flip: probability.
        rotation_degrees: largest angle to either side.
        brightness: the factor is drawn from [1 - x, 1 + x].
        contrast: likewise.
        saturation: likewise.
        hue: the shift is drawn from [-x, x], of a whole turn.
        random_resized_crop: None for the whole image.
        scale_jitter: detectors only: smallest and largest scale of the image in its input; above 1 a
            part fills the input, below 1 the image stands in a border.
        iou_crop: detectors only: probability that a part is cut out as SSD does, by overlap with the boxes.
        zoom_out: detectors only: probability that the image is first put on a canvas up to
            `zoom_out_side` times as wide and high.
        zoom_out_side: at most.
        mixup: alpha of the Beta distribution two images are mixed by; 0 for never.
        cutmix: alpha likewise, for a pasted rectangle; where both are given, each batch draws one.
        probability: by name, how often a colour change or a rotation is made at all; 1 where not given.
    """

    horizontal_flip: float = Share
    vertical_flip: float = Share
    rotation_degrees: float = Field(default=0.0, ge=0, le=180)
    brightness: float = Share
    contrast: float = Share
    saturation: float = Share
    hue: float = Field(default=0.0, ge=0, le=0.5)
    random_resized_crop: CropConfig | None = None
    scale_jitter: tuple[float, float] | None = None
    iou_crop: float = Share
    zoom_out: float = Share
    zoom_out_side: float = Field(default=4.0, gt=1)
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)
    probability: dict[Literal["rotation", "brightness", "contrast", "saturation", "hue"], Probability] = {}

    @property
    def is_off(self) -> bool:
        """Whether nothing is changed in a single image."""
        drawn = (self.horizontal_flip, self.vertical_flip, self.rotation_degrees)
        colour = (self.brightness, self.contrast, self.saturation, self.hue)
        parts = self.random_resized_crop, self.scale_jitter
        return not any((*drawn, *colour, self.iou_crop, self.zoom_out)) and parts == (None, None)

    @model_validator(mode="after")
    def _scales(self) -> Self:
        if self.scale_jitter is not None and not 0 < self.scale_jitter[0] <= self.scale_jitter[1]:
            raise ValueError("scale_jitter holds two scales, 0 < smallest <= largest")
        return self


def _refuse_idle(part: Config, name: str, of: Mapping[str, Sequence[str]]) -> None:
    """Refuse what was set and does nothing.

    Args:
        part: what holds the settings.
        name: of the rule that was chosen.
        of: by setting, the rules that heed it.
    """
    for key, names in of.items():
        if name not in names and getattr(part, key) != type(part).model_fields[key].default:
            raise ValueError(f"{name} has no use for {key}, which is of {', '.join(names)}; leave it out")


class OptimizerConfig(Config):
    """How weights move.

    Attributes:
        name: the rule.
        learning_rate: of everything that no group names. Where neither it nor `groups` is said, what a
            detector with fresh heads has from a file of weights learns at a tenth of it.
        weight_decay: AdamW's is decoupled, the others' is part of the gradient.
        momentum: of SGD.
        nesterov: of SGD.
        betas: of Adam and AdamW.
        groups: learning rates by stage or by prefix of parameter names; the longest that fits wins.
        decay_norms: whether biases and normalisation layers decay too.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    groups: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    decay_norms: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        _refuse_idle(
            self, self.name, {"momentum": ("sgd",), "nesterov": ("sgd",), "betas": ("adam", "adamw")}
        )
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class ScheduleConfig(Config):
    """How learning rates change; a function of the step and of past metrics, so that it needs no state.

    Attributes:
        name: `cosine` falls to `final_factor`; `one-cycle` rises from 1/25 and falls to nothing;
            `plateau` is cut when `metric` stalls; `steps` is cut at given epochs.
        warmup_epochs: linear rise from nothing, for `none`, `cosine`, `plateau` and `steps`.
        final_factor: of the learning rate, at the end of `cosine`.
        rise: share of `one-cycle` spent rising.
        metric: of `plateau`; None for what `monitor` names.
        factor: the cut, of `plateau` and `steps`.
        patience: epochs without gain before `plateau` cuts.
        milestones: epochs after which `steps` cuts.
        min_factor: `plateau` never goes below this share.
    """

    name: Literal["none", "cosine", "one-cycle", "plateau", "steps"] = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0)
    final_factor: float = Field(default=0.0, ge=0, le=1)
    rise: float = Field(default=0.3, gt=0, lt=1)
    metric: str | None = None
    factor: float = Field(default=0.1, gt=0, lt=1)
    patience: int = Field(default=3, ge=0)
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = ()
    min_factor: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        of: dict[str, tuple[str, ...]] = dict.fromkeys(("metric", "patience", "min_factor"), ("plateau",))
        of |= {"final_factor": ("cosine",), "rise": ("one-cycle",), "milestones": ("steps",)}
        of |= {"factor": ("plateau", "steps"), "warmup_epochs": ("none", "cosine", "plateau", "steps")}
        _refuse_idle(self, self.name, of)
        return self


class LossConfig(Config):
    """What is minimised.

    Attributes:
        name: None for the task's: cross-entropy, bce, or mse.
        label_smoothing: of cross-entropy and bce.
        class_weights: `balanced` weighs labels by how rare they are: n / (labels x count) for cross-entropy,
            negatives / positives for bce and focal.
        gamma: of focal.
    """

    name: Literal["cross-entropy", "bce", "focal", "mse", "smooth-l1", "giou"] | None = None
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    gamma: float = Field(default=2.0, ge=0)


class LoggerConfig(Config):
    """A logger of Lightning beside the files every run writes.

    Attributes:
        name: its class there, with or without `Logger`: `mlflow`, `wandb`, `csv`.
        options: its keywords.
    """

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class TrainingConfig(Config):
    """How it is learned.

    Attributes:
        epochs: at most.
        batch_size: images a step and device; `auto` takes the largest that fits, and stores it.
        validation_batch_size: None for the same.
        optimizer: how weights move.
        schedule: how learning rates change.
        loss: what is minimised.
        monitor: the validation metric that decides on the best epoch; None for the task's headline.
        patience: epochs without gain before stopping; None for never.
        min_delta: what counts as gain.
        seed: of everything random.
        precision: mixed precision on devices that have it.
        workers: processes that load images; `auto` decides by the machine.
        start_method: of those processes; None for the platform's own.
        accumulate: batches a step.
        clip_gradient: largest norm of the gradient; None for any.
        ema: decay of an averaged copy of the weights, which is what is validated and exported; None for none.
        balanced_sampling: whether images of rare labels are drawn more often.
        channels_last: memory format that suits convolutions on newer hardware; None for where it is faster.
        batch_norm: `train`, or `frozen`: running statistics stay as loaded, and random layers learn theirs.
        feature_cache: `auto` keeps the features of a frozen trunk where nothing changes them; `on` also where
            augmentation would, which then is left out; `off`.
        devices: how many; with nodes above 1, a node.
        nodes: machines.
        loggers: beside metrics.csv and TensorBoard.
        tensorboard: whether its files are written.
    """

    epochs: int = Field(default=30, ge=1)
    batch_size: int | Literal["auto"] = 32
    validation_batch_size: int | None = Field(default=None, ge=1)
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    monitor: str | None = None
    patience: int | None = Field(default=10, ge=1)
    min_delta: float = Field(default=0.0, ge=0)
    seed: int = Field(default=0, ge=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    workers: int | Literal["auto"] = "auto"
    start_method: Literal["fork", "spawn", "forkserver"] | None = None
    accumulate: int = Field(default=1, ge=1)
    clip_gradient: float | None = Field(default=None, gt=0)
    ema: float | None = Field(default=None, gt=0, lt=1)
    balanced_sampling: bool = False
    channels_last: bool | None = None
    batch_norm: Literal["train", "frozen"] = "train"
    feature_cache: Literal["auto", "on", "off"] = "auto"
    devices: int = Field(default=1, ge=1)
    nodes: int = Field(default=1, ge=1)
    loggers: tuple[LoggerConfig, ...] = ()
    tensorboard: bool = True

    @field_validator("feature_cache", mode="before")
    @classmethod
    def _on_or_off(cls, value: Any) -> Any:
        return (
            {True: "on", False: "off"}[value] if isinstance(value, bool) else value
        )  # YAML's own on and off

    @field_validator("batch_size", "workers")
    @classmethod
    def _not_negative(cls, value: int | str, info: Any) -> int | str:
        smallest = 1 if info.field_name == "batch_size" else 0
        if isinstance(value, int) and value < smallest:
            raise ValueError(f"at least {smallest}, or auto")
        return value


def _holds(value: Any, kind: type) -> bool:
    """Whether a value, or anything in a list or mapping, is of a kind."""
    if isinstance(value, Mapping):
        return any(_holds(inner, kind) for inner in value.values())
    if isinstance(value, list | tuple):
        return any(_holds(inner, kind) for inner in value)
    return isinstance(value, kind)


def _numbers_only(annotation: Any) -> bool:
    """Whether a field takes numbers, and nothing that true or false could be."""
    kinds = set(_kinds(annotation))
    return bool(kinds & {int, float}) and not kinds & {bool, Any}


def _kinds(annotation: Any) -> list[Any]:
    inner = get_args(annotation)
    return [annotation, *(kind for part in inner for kind in _kinds(part))]
