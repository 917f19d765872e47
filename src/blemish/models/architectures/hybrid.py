"""The hybrid: boxes from any detector of the registry, masks from U-Net++ on the whole image.

Both look at the image at a size of their own, learn together and stand in one graph. U-Net++ says for
every pixel which labels hold, one channel a label; a detection's mask is its label's channel inside its box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from blemish.config.architectures import describe
from blemish.config.detector_options import HybridOptions
from blemish.errors import BadRecipe, MissingExtra, UnknownName
from blemish.model_file import DecoderSpec, InputSpec, OutputSpec
from blemish.models._build import create
from blemish.models._network import Network
from blemish.models._weights import RESNET_FILES, from_torchvision
from blemish.structures import Task

# The hybrid passes these options to its detector; all other options of the detector are in `detector_options`.
DETECTOR_OPTIONS = {
    *("input_size", "resize", "resize_to", "interpolation", "white_level"),
    *("min_score", "nms_iou", "max_detections"),
}


class Hybrid(Network):
    """A detector, and U-Net++ beside it.

    Inputs are the detector's and `mask_image`, the image stretched. Outputs are the detector's and
    `label_maps` (b, L, h, w), logits over the whole image.
    """

    owns_loss = True
    mask_input = 1  # targets' masks are drawn in pixels of this input
    weight_parts = ("detector.", "masks.encoder.")

    def __init__(self, *, label_count: int, options: HybridOptions) -> None:
        super().__init__()
        smp = _import_smp()
        within = describe(options.detector)
        if Task.DETECTION not in within.tasks:
            raise BadRecipe(f"model.options.detector: {options.detector} finds no boxes; take a detector")
        self.code_license = f"{within.license}; MIT (segmentation_models_pytorch)"
        self.weights_license = within.weights_license
        if options.encoder in RESNET_FILES:
            self.weights_license += "; BSD-3-Clause (torchvision's encoder)"
        self.task, self.label_count = Task.SEGMENTATION, label_count
        passed = {name: getattr(options, name) for name in options.model_fields_set & DETECTOR_OPTIONS}
        settings = {**options.detector_options, **{k: v for k, v in passed.items() if v is not None}}
        self.detector = create(options.detector, task=Task.DETECTION, label_count=label_count, **settings)
        if options.encoder not in smp.encoders.get_encoder_names():
            raise UnknownName(
                "encoder", options.encoder, smp.encoders.get_encoder_names(), where="model.options.encoder"
            )
        build = {"unetplusplus": smp.UnetPlusPlus, "unet": smp.Unet, "fpn": smp.FPN}[
            options.mask_architecture
        ]
        try:
            self.masks = build(options.encoder, encoder_weights=None, classes=label_count)
        except ValueError as error:
            raise BadRecipe(
                f"model.options.encoder: {options.mask_architecture} cannot be built on {options.encoder}; "
                "take another, such as resnet50"
            ) from error
        first = self.detector.inputs[0]
        size = options.mask_size
        size_hw = (size, size) if isinstance(size, int) else size
        if any(side % 32 for side in size_hw):
            raise BadRecipe(f"model.options.mask_size: {size_hw[0]} x {size_hw[1]}; take multiples of 32")
        second = InputSpec(
            name="mask_image",
            size_hw=size_hw,
            resize="stretch",
            interpolation=first.interpolation,
            white_level=first.white_level,
            **options.normalization(),
        )
        self.inputs = (first, second)
        maps = OutputSpec(name="label_maps", role="label_maps", activation="logits")
        self.outputs = (*self.detector.outputs, maps)
        decoder = self.detector.decoder
        self.decoder = DecoderSpec(name="label-maps", settings={"boxes": decoder.name, **decoder.settings})
        self.stages = {
            "detector": ("detector",),
            "encoder": ("masks.encoder",),
            "head": ("masks.decoder", "masks.segmentation_head"),
        }
        self.feature_layers = tuple(f"detector.{layer}" for layer in self.detector.feature_layers)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The detector's answers and the label maps."""
        return (*self.detector(inputs[0]), self.masks(inputs[1]))

    def loss(self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """The detector's losses, and `mask_loss`: Dice + BCE of the label maps."""
        parts = self.detector.loss(inputs[:1], targets)
        logits = self.masks(inputs[1]).float()
        wanted = torch.stack([label_maps(t, self.label_count, logits) for t in targets])
        parts["mask_loss"] = functional.binary_cross_entropy_with_logits(logits, wanted) + dice_loss(
            logits, wanted
        )
        return parts

    def aliases(self, name: str) -> Sequence[str]:
        """A file of the detector's, or of the encoder's, leaves our first word out."""
        if name.startswith("detector."):
            return (name, *self.detector.tensor_names(name.removeprefix("detector.")))
        return (name, name.removeprefix("masks.encoder."))

    def on_weights_loaded(self) -> None:
        """The detector's part of what was loaded is the detector's to know."""
        ours = (name for name in self.loaded if name.startswith("detector."))
        self.detector.loaded = frozenset(name.removeprefix("detector.") for name in ours)
        self.detector.on_weights_loaded()

    def read_state(self, path: Path) -> dict[str, Tensor]:
        """As the detector reads it."""
        return self.detector.read_state(path)


def label_maps(target: Mapping[str, Tensor], label_count: int, like: Tensor) -> Tensor:
    """(L, h, w): 1 where any object of a label lies."""
    height, width = like.shape[2:]
    maps = like.new_zeros(label_count, height, width)
    labels = target.get("mask_labels", target["labels"])
    for label, mask in zip(labels.tolist(), target["masks"], strict=True):
        maps[label] = torch.maximum(maps[label], mask.to(maps))
    return maps


def dice_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """() 1 - Dice over the pixels of the batch, mean over the labels that stand in it; 0 where none does.

    Source:
        Milletari et al. 2016, with a soft intersection; equals segmentation_models_pytorch's DiceLoss in
        its multilabel mode, whose labels without truth count 0 towards the mean over all labels.
    """
    share = logits.sigmoid()
    both = (share * wanted).sum((0, 2, 3))
    either = (share + wanted).sum((0, 2, 3)).clamp(min=1e-7)
    held = wanted.sum((0, 2, 3)) > 0
    return ((1 - 2 * both / either) * held).sum() / held.sum().clamp(min=1)


def build(name: str, *, task: Task, label_count: int, options: HybridOptions) -> Hybrid:
    """Return the network with random weights."""
    return Hybrid(label_count=label_count, options=options)


def default_weights(
    name: str,
    *,
    detector: str = "yolov8s",
    detector_options: Mapping[str, Any] | None = None,
    encoder: str = "resnet50",
) -> tuple[Path, ...]:
    """Return the detector's files, and the encoder's if torchvision publishes it; other encoders start random."""
    _import_smp()  # a missing extra is reported before anything is downloaded
    files = describe(detector).default_weight_files(detector, detector_options or {})
    if encoder not in RESNET_FILES:
        return files
    file = from_torchvision(*RESNET_FILES[encoder])
    return files if file in files else (*files, file)


def _import_smp() -> Any:
    try:
        import segmentation_models_pytorch
    except ImportError as error:
        raise MissingExtra("segment", "the hybrid") from error
    return segmentation_models_pytorch
