"""Networks that answer for the whole image: a backbone's pooled features and a head.

Classification, multilabel and localization differ in the head's width, the outputs' names and the decoder;
a family gives the backbone, its stages and its feature layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn

from blemish.config.image_level_options import IMAGENET_MEAN, IMAGENET_STD, HeadSpec, ImageOptions
from blemish.errors import BadRecipe
from blemish.model_file import DecoderSpec, InputSpec, OutputSpec
from blemish.models._network import Network
from blemish.structures import Task

RESNET_STAGES = {
    "stem": ("conv1", "bn1"),
    "layer1": ("layer1",),
    "layer2": ("layer2",),
    "layer3": ("layer3",),
    "layer4": ("layer4",),
}


class ImageNetwork(Network):
    """One backbone, one input, one head.

    Args:
        backbone: (b, c, h, w) to pooled features (b, `feature_count`).
        feature_count: width of the pooled features.
        stages: the backbone's, by name, prefixes without `backbone.`.
        feature_layers: modules of the backbone, likewise.
    """

    def __init__(
        self,
        backbone: nn.Module,
        feature_count: int,
        *,
        task: Task,
        label_count: int,
        options: ImageOptions,
        inputs: tuple[InputSpec, ...],
        stages: Mapping[str, Sequence[str]],
        feature_layers: Sequence[str],
    ) -> None:
        super().__init__()
        self.task = task
        self.label_count = label_count
        self.inputs = inputs
        self.outputs, self.decoder = answers(task, options)
        self.stages = {
            **{stage: tuple(f"backbone.{p}" for p in prefixes) for stage, prefixes in stages.items()},
            "head": ("head",),
        }
        self.feature_layers = tuple(f"backbone.{name}" for name in feature_layers)
        self.backbone = backbone
        self.head = build_head(feature_count, answer_width(task, label_count), options.head or HeadSpec())

    def features(self, *inputs: Tensor) -> Tensor:
        """(b, f) pooled features: all that the head sees."""
        features: Tensor = self.backbone(inputs[0])
        return features

    def aliases(self, name: str) -> Sequence[str]:
        """What files call one tensor; a head of one layer is `fc` itself."""
        known = tuple(super().aliases(name))
        return (*known, name.replace("head.0.", "fc.")) if len(self.head) == 1 else known

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Raw outputs for a batch: (b, L) logits, or (b, 4) a box."""
        return (self.head(self.features(*inputs)),)


def answer_width(task: Task, label_count: int) -> int:
    """How many numbers the head gives an image.

    Raises:
        BadRecipe: labels that cannot be told apart.
    """
    if task.has_one_box:
        return 4
    if label_count < (2 if task.has_one_label else 1):
        raise BadRecipe(f"{task} needs at least two labels, and the data hold {label_count}")
    return label_count


def answers(task: Task, options: ImageOptions) -> tuple[tuple[OutputSpec, ...], DecoderSpec]:
    """The outputs and the decoder of an image-level task."""
    if not task.has_one_box:
        return (OutputSpec(name="logits", role="scores", activation="logits"),), DecoderSpec(name="scores")
    settings: dict[str, object] = {"box_format": "xywh", "normalized": True}
    if options.box_scale == "coord_max":
        if options.coord_max is None:
            raise BadRecipe(
                "box_scale: coord_max needs coord_max, the largest coordinate of the set in pixels; "
                "training fills it in, so leave it out of the recipe and train"
            )
        settings = {"box_format": "xywh", "coord_max": options.coord_max}
    return (OutputSpec(name="box", role="box"),), DecoderSpec(name="point", settings=settings)


def image_input(
    options: ImageOptions,
    *,
    name: str = "image",
    size_hw: tuple[int, int] = (224, 224),
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> InputSpec:
    """How an image becomes one input, from the options and the family's own defaults.

    Raises:
        BadRecipe: mean and std that are not three numbers.
    """
    mean, std = options.mean or tuple(mean), options.std or tuple(std)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise BadRecipe(f"mean and std are three numbers each, std above 0, not {list(mean)} and {list(std)}")
    by_name = {key: getattr(options, key) for key in ("resize", "resize_to", "interpolation")}
    for key, value in by_name.items():
        if isinstance(value, dict):  # inputs that are not named keep the default
            by_name[key] = value.get(name, ImageOptions.model_fields[key].default)
    return InputSpec(
        name=name,
        size_hw=options.size_hw(name, size_hw),
        mean=tuple(mean),
        std=tuple(std),
        white_level=options.white_level,
        **by_name,
    )


_ACTIVATIONS: dict[str, type[nn.Module] | None] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "none": None,
}
_NORMS: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}


def build_head(feature_count: int, answer_count: int, spec: HeadSpec) -> nn.Sequential:
    """Dropout, linear, norm, activation for each hidden layer; dropout and a linear layer at the end.

    Layers that do nothing are left out, so that the keys are those of the same head written by hand.

    Example:
        >>> head = build_head(512, 6, HeadSpec(hidden=(256,), dropout=(0.5, 0.3)))
        >>> [type(layer).__name__ for layer in head]
        ['Dropout', 'Linear', 'ReLU', 'Dropout', 'Linear']
    """
    widths = (feature_count, *spec.hidden, answer_count)
    layers: list[nn.Module] = []
    for position, (before, after) in enumerate(pairwise(widths)):
        if spec.dropout[position] > 0:
            layers.append(nn.Dropout(spec.dropout[position]))
        layers.append(nn.Linear(before, after))
        if position < len(spec.hidden):
            if spec.norm is not None:
                layers.append(_NORMS[spec.norm](after))
            activation = _ACTIVATIONS[spec.activation]
            if activation is not None:
                layers.append(activation())
    return nn.Sequential(*layers)


def stages_of(module: nn.Module, skip: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """The stages of a backbone nobody described: its children, a list of blocks counting one by one.

    Args:
        module: the backbone.
        skip: children without interest.

    Returns:
        Prefixes by stage, covering every parameter exactly once.
    """
    stages: dict[str, tuple[str, ...]] = {}
    for name, child in module.named_children():
        if name in skip or not any(True for _ in child.parameters()):
            continue
        blocks = isinstance(child, nn.Sequential | nn.ModuleList) and name in _BLOCK_LISTS
        if not blocks:
            stages[name] = (name,)
            continue
        for inner, block in child.named_children():
            if any(True for _ in block.parameters()):
                stages[f"{name}.{inner}"] = (f"{name}.{inner}",)
    loose = tuple(name for name, _ in module.named_parameters(recurse=False))
    return {"embedding": loose, **stages} if loose else stages


_BLOCK_LISTS = {"stages", "blocks", "layers", "features"}
