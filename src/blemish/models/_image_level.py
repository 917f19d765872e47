"""Networks with one output for the whole image: the pooled features of a backbone, and a head.

The tasks differ in the width of the head, the names of the outputs and the decoder; a family of architectures
defines the backbone, its stages and its feature layers.
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
    """A network with one backbone, one input and one head.

    Args:
        backbone: maps (b, c, h, w) to pooled features (b, `feature_count`).
        feature_count: width of the pooled features.
        task: the task to build it for.
        label_count: number of labels.
        options: of the recipe.
        inputs: how an image becomes the input.
        stages: of the backbone, by name; prefixes without `backbone.`.
        feature_layers: names of modules of the backbone, without `backbone.`.
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
        self.outputs, self.decoder = output_specs(task, options)
        self.stages = {
            **{stage: tuple(f"backbone.{p}" for p in prefixes) for stage, prefixes in stages.items()},
            "head": ("head",),
        }
        self.feature_layers = tuple(f"backbone.{name}" for name in feature_layers)
        self.backbone = backbone
        self.head = build_head(feature_count, output_width(task, label_count), options.head or HeadSpec())

    def features(self, *inputs: Tensor) -> Tensor:
        """Return (b, f) pooled features, the input of the head."""
        features: Tensor = self.backbone(inputs[0])
        return features

    def aliases(self, name: str) -> Sequence[str]:
        """Return the names that files use for a tensor; files call a head of one layer `fc`."""
        names = tuple(super().aliases(name))
        return (*names, name.replace("head.0.", "fc.")) if len(self.head) == 1 else names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return (b, L) logits, or (b, 4) boxes for localization."""
        return (self.head(self.features(*inputs)),)


def output_width(task: Task, label_count: int) -> int:
    """Return the number of outputs of the head.

    Raises:
        BadRecipe: fewer labels than the task needs ("bad-recipe.too-few-labels").
    """
    if task.has_one_box:
        return 4
    if label_count < task.fields.min_labels:
        raise BadRecipe(
            f"{task}: expected data with at least {task.fields.min_labels} labels, got {label_count}",
            reason="too-few-labels",
        )
    return label_count


def output_specs(task: Task, options: ImageOptions) -> tuple[tuple[OutputSpec, ...], DecoderSpec]:
    """Return the outputs and the decoder of an image-level network.

    Raises:
        BadRecipe: `box_scale` is `coord_max` and `coord_max` is not known ("bad-recipe.missing-option").
    """
    if not task.has_one_box:
        return (OutputSpec(name="logits", role="scores", activation="logits"),), DecoderSpec(name="scores")
    settings: dict[str, object] = {"box_format": "xywh", "normalized": True}
    if options.box_scale == "coord_max":
        if options.coord_max is None:
            raise BadRecipe(
                "the option box_scale=coord_max needs the option coord_max, the largest coordinate of the "
                "data in pixels. Training measures it; elsewhere, set it.",
                reason="missing-option",
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
    """Return how an image becomes one input of the network.

    Args:
        options: of the recipe.
        name: of the input.
        size_hw: the family's default height and width in pixels.
        mean: the family's default mean of each channel, of values in [0, 1].
        std: the family's default standard deviation of each channel.

    Raises:
        BadRecipe: `mean` or `std` are not three numbers ("bad-recipe.invalid-option").
    """
    mean, std = options.mean or tuple(mean), options.std or tuple(std)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise BadRecipe(
            f"options mean and std: expected three numbers each, std above 0, got {list(mean)}, {list(std)}",
            reason="invalid-option",
        )
    by_name = {key: getattr(options, key) for key in ("resize", "resize_to", "interpolation")}
    for key, value in by_name.items():
        if isinstance(value, dict):  # inputs that the mapping does not name keep the default
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
_BLOCK_LISTS = {"stages", "blocks", "layers", "features"}
_NORMS: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}


def build_head(feature_count: int, output_count: int, spec: HeadSpec) -> nn.Sequential:
    """Return dropout, linear, norm and activation for each hidden layer, then dropout and a linear layer.

    Layers without effect are left out, so that the state dict has the keys of the same head written by hand.

    Example:
        >>> head = build_head(512, 6, HeadSpec(hidden=(256,), dropout=(0.5, 0.3)))
        >>> [type(layer).__name__ for layer in head]
        ['Dropout', 'Linear', 'ReLU', 'Dropout', 'Linear']
    """
    widths = (feature_count, *spec.hidden, output_count)
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


def stages_of(backbone: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return the stages of any backbone: its children, and each block of a child that is a list of blocks.

    Returns:
        Module-name prefixes by stage; they cover every parameter exactly once.
    """
    stages: dict[str, tuple[str, ...]] = {}
    for name, child in backbone.named_children():
        if not any(True for _ in child.parameters()):
            continue
        if name not in _BLOCK_LISTS or not isinstance(child, nn.Sequential | nn.ModuleList):
            stages[name] = (name,)
            continue
        for inner, block in child.named_children():
            if any(True for _ in block.parameters()):
                stages[f"{name}.{inner}"] = (f"{name}.{inner}",)
    own = tuple(name for name, _ in backbone.named_parameters(recurse=False))
    return {"embedding": own, **stages} if own else stages
