"""A bounded store of decoded images in memory, for trainings that combine several images in one input."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from numpy.typing import NDArray

from blemish.imaging import LoadedImage, Reduction
from blemish.model_file import InputSpec
from blemish.preprocessing import Placement
from blemish.structures import Sample
from blemish.training.image_source import Crop, FileImageSource


class DecodedImages(FileImageSource):
    """Opens each file and keeps it decoded while there is space; the least recently used image goes first.

    What `resized` returns depends on the file alone, and not on what is kept. Every process that loads images
    has its own store, which starts empty.

    Args:
        max_bytes: of the decoded images of this process. The image in use is kept also if it is larger.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.max_bytes = max_bytes
        self.bytes = 0
        self._images: OrderedDict[str, tuple[LoadedImage, int]] = OrderedDict()

    def image(self, sample: Sample, reduction: Reduction | None = None) -> LoadedImage:
        """Return the image.

        Args:
            sample: the image.
            reduction: see `open_image`.
        """
        kept = self._images.get(sample.id)
        if kept is None:
            return super().image(sample, reduction)
        self._images.move_to_end(sample.id)
        return kept[0]

    def resized(
        self, sample: Sample, spec: InputSpec, crop_xyxy: Crop | None = None
    ) -> tuple[NDArray[Any], Placement]:
        """Return pixels and placement as `preprocessing.resize` does."""
        result = super().resized(sample, spec, crop_xyxy)
        self._keep(sample.id, self.image(sample))
        return result

    def _keep(self, name: str, image: LoadedImage) -> None:
        """Keep an image, which may now have a further size; remove others until there is space."""
        size = image.memory_bytes
        self.bytes += size - self._images.pop(name, (image, 0))[1]
        self._images[name] = image, size
        while self.bytes > self.max_bytes and self._images:
            self.bytes -= self._images.popitem(last=False)[1][1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_images": OrderedDict(), "bytes": 0, "_last": None}
