"""Where training images come from: `ImageSource`, and the source that opens the file each time."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from blemish.imaging import LoadedImage, Reduction, open_image
from blemish.model_file import InputSpec
from blemish.preprocessing import Placement, decode_factor, resize
from blemish.structures import Sample

Crop = tuple[float, float, float, float]


class ImageSource(Protocol):
    """Gives images at a network's input size, from the file or from a cache."""

    def resized(
        self, sample: Sample, spec: InputSpec, crop_xyxy: Crop | None = None
    ) -> tuple[NDArray[Any], Placement]:  # pragma: no cover
        """Return pixels and placement as `preprocessing.resize` does.

        Args:
            sample: the image.
            spec: the network's input.
            crop_xyxy: the part that is resized, in pixels of the image; None for the whole image.
        """
        ...

    def size_hw(self, sample: Sample) -> tuple[int, int]:  # pragma: no cover
        """Return height and width of the upright image in pixels."""
        ...


class FileImageSource:
    """Opens the file each time."""

    def __init__(self) -> None:
        self._last: tuple[str, LoadedImage] | None = None

    def image(self, sample: Sample, reduction: Reduction | None = None) -> LoadedImage:
        """Return the image; the last one is kept in memory, because several inputs ask for it in turn.

        Args:
            sample: the image.
            reduction: see `open_image`.
        """
        if self._last is None or self._last[0] != sample.id:
            self._last = sample.id, open_image(sample.path, reduction=reduction)
        return self._last[1]

    def resized(
        self, sample: Sample, spec: InputSpec, crop_xyxy: Crop | None = None
    ) -> tuple[NDArray[Any], Placement]:
        """Return pixels and placement as `preprocessing.resize` does."""
        image = self.image(sample, lambda size_hw: decode_factor(size_hw, spec, crop_xyxy))
        return resize(image, spec, crop_xyxy)

    def size_hw(self, sample: Sample) -> tuple[int, int]:
        """Return height and width of the upright image in pixels."""
        return sample.size_hw or self.image(sample).size_hw
