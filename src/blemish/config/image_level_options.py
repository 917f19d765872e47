"""What a recipe may ask of an image-level architecture; torch-free, because recipes are read without it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from blemish.errors import BadRecipe, suggestion

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Pixels = Annotated[int, Field(ge=1, le=2**15)]  # one side of an input
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Resize = Literal["stretch", "letterbox", "shortest"]
Interpolation = Literal["bilinear", "bicubic", "lanczos", "box"]


class HeadSpec(BaseModel):
    """The layers between pooled features and the answer.

    Attributes:
        hidden: widths of the hidden layers; none gives one linear layer.
        dropout: in [0, 1), before each linear layer; one number stands for all.
        activation: after each hidden layer.
        norm: `layer` or `batch`, between a hidden layer and its activation.

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
    def _one_for_all(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(width < 1 for width in self.hidden):
            raise ValueError("hidden widths are at least 1")
        if any(not 0 <= p < 1 for p in self.dropout):
            raise ValueError("dropout lies in [0, 1)")
        layers = len(self.hidden) + 1
        if len(self.dropout) == 1:
            object.__setattr__(self, "dropout", self.dropout * layers)
        if len(self.dropout) != layers:
            raise ValueError(f"dropout takes one number, or {layers}: one before each linear layer")
        return self


class ImageOptions(BaseModel):
    """What every image-level architecture takes.

    Attributes:
        input_size: pixels: one number for a square, (height, width), or one number by input name; None for
            what the architecture takes by itself.
        head: None for the architecture's own.
        mean: per channel, of values in [0, 1]; None for that of the architecture's default weights.
        std: likewise.
        resize: how an image becomes the input, see `InputSpec`; one word, or one by input name.
        resize_to: pixels, for `shortest`; likewise.
        interpolation: Pillow's antialiased filter; likewise.
        white_level: what counts as 1.0 in 16-bit images.
        box_scale: what one box's coordinates are divided by: the `image`'s width and height, or the
            largest coordinate of the set.
        coord_max: that largest coordinate, pixels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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

    @classmethod
    def of(cls, architecture: str, options: dict[str, Any]) -> Self:
        """The options, checked.

        Raises:
            BadRecipe: an option that does not exist or cannot be; the message offers the nearest.
        """
        for name in options:
            if name not in cls.model_fields:
                known = cls.model_fields
                raise BadRecipe(f"{architecture} has no option {name!r}{suggestion(name, known)}")
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(x) for x in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            raise BadRecipe(f"{architecture}: option {place}: {reason}") from None

    def size_hw(self, input_name: str, default: tuple[int, int]) -> tuple[int, int]:
        """Height and width in pixels of one named input."""
        size = self.input_size
        if isinstance(size, dict):
            size = size.get(input_name)
        if size is None:
            return default
        return (size, size) if isinstance(size, int) else size
