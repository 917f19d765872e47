"""One map and everything a reader must know of it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blemish.explanation.colormaps import overlay
from blemish.imaging import open_image
from blemish.model_file import write_atomically

SIXTEEN_BITS = 65535


@dataclass(frozen=True, eq=False, kw_only=True)
class Heatmap:
    """Where a model looked when it gave a label its score.

    Attributes:
        method: such as `grad-cam`.
        label: whose score is explained; "" for a localization model without labels.
        label_index: its place among the model's labels.
        layer: the network's name of the layer whose features were read; "" where none was.
        values: (h, w) float32 of the image's size; positive speaks for the label, in the method's
            own unit, not normalised.
        score: what the model gave the label or the object.
        box_xyxy: the object that is explained, pixels, for tasks with boxes.
        model_digest: the model file that decided.
        path: the image, if it came from a file.
        deletion: area under the score as the map's places are hidden, highest first; lower is better.
        insertion: the same as they are shown; higher is better.
        looks: versions of the image that the model answered.
        seconds: what it took.
    """

    method: str
    label: str
    label_index: int
    layer: str
    values: NDArray[np.float32]
    score: float
    box_xyxy: tuple[float, float, float, float] | None = None
    model_digest: str = ""
    path: Path | None = None
    deletion: float | None = None
    insertion: float | None = None
    looks: int = 0
    seconds: float = 0.0

    @property
    def peak_xy(self) -> tuple[float, float]:
        """The centre of the map's highest pixel."""
        row, column = np.unravel_index(int(self.values.argmax()), self.values.shape)
        return float(column) + 0.5, float(row) + 0.5

    def normalised(self) -> NDArray[np.float32]:
        """(h, w) float32 in [0, 1]: what speaks for the label, divided by its peak; 0 where nothing does."""
        positive = np.maximum(self.values, 0)
        peak = float(positive.max())
        return np.asarray(positive / np.float32(peak) if peak > 0 else positive, np.float32)

    def plot(self, image: Any = None, *, colours: str = "viridis", strength: float = 0.5) -> Image.Image:
        """The image with the map over it, RGB; the explained object outlined.

        Args:
            image: a PIL image; `path` is opened where it is not given.
            colours: `viridis`, `inferno`, `cividis` or `jet`.
            strength: 0 shows the image alone, 1 the map alone.
        """
        if image is None:
            if self.path is None:
                raise ValueError("give the image: this explanation was made from memory")
            image = open_image(self.path).to_pil()
        drawn = overlay(image, self.normalised(), colours=colours, strength=strength)
        if self.box_xyxy is not None:
            width = max(2, max(drawn.size) // 300)
            ImageDraw.Draw(drawn).rectangle(self.box_xyxy, outline=(255, 255, 255), width=width)
        return drawn

    def _repr_png_(self) -> bytes | None:
        """The picture a notebook shows; None where the image is not at hand."""
        if self.path is None or not self.path.exists():
            return None
        buffer = io.BytesIO()
        self.plot().save(buffer, "PNG")
        return buffer.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """The numbers, as plain values for JSON."""
        return {
            "path": None if self.path is None else self.path.as_posix(),
            "method": self.method,
            "label": self.label or None,
            "score": self.score,
            "layer": self.layer or None,
            "box_xyxy": None if self.box_xyxy is None else list(self.box_xyxy),
            "peak_xy": list(self.peak_xy),
            "peak": float(self.values.max()),
            "deletion": self.deletion,
            "insertion": self.insertion,
            "looks": self.looks,
            "seconds": round(self.seconds, 3),
            "model_digest": self.model_digest,
        }

    def write(
        self, folder: Path, stem: str, *, colours: str = "viridis", image: Any = None
    ) -> dict[str, str]:
        """Write the overlay, the map as 16-bit PNG and as `.npy`.

        Args:
            folder: made where it is missing.
            stem: the files' common beginning.
            colours: see `plot`.
            image: see `plot`.

        Returns:
            The files' names by kind: `overlay`, `map`, `array`.

        Raises:
            StorageFull: they could not be written.
        """
        levels = (self.normalised() * SIXTEEN_BITS).round().astype(np.uint16)
        contents = {
            "overlay": (f"{stem}.jpg", _encoded(self.plot(image, colours=colours), "JPEG", quality=92)),
            "map": (f"{stem}.map.png", _encoded(Image.fromarray(levels), "PNG")),
            "array": (f"{stem}.npy", _npy(self.values)),
        }
        for name, data in contents.values():
            write_atomically(folder / name, data)
        return {kind: name for kind, (name, _) in contents.items()}


def _encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
