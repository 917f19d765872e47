"""Recipe sections about the network, the data and their augmentation: keys, meanings, ranges, defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from blemish.config.fields import Config, Share
from blemish.config.image_level_options import HeadSpec, Pixels
from blemish.imaging import LIMITS, Limits

SplitName = Literal["train", "val", "test"]
RandomChange = Literal[
    "rotation", "shear", "brightness", "contrast", "saturation", "hue", "hsv_gains", "mixup"
]


def _default_fractions() -> dict[SplitName, float]:
    return {"train": 0.8, "val": 0.2}


class ModelConfig(Config):
    """The network and which of its layers are trained.

    Attributes:
        name: Architecture; `blemish models` lists them.
        weights: `default` for the published pretrained weights, `none` for random weights, or a file.
        weights_license: License of a weights file, as you state it; the model file contains it.
        input_size: Input size in pixels: one number for a square, (height, width), or one number per named
            input. Null for the architecture's own.
        resize: How an image is fitted to the input: `stretch`, `letterbox`, or `shortest` (shorter side to
            `resize_to`, then a center crop). Null for the architecture's own, or `shortest` if `resize_to` is
            set.
        resize_to: Pixels of the shorter side before the center crop of `shortest`.
        trainable: Stages, or prefixes of parameter names, to train; all other layers are frozen. The head is
            always trained. Null trains every layer.
        head: Layers between the pooled features and the outputs. Null for the architecture's own.
        options: Further options of the architecture; see the tables of architecture options.
    """

    name: str = "resnet18"
    weights: str = "default"
    weights_license: str = ""
    input_size: Pixels | tuple[Pixels, Pixels] | dict[str, Pixels] | None = None
    resize: Literal["stretch", "letterbox", "shortest"] | None = None
    resize_to: int | None = Field(default=None, ge=1)
    trainable: tuple[str, ...] | None = None
    head: HeadSpec | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("input_size")
    @classmethod
    def _refuse_empty_mapping(cls, value: Any) -> Any:
        if value == {}:
            raise ValueError("expected pixels, or a number for each named input")
        return value


class SplitConfig(Config):
    """How images are split if the data set has no splits.

    Attributes:
        fractions: Share of the images in each split; they add up to 1.
        seed: Random seed of the split.
        group_by: Images that must stay in one split: `column:NAME`, `pattern:REGEX` or `near-duplicates`.
            Null splits image by image.
        resplit: Whether to draw training and validation images again from both splits of a data set that has
            them; its test split stays as it is. For sets that are evaluated after training on both, such as
            Pascal VOC's trainval.
    """

    fractions: dict[SplitName, float] = Field(default_factory=_default_fractions)
    seed: int = Field(default=0, ge=0)
    group_by: str | None = None
    resplit: bool = False

    @field_validator("fractions")
    @classmethod
    def _check_sum(cls, value: dict[Any, float]) -> dict[Any, float]:
        if any(not 0 < share < 1 for share in value.values()) or abs(sum(value.values()) - 1) > 1e-6:
            raise ValueError("expected fractions between 0 and 1 that add up to 1")
        if not {"train", "val"} <= set(value):
            raise ValueError("expected a fraction for at least train and val")
        return value


class TilesConfig(Config):
    """How large images are cut into tiles before training; for detection and segmentation.

    Attributes:
        size: Side of a tile in pixels of the image.
        overlap: Overlap of neighboring tiles as a share of `size`.
        min_visibility: Share of an object's area that a tile must show for the object to be a target. A
            smaller piece is trained as background; in validation it counts neither as found nor as missed.
        empty_ratio: Maximum number of training tiles without objects, as a share of the number of tiles with
            objects. Validation keeps every tile.
        max_megapixels: Larger images are refused.
    """

    size: int = Field(ge=32)
    overlap: float = Field(default=0.25, ge=0, le=0.9)
    min_visibility: float = Field(default=0.3, gt=0, le=1)
    empty_ratio: float = Field(default=0.5, ge=0)
    max_megapixels: float = Field(default=178, gt=0)

    @property
    def limits(self) -> Limits:
        """Return the size limits for images."""
        return replace(LIMITS, max_pixels=int(self.max_megapixels * 1e6))


class DataConfig(Config):
    """The labeled images.

    Attributes:
        path: Data set: a folder or a file of labels.
        images: Folder that the image paths of a table are relative to. Null for the table's own folder.
        format: Data format. Null detects it.
        options: Further options of the data format, such as the column names of a table.
        split: How images are split if the data set has no splits.
        white_level: Pixel value of 16-bit images that becomes 1.0.
        decode: How images become the input: resized from all of their pixels (`full`), or reduced to a half,
            a quarter or an eighth first (`scaled`), which reads images of 12 megapixels up to three times as
            fast. `auto` trains with `scaled` and compares both on the validation images at the end: the model
            file states `full` if `scaled` falls below the interval of the metric, or reduces no image.
        normalization: Mean and standard deviation of the input: those the pretrained weights were trained
            with (`weights`), ImageNet's, those of the training images (`dataset`), or 0 and 1 (`none`).
        license: License of the data, as you state it; the model file contains it.
        image_cache_gb: Disk space in GB for resized copies of large images; 0 turns the cache off. Detectors
            do not use it.
        memory_cache_gb: Memory in GB for decoded training images of detectors, shared by the processes that
            load them; 0 turns the cache off.
        tiles: How large images are cut into tiles. Null trains on whole images.
    """

    path: str | None = None
    images: str | None = None
    format: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    split: SplitConfig = SplitConfig()
    white_level: int = Field(default=65535, ge=1, le=65535)
    decode: Literal["auto", "full", "scaled"] = "auto"
    normalization: Literal["weights", "imagenet", "dataset", "none"] = "weights"
    license: str = ""
    image_cache_gb: float = Field(default=8.0, ge=0)
    memory_cache_gb: float = Field(default=1.0, ge=0)
    tiles: TilesConfig | None = None


class CropConfig(Config):
    """A random crop that is resized to the input.

    Attributes:
        scale: Smallest and largest area of the crop as a share of the image's area.
        ratio: Smallest and largest aspect ratio (width / height) of the crop.
        min_box_visibility: Share of every box's area that the crop must contain; another crop is drawn
            until it does.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    min_box_visibility: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError("scale: expected two shares of the area, 0 < smallest <= largest <= 1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError("ratio: expected two numbers, 0 < smallest <= largest")
        return self


class TransformConfig(Config):
    """A registered change of the pixels of an image; see `blemish.training.register_transform`.

    Attributes:
        name: Name of the transform: `brightness`, `contrast`, `saturation`, `hue`, or that of a plug-in.
        probability: Probability of applying it to an image.
        options: Options of the transform, such as `max_change` of `brightness`.
    """

    name: str
    probability: Share = 1.0
    options: dict[str, Any] = Field(default_factory=dict)


class WindowConfig(Config):
    """The part of the input that a training image shows, so that a step costs less than the whole input.

    Attributes:
        side: Side of the square window in pixels of the input.
        focus: Probability that the window is placed around an object of the image, each label with the same
            probability; other windows are anywhere in the image.
    """

    side: int = Field(ge=32)
    focus: Share = 0.5


class AugmentationConfig(Config):
    """Random changes of training images; boxes and masks change with them.

    Attributes:
        horizontal_flip: Probability of mirroring left and right.
        vertical_flip: Probability of mirroring top and bottom.
        quarter_turn: Probability of a rotation by 90 degrees; with both flips at 0.5, all eight orientations
            of an image are equally frequent. Classification and multilabel only; needs a square input.
        rotation_degrees: Maximum rotation angle in either direction.
        shear_degrees: Maximum shear angle along each axis, in either direction.
        brightness: Brightness factor, drawn from [1 - x, 1 + x].
        contrast: Contrast factor, drawn from [1 - x, 1 + x].
        saturation: Saturation factor, drawn from [1 - x, 1 + x].
        hue: Hue shift, drawn from [-x, x], where 1 is the whole color circle.
        hsv_gains: Changes in the HSV color space: a shift of the hue drawn from [-h, h], and factors of the
            saturation and the value drawn from [1 - s, 1 + s] and [1 - v, 1 + v]. Null changes nothing.
        random_resized_crop: Random crop that is resized to the input. Null uses the whole image.
        scale_jitter: Smallest and largest scale of the image in its input. Above 1 a part of the image fills
            the input, below 1 the image gets a border. Detection and segmentation only.
        translate: Maximum shift of the image from the center of its input, as a share of the width and of the
            height. Null places a scaled image anywhere in its input. Detection and segmentation only.
        iou_crop: Probability of a crop by its overlap with the boxes, as SSD does. Detection and segmentation
            only.
        zoom_out: Probability of placing the image on a larger canvas. Detection and segmentation only.
        max_zoom_out: Maximum width and height of that canvas, as a multiple of the image's.
        window: Trains on a window of the input instead of the whole input; validation and prediction use the
            whole input. Null trains on the whole input. YOLO only.
        mosaic: Probability of joining four images around a random point, scaled and shifted together by
            `scale_jitter` and `translate`. Detection and segmentation only.
        copy_paste: Probability of pasting objects of another image, cut out along their masks. Segmentation
            only.
        min_visibility: Share of an object's box that must be visible for the object to be a target. Null
            demands its center. Detection and segmentation only.
        close_share: Share of the epochs, the last ones, without `mosaic`, `copy_paste` and, for detection and
            segmentation, `mixup`; at least one epoch before them has all.
        close_steps: Minimum number of optimizer steps in these epochs; a training with fewer steps has none
            of the three.
        mixup: Alpha of the Beta distribution that mixes two images; 0 turns MixUp off. Detectors are trained
            on the objects of both images. Not for localization.
        cutmix: Alpha of the Beta distribution for a pasted rectangle; 0 turns CutMix off. With `mixup`, one
            of both is drawn for each batch. Classification and multilabel only.
        probability: Probability of `rotation`, `shear`, `mixup`, `hsv_gains` or another color change, by its
            name; 1 for names left out.
        transforms: Further changes of the pixels, in this order, after all others.
    """

    horizontal_flip: Share = 0.0
    vertical_flip: Share = 0.0
    quarter_turn: Share = 0.0
    rotation_degrees: float = Field(default=0.0, ge=0, le=180)
    shear_degrees: float = Field(default=0.0, ge=0, le=60)
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: float = Field(default=0.0, ge=0, le=0.5)
    hsv_gains: tuple[Share, Share, Share] | None = None
    random_resized_crop: CropConfig | None = None
    scale_jitter: tuple[float, float] | None = None
    translate: float | None = Field(default=None, ge=0, le=0.5)
    iou_crop: Share = 0.0
    zoom_out: Share = 0.0
    max_zoom_out: float = Field(default=4.0, gt=1)
    window: WindowConfig | None = None
    mosaic: Share = 0.0
    copy_paste: Share = 0.0
    min_visibility: float | None = Field(default=None, gt=0, le=1)
    close_share: float = Field(default=0.1, ge=0, lt=1)
    close_steps: int = Field(default=0, ge=0)
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)
    probability: dict[RandomChange, Share] = Field(default_factory=dict)
    transforms: tuple[TransformConfig, ...] = ()

    @property
    def is_off(self) -> bool:
        """Return whether no single image is changed; MixUp and CutMix change batches of whole images."""
        flips = (self.horizontal_flip, self.vertical_flip, self.quarter_turn)
        probabilities = (*flips, self.iou_crop, self.zoom_out, self.mosaic, self.copy_paste, self.translate)
        geometry = (self.rotation_degrees, self.shear_degrees, self.random_resized_crop, self.scale_jitter)
        colors = (self.brightness, self.contrast, self.saturation, self.hue, self.hsv_gains)
        return not any((*probabilities, *geometry, self.window, *colors, *self.transforms))

    @model_validator(mode="after")
    def _check_scales(self) -> Self:
        if self.scale_jitter is not None and not 0 < self.scale_jitter[0] <= self.scale_jitter[1]:
            raise ValueError("scale_jitter: expected two scales, 0 < smallest <= largest")
        if self.hsv_gains is not None and self.hsv_gains[0] > 0.5:
            raise ValueError("hsv_gains: expected a shift of the hue in [0, 0.5]")
        return self
