"""`Heatmap`: one heatmap with what it explains and how it was computed."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blemish.errors import BadInput
from blemish.explanation.colormaps import overlay
from blemish.imaging import open_image
from blemish.model_file import write_atomically

SIXTEEN_BITS = 65535


@dataclass(frozen=True, eq=False, kw_only=True)
class Heatmap:
    """The parts of an image that the score of one label or detection depends on.

    Attributes:
        method: such as `grad-cam`.
        label: label of the explained score; "" for a localization model without labels.
        label_index: its index among the model's labels.
        layer: the network's name of the layer whose features were read; "" if the method reads none.
        values: (h, w) float32 of the image's size; positive values raise the label's score; in the unit of
            the method, not normalized.
        score: the explained score.
        box_xyxy: box of the explained detection, image pixels; None for image-level tasks.
        model_digest: SHA-256 of the model file.
        path: the image, if it came from a file.
        deletion: area under the score as places are hidden, highest values first; lower is better. None if it
            was not measured.
        insertion: area under the score as places are shown, highest values first; higher is better.
        forward_passes: images that went through the network for this heatmap.
        seconds: computation time.
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
    forward_passes: int = 0
    seconds: float = 0.0

    @property
    def is_faithful(self) -> bool | None:
        """Whether the map agrees with the score; None if deletion and insertion were not measured.

        It agrees if hiding the highest values lowers the score, and deletion is below insertion. For a map
        that ranks places at random, both are equal.
        """
        if self.deletion is None or self.insertion is None:
            return None
        return self.deletion < min(self.score, self.insertion)

    @property
    def peak_xy(self) -> tuple[float, float]:
        """The center of the pixel with the highest value, image pixels."""
        row, column = np.unravel_index(int(self.values.argmax()), self.values.shape)
        return float(column) + 0.5, float(row) + 0.5

    def normalized(self) -> NDArray[np.float32]:
        """Return (h, w) float32 in [0, 1]: the positive values divided by the largest; 0 elsewhere."""
        positive = np.maximum(self.values, 0)
        peak = float(positive.max())
        return np.asarray(positive / np.float32(peak) if peak > 0 else positive, np.float32)

    def plot(self, image: Any = None, *, colormap: str = "viridis", opacity: float = 0.5) -> Image.Image:
        """Return the image with the heatmap over it, RGB, and the explained detection outlined.

        Args:
            image: a PIL image. Default: the file at `path`.
            colormap: `viridis`, `inferno`, `cividis` or `jet`.
            opacity: of the heatmap: 0 shows the image alone, 1 the heatmap alone.

        Raises:
            BadInput: no image was passed and there is no `path`.
        """
        if image is None:
            if self.path is None:
                raise BadInput("plot: this heatmap has no path. Pass the image.", reason="no-pixels")
            image = open_image(self.path).to_pil()
        drawn = overlay(image, self.normalized(), colormap=colormap, opacity=opacity)
        if self.box_xyxy is not None:
            width = max(2, max(drawn.size) // 300)
            ImageDraw.Draw(drawn).rectangle(self.box_xyxy, outline=(255, 255, 255), width=width)
        return drawn

    def _repr_png_(self) -> bytes | None:
        """Return a PNG of the overlay for notebooks; None if the image file does not exist."""
        if self.path is None or not self.path.exists():
            return None
        buffer = io.BytesIO()
        self.plot().save(buffer, "PNG")
        return buffer.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields except `values` as plain values for JSON."""
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
            "is_faithful": self.is_faithful,
            "forward_passes": self.forward_passes,
            "seconds": round(self.seconds, 3),
            "model_digest": self.model_digest,
        }

    def write(
        self, folder: Path, stem: str, *, colormap: str = "viridis", image: Any = None
    ) -> dict[str, str]:
        """Write the overlay as JPEG, and the heatmap as 16-bit PNG and as `.npy`.

        Args:
            folder: created if it does not exist.
            stem: common beginning of the files' names.
            colormap: see `plot`.
            image: see `plot`.

        Returns:
            The files' names by kind: `overlay`, `heatmap`, `array`.

        Raises:
            StorageFull: the disk is full or read-only.
        """
        levels = (self.normalized() * SIXTEEN_BITS).round().astype(np.uint16)
        contents = {
            "overlay": (f"{stem}.jpg", _encode(self.plot(image, colormap=colormap), "JPEG", quality=92)),
            "heatmap": (f"{stem}.heatmap.png", _encode(Image.fromarray(levels), "PNG")),
            "array": (f"{stem}.npy", _encode_npy(self.values)),
        }
        for name, data in contents.values():
            write_atomically(folder / name, data)
        return {kind: name for kind, (name, _) in contents.items()}


def _encode(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def _encode_npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
