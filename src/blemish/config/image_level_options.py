"""Options of image-level architectures in a recipe (`model.options`); read without torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from blemish.config.architecture_options import ArchitectureOptions
from blemish.model_file import Interpolation

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Pixels = Annotated[int, Field(ge=1, le=2**15)]  # one side of an input
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Resize = Literal["stretch", "letterbox", "shortest"]


class HeadSpec(BaseModel):
    """The layers between the pooled features and the outputs.

    Attributes:
        hidden: Widths of the hidden layers; none gives a single linear layer.
        dropout: Dropout rate before each linear layer; one number applies to all of them.
        activation: Activation after each hidden layer.
        norm: Normalization between a hidden layer and its activation: `layer` or `batch`. Null for none.

    Example:
        >>> HeadSpec(hidden=[256], dropout=[0.5, 0.3]).dropout
        (0.5, 0.3)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: tuple[int, ...] = ()
    dropout: tuple[float, ...] = (0.0,)
    activation: Literal["relu", "gelu", "silu", "none"] = "relu"
    norm: Literal["layer", "batch"] | None = None

    @field_validator("dropout", mode="before")
    @classmethod
    def _number_to_tuple(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _check_layers(self) -> Self:
        if any(width < 1 for width in self.hidden):
            raise ValueError("hidden: expected widths of at least 1")
        if any(not 0 <= p < 1 for p in self.dropout):
            raise ValueError("dropout: expected rates in [0, 1)")
        layers = len(self.hidden) + 1
        if len(self.dropout) == 1:
            object.__setattr__(self, "dropout", self.dropout * layers)
        if len(self.dropout) != layers:
            raise ValueError(f"dropout: expected one number, or {layers}: one before each linear layer")
        return self


class ImageOptions(ArchitectureOptions):
    """Options of every image-level architecture.

    Attributes:
        input_size: Input size in pixels: one number for a square, (height, width), or one number per named
            input. Null for the architecture's own.
        head: Layers between the pooled features and the outputs. Null for the architecture's own.
        mean: Mean of each channel, of values in [0, 1]. Null for that of the pretrained weights.
        std: Standard deviation of each channel. Null for that of the pretrained weights.
        resize: How an image is fitted to the input, for all inputs or per named input; see `model.resize`.
        resize_to: Pixels of the shorter side for `shortest`, for all inputs or per named input.
        interpolation: Pillow's resampling filter, antialiased; or `linear-plain`, OpenCV's linear filter
            without antialiasing. For all inputs or per named input.
        white_level: Pixel value of 16-bit images that becomes 1.0.
        box_scale: What the coordinates of a predicted box are divided by: `image` for its width and height,
            `coord_max` for the largest coordinate of the data set. Localization only.
        coord_max: The largest coordinate for `coord_max`, in pixels. Null measures it.
    """

    input_size: Pixels | tuple[Pixels, Pixels] | dict[str, Pixels] | None = None
    head: HeadSpec | None = None
    mean: tuple[Finite, ...] | None = None
    std: tuple[Positive, ...] | None = None
    resize: Resize | dict[str, Resize] = "stretch"
    resize_to: Pixels | dict[str, Pixels] | None = None
    interpolation: Interpolation | dict[str, Interpolation] = "bilinear"
    white_level: int = Field(default=65535, ge=1, le=65535)
    box_scale: Literal["image", "coord_max"] = "image"
    coord_max: float | None = Field(default=None, gt=0)

    def size_hw(self, input_name: str, default: tuple[int, int]) -> tuple[int, int]:
        """Return height and width in pixels of one named input."""
        size = self.input_size
        if isinstance(size, dict):
            size = size.get(input_name)
        if size is None:
            return default
        return (size, size) if isinstance(size, int) else size
