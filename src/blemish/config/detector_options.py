"""What a recipe may ask of a detector; torch-free, because recipes are read without it."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from blemish.config.image_level_options import IMAGENET_MEAN, IMAGENET_STD, Finite, HeadSpec, Pixels, Positive
from blemish.errors import BadRecipe, suggestion
from blemish.model_file import InputSpec

Resize = Literal["stretch", "letterbox", "shortest"]


class DetectorOptions(BaseModel):
    """What every detector takes.

    Attributes:
        input_size: pixels: one number for a square, or (height, width); None for the architecture's.
        resize: how an image becomes the input; None for the architecture's way.
        resize_to: pixels, for `shortest`.
        interpolation: Pillow's antialiased filter.
        mean: per channel, of values in [0, 1]; None for that of the architecture's weights.
        std: likewise.
        white_level: what counts as 1.0 in 16-bit images.
        head: only None: a detector's heads are its own.
        score_floor: no box below it leaves the decoder.
        suppress_iou: of two boxes of one label that overlap by more, the lower goes.
        max_detections: an image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_size: Pixels | tuple[Pixels, Pixels] | None = None
    resize: Resize | None = None
    resize_to: int | None = Field(default=None, ge=1)
    interpolation: Literal["bilinear", "bicubic", "lanczos", "box"] = "bilinear"
    mean: tuple[Finite, Finite, Finite] | None = None
    std: tuple[Positive, Positive, Positive] | None = None
    white_level: int = Field(default=65535, ge=1)
    head: HeadSpec | None = None
    score_floor: float = Field(default=0.01, ge=0, lt=1)
    suppress_iou: float = Field(default=0.5, gt=0, le=1)
    max_detections: int = Field(default=100, ge=1)

    @classmethod
    def of(cls, architecture: str, options: dict[str, Any]) -> Self:
        """The options, checked.

        Raises:
            BadRecipe: an option that does not exist or cannot be; the message offers the nearest.
        """
        for name in options:
            if name not in cls.model_fields:
                raise BadRecipe(f"{architecture} has no option {name!r}{suggestion(name, cls.model_fields)}")
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(x) for x in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            where = f"option {place}: " if place else ""  # of several options at once it says which itself
            raise BadRecipe(f"{architecture}: {where}{reason}") from None

    @model_validator(mode="after")
    def _no_head(self) -> Self:
        if self.head is not None:
            raise ValueError("a detector's heads are its own; leave model.head out")
        return self

    def input_spec(self, default_hw: tuple[int, int], resize: Resize, **fixed: Any) -> InputSpec:
        """How an image becomes the input, the architecture's ways where the recipe says nothing."""
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
    """What SSD takes besides.

    Attributes:
        backbone: a name of timm's with maps at strides 8, 16 and 32, or `torchvision/NAME`.
        scales: one more than there are maps; see `anchors.default_boxes`.
        aspect_ratios: a list a map.
        min_iou: from which a default box answers for a truth.
        negatives_a_positive: how many of the worst background boxes are learned from, a positive box.
        variances: of centre and size.
    """

    suppress_iou: float = Field(default=0.45, gt=0, le=1)
    max_detections: int = Field(default=200, ge=1)
    backbone: str = "resnet50"
    scales: tuple[Positive, ...] = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
    aspect_ratios: tuple[tuple[Positive, ...], ...] = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
    min_iou: float = Field(default=0.5, gt=0, le=1)
    negatives_a_positive: float = Field(default=3.0, gt=0)
    variances: tuple[Positive, Positive] = (0.1, 0.2)

    @model_validator(mode="after")
    def _maps(self) -> Self:
        if len(self.aspect_ratios) != 6:
            raise ValueError(f"aspect_ratios has {len(self.aspect_ratios)} rows, and this SSD has 6 maps")
        if len(self.scales) != 7:
            raise ValueError(f"scales has {len(self.scales)} values; give 7, one more than there are maps")
        return self


class TorchvisionSSDOptions(DetectorOptions):
    """What torchvision's own SSDs take besides; their input's size is fixed.

    Attributes:
        suppress_iou: None for what torchvision suppresses with.
        min_iou: from which a default box answers for a truth.
        negatives_a_positive: how many of the worst background boxes are learned from, a positive box.
    """

    suppress_iou: float | None = Field(default=None, gt=0, le=1)  # type: ignore[assignment]
    max_detections: int = Field(default=200, ge=1)
    min_iou: float = Field(default=0.5, gt=0, le=1)
    negatives_a_positive: float = Field(default=3.0, gt=0)

    @model_validator(mode="after")
    def _fixed(self) -> Self:
        if self.input_size is not None:
            raise ValueError("this SSD's default boxes belong to one size; leave input_size out")
        return self


class RCNNOptions(DetectorOptions):
    """What Faster and Mask R-CNN take besides.

    Attributes:
        trainable_backbone_layers: 0 to 5, counted from the last; the rest of the backbone never changes.
            Where no weights were loaded, all learn.
        anchor_sizes: side of the square anchor in pixels, one a map from stride 4 to 64.
        aspect_ratios: height / width of the anchors of every map.
        proposals: that the first stage hands to the second, an image; in training twice as many.
        learned_proposals: of them, how many the second stage learns from, an image.
    """

    trainable_backbone_layers: int = Field(default=3, ge=0, le=5)
    anchor_sizes: tuple[Positive, Positive, Positive, Positive, Positive] = (32, 64, 128, 256, 512)
    aspect_ratios: tuple[Positive, ...] = Field(default=(0.5, 1.0, 2.0), min_length=1)
    proposals: int = Field(default=1000, ge=1)
    learned_proposals: int = Field(default=512, ge=1)


class YOLOOptions(DetectorOptions):
    """What YOLO takes besides; Ultralytics' own defaults for suppression."""

    suppress_iou: float = Field(default=0.7, gt=0, le=1)
    max_detections: int = Field(default=300, ge=1)
    score_floor: float = Field(default=0.001, ge=0, lt=1)


class RFDETROptions(DetectorOptions):
    """What RF-DETR takes besides; it suppresses nothing, so it takes no `suppress_iou`.

    Attributes:
        queries: objects it can find in an image; None for the architecture's number. Fewer learn faster.
        query_groups: sets of queries that learn side by side, of which prediction keeps the first; None for
            the package's 13. Most of the time of a step on a processor is theirs.
    """

    max_detections: int = Field(default=300, ge=1)
    queries: int | None = Field(default=None, ge=1)
    query_groups: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _a_set(self) -> Self:
        if "suppress_iou" in self.model_fields_set:
            raise ValueError("RF-DETR suppresses nothing; leave suppress_iou out")
        return self


class HybridOptions(DetectorOptions):
    """What the hybrid takes besides; sizes, ways to resize and what is kept of the boxes are the detector's.

    Attributes:
        detector: registry name of what finds the boxes.
        detector_options: its own.
        mask_architecture: of segmentation_models_pytorch.
        encoder: likewise.
        mask_size: pixels of the image that the masks are made from: a number or (height, width).
    """

    detector: str = "yolov8s"
    detector_options: dict[str, Any] = Field(default_factory=dict)
    mask_architecture: Literal["unetplusplus", "unet", "fpn"] = "unetplusplus"
    encoder: str = "resnet50"
    mask_size: Pixels | tuple[Pixels, Pixels] = 512

    def normalization(self) -> dict[str, Any]:
        """Mean and standard deviation of the encoder's input."""
        return {"mean": self.mean or IMAGENET_MEAN, "std": self.std or IMAGENET_STD}
