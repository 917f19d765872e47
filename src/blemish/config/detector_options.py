"""Options of detectors in a recipe (`model.options`); read without torch."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from blemish.config.architecture_options import ArchitectureOptions
from blemish.config.image_level_options import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Finite,
    Pixels,
    Positive,
    Resize,
)
from blemish.model_file import InputSpec, Interpolation
from blemish.pretrained import MEAN as LITE_MEAN
from blemish.pretrained import PRETRAINED
from blemish.pretrained import STD as LITE_STD


class DetectorOptions(ArchitectureOptions):
    """Options of every detector.

    Attributes:
        input_size: Input size in pixels: one number for a square, or (height, width). Null for the
            architecture's own.
        resize: How an image is fitted to the input; see `model.resize`. Null for the architecture's own.
        resize_to: Pixels of the shorter side for `shortest`.
        interpolation: Pillow's resampling filter, antialiased; or `linear-plain`, OpenCV's linear filter
            without antialiasing, which YOLO and RF-DETR were trained with.
        mean: Mean of each channel, of values in [0, 1]. Null for that of the pretrained weights.
        std: Standard deviation of each channel. Null for that of the pretrained weights.
        white_level: Pixel value of 16-bit images that becomes 1.0.
        min_score: Minimum score of a detection; detections below it are never returned.
        nms_iou: NMS threshold: of two boxes of one label that overlap by more, the one with the lower score
            is removed.
        max_detections: Maximum number of detections per image.
    """

    input_size: Pixels | tuple[Pixels, Pixels] | None = None
    resize: Resize | None = None
    resize_to: int | None = Field(default=None, ge=1)
    interpolation: Interpolation = "bilinear"
    mean: tuple[Finite, Finite, Finite] | None = None
    std: tuple[Positive, Positive, Positive] | None = None
    white_level: int = Field(default=65535, ge=1)
    min_score: float = Field(default=0.01, ge=0, lt=1)
    nms_iou: float = Field(default=0.5, gt=0, le=1)
    max_detections: int = Field(default=100, ge=1)

    def input_spec(self, default_hw: tuple[int, int], resize: Resize, **fixed: Any) -> InputSpec:
        """Return how an image becomes the input.

        Args:
            default_hw: height and width in pixels if the recipe sets no size.
            resize: the architecture's way of resizing.
            fixed: further fields of the input; `mean` and `std` are defaults.
        """
        size = self.input_size
        size_hw = default_hw if size is None else (size, size) if isinstance(size, int) else size
        mean, std = fixed.pop("mean", IMAGENET_MEAN), fixed.pop("std", IMAGENET_STD)
        return InputSpec(
            size_hw=size_hw,
            resize=self.resize or resize,
            resize_to=self.resize_to,
            interpolation=self.interpolation,
            mean=self.mean or mean,
            std=self.std or std,
            white_level=self.white_level,
            **fixed,
        )


class SSDOptions(DetectorOptions):
    """Further options of SSD.

    Attributes:
        backbone: A timm model with feature maps at strides 8, 16 and 32, `torchvision/NAME`, or
            `efficientnet-lite0`, `-lite1` or `-lite2`. Null for the one in the architecture's name.
        scales: Scales of the default boxes: one more than there are feature maps.
        aspect_ratios: Aspect ratios of the default boxes, a list per feature map.
        match_iou: Minimum IoU of a default box and an object for the box to be a positive example.
        neg_pos_ratio: Hard negative mining: background boxes per positive box.
        variances: Scales of the regression targets of the center and of the size.
    """

    nms_iou: float = Field(default=0.45, gt=0, le=1)
    max_detections: int = Field(default=200, ge=1)
    backbone: str | None = None
    scales: tuple[Positive, ...] = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
    aspect_ratios: tuple[tuple[Positive, ...], ...] = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
    match_iou: float = Field(default=0.5, gt=0, le=1)
    neg_pos_ratio: float = Field(default=3.0, gt=0)
    variances: tuple[Positive, Positive] = (0.1, 0.2)

    @model_validator(mode="after")
    def _check_maps(self) -> Self:
        if len(self.aspect_ratios) != 6:
            raise ValueError(f"aspect_ratios: expected 6 lists, one per map, got {len(self.aspect_ratios)}")
        if len(self.scales) != 7:
            raise ValueError(f"scales: expected 7 values, one more than maps, got {len(self.scales)}")
        return self


class TorchvisionSSDOptions(DetectorOptions):
    """Further options of torchvision's SSDs, whose input size is fixed.

    Attributes:
        nms_iou: NMS threshold. Null for torchvision's own.
        match_iou: Minimum IoU of a default box and an object for the box to be a positive example.
        neg_pos_ratio: Hard negative mining: background boxes per positive box.
    """

    nms_iou: float | None = Field(default=None, gt=0, le=1)  # type: ignore[assignment]
    max_detections: int = Field(default=200, ge=1)
    match_iou: float = Field(default=0.5, gt=0, le=1)
    neg_pos_ratio: float = Field(default=3.0, gt=0)

    @model_validator(mode="after")
    def _refuse_input_size(self) -> Self:
        if self.input_size is not None:
            raise ValueError("the default boxes of this SSD fit one input size. Remove input_size")
        return self


class RCNNOptions(DetectorOptions):
    """Further options of Faster R-CNN and Mask R-CNN.

    Attributes:
        trainable_backbone_layers: Number of trained backbone layers, 0 to 5, counted from the last; the other
            layers are frozen. A backbone with random weights is always trained.
        anchor_sizes: Side of the square anchor in pixels on each map, from stride 4 to stride 64.
        aspect_ratios: Aspect ratios (height / width) of the anchors on every map.
        proposals: Proposals per image that the first stage passes on; twice as many in training.
        sampled_proposals: Proposals per image that the second stage is trained on.
    """

    trainable_backbone_layers: int = Field(default=3, ge=0, le=5)
    anchor_sizes: tuple[Positive, Positive, Positive, Positive, Positive] = (32, 64, 128, 256, 512)
    aspect_ratios: tuple[Positive, ...] = Field(default=(0.5, 1.0, 2.0), min_length=1)
    proposals: int = Field(default=1000, ge=1)
    sampled_proposals: int = Field(default=512, ge=1)


class YOLOOptions(DetectorOptions):
    """Further options of YOLO; the NMS defaults are those of Ultralytics.

    Attributes:
        multi_label: Whether a box may have several labels, each with its own score, instead of its best label
            only: a dent that is also scratched is found under both labels.
        class_channels: Channels of the hidden layers of the branch for labels. Null for those of the weights
            file, so that these layers are loaded too; without one, Ultralytics' rule for the number of
            labels.
    """

    nms_iou: float = Field(default=0.7, gt=0, le=1)
    max_detections: int = Field(default=300, ge=1)
    min_score: float = Field(default=0.001, ge=0, lt=1)
    multi_label: bool = False
    class_channels: int | None = Field(default=None, ge=16, le=1024)


class YOLO26Options(YOLOOptions):
    """Options of YOLO26, which has no NMS and takes neither `nms_iou` nor `multi_label`."""

    @model_validator(mode="after")
    def _refuse_nms(self) -> Self:
        for name in ("nms_iou", "multi_label"):
            if name in self.model_fields_set:
                raise ValueError(f"YOLO26 has no NMS, and its boxes may have several labels. Remove {name}")
        return self


class RFDETROptions(DetectorOptions):
    """Further options of RF-DETR, which has no NMS and takes no `nms_iou`.

    Attributes:
        queries: Maximum number of objects per image. Null for the architecture's own; fewer train faster.
        query_groups: Groups of queries that are trained in parallel; prediction uses the first. Null for the
            package's 13, which take most of the time of a training step on a CPU.
    """

    max_detections: int = Field(default=300, ge=1)
    queries: int | None = Field(default=None, ge=1)
    query_groups: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _refuse_nms(self) -> Self:
        if "nms_iou" in self.model_fields_set:
            raise ValueError("RF-DETR has no NMS. Remove nms_iou")
        return self


class HybridOptions(DetectorOptions):
    """Further options of the hybrid; the detector has the input size, the resizing and the NMS.

    Attributes:
        detector: Architecture of the detector.
        detector_options: Options of the detector.
        mask_architecture: Segmentation network, of segmentation_models_pytorch.
        encoder: Its encoder, of segmentation_models_pytorch, or `efficientnet-lite0`, `-lite1` or `-lite2`.
        mask_size: Input size of the segmentation network in pixels: one number, or (height, width).
    """

    detector: str = "yolov8s"
    detector_options: dict[str, Any] = Field(default_factory=dict)
    mask_architecture: Literal["unetplusplus", "unet", "fpn"] = "unetplusplus"
    encoder: str = "resnet50"
    mask_size: Pixels | tuple[Pixels, Pixels] = 512

    def normalization(self) -> dict[str, Any]:
        """Return mean and standard deviation of the encoder's input."""
        own = (LITE_MEAN, LITE_STD) if self.encoder in PRETRAINED else (IMAGENET_MEAN, IMAGENET_STD)
        return {"mean": self.mean or own[0], "std": self.std or own[1]}
