"""`ImageInput`: the one type of everything that a predictor reads an image from."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import BadImage, BadInput, BlemishError
from blemish.imaging import LIMITS, Limits, LoadedImage, Reduction, apply_orientation, open_image

ORIENTATION_TAG = 0x0112
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/{1,2}", re.IGNORECASE)  # two letters at least: C:/ is a drive


class InputKind(StrEnum):
    """Where the pixels of an input come from."""

    FILE = "file"
    FRAME = "frame"  # of a video
    TILE = "tile"  # of a larger image
    MEMORY = "memory"


ImageLike = Path | str | bytes | Image.Image | NDArray[Any] | LoadedImage


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageInput:
    """One image on its way from its source through the predictor to its result.

    Attributes:
        kind: where the pixels come from.
        id: unique among the inputs of a source: the path, `walk.mp4 frame 3`, `image 5`.
        path: the image file, or the video of a frame; None for an image in memory.
        frame_index: number of a frame in its video, from 0.
        time_seconds: time of a frame from the start of its video.
        region_xyxy: the part of the larger image that a tile shows, pixels.
        address: where the image is, if it is no file of this machine: `s3://bucket/1.jpg`, `cells.tar/1.jpg`.
        content: what the pixels are decoded from, or a function that returns the bytes of the file when the
            image is read; None if there is nothing to decode.
        error: why the pixels cannot be read, if that is known already.
    """

    kind: InputKind
    id: str
    path: Path | None = None
    frame_index: int | None = None
    time_seconds: float | None = None
    region_xyxy: tuple[int, int, int, int] | None = None
    address: str | None = None
    content: ImageLike | Callable[[], bytes] | None = None
    error: BlemishError | None = None

    @classmethod
    def from_file(cls, path: Path) -> ImageInput:
        """Return the input of an image file, which is opened when it is read."""
        return cls(kind=InputKind.FILE, id=str(path), path=path, content=path)

    @classmethod
    def from_frame(
        cls, path: Path, index: int, time_seconds: float, frame: LoadedImage | BlemishError
    ) -> ImageInput:
        """Return the input of a decoded video frame, or of the error that ended its video."""
        return cls(
            kind=InputKind.FRAME,
            id=f"{path} frame {index}",
            path=path,
            frame_index=index,
            time_seconds=time_seconds,
            content=None if isinstance(frame, BlemishError) else frame,
            error=frame if isinstance(frame, BlemishError) else None,
        )

    @classmethod
    def from_address(
        cls, address: str, content: bytes | NDArray[np.uint8] | Callable[[], bytes] | BlemishError
    ) -> ImageInput:
        """Return the input of an image that is no file of this machine, such as a member of a tar file.

        Args:
            address: names the image in results and errors.
            content: the bytes of the file, a function that returns them, the pixels, or why they cannot be
                read.
        """
        if isinstance(content, BlemishError):
            return cls(kind=InputKind.MEMORY, id=address, address=address, error=content)
        return cls(kind=InputKind.MEMORY, id=address, address=address, content=content)

    @classmethod
    def of(cls, source: Any, index: int = 0) -> ImageInput:
        """Return the input of anything that Python callers pass as an image.

        An object that is not an image gives an input whose `read` raises the error.

        Args:
            source: see `read`; an input is returned unchanged.
            index: position in the stream, for the id of an image in memory.
        """
        if isinstance(source, ImageInput):
            return source
        if isinstance(source, Path | str):
            path = Path(source)
            if is_url(source) and not path.exists():
                error = BadInput(
                    f"{source}: this is a URL. Download the image and pass its path or its bytes.",
                    reason="url",
                )
                return cls(kind=InputKind.FILE, id=str(source), error=error)
            return cls.from_file(path)
        path_of_image = source.path if isinstance(source, LoadedImage) else None
        name = f"image {index}" if path_of_image is None else str(path_of_image)
        if isinstance(source, bytes | Image.Image | np.ndarray | LoadedImage):
            return cls(kind=InputKind.MEMORY, id=name, path=path_of_image, content=source)
        error = BadInput(
            f"{name}: expected a path, bytes, a PIL image or a NumPy array, got {type(source).__name__}",
            reason="not-an-image",
        )
        return cls(kind=InputKind.MEMORY, id=name, error=error)

    def tile(self, image: LoadedImage, region_xyxy: tuple[int, int, int, int]) -> ImageInput:
        """Return the input of one tile of this input's image.

        Args:
            image: this input's image.
            region_xyxy: the part that the tile shows, pixels, inside the image.
        """
        left, top, right, bottom = region_xyxy
        is_whole = region_xyxy == (0, 0, image.size_hw[1], image.size_hw[0])
        return ImageInput(
            kind=InputKind.TILE,
            id=f"{self.id} tile {left} {top} {right} {bottom}",
            path=self.path,
            frame_index=self.frame_index,
            time_seconds=self.time_seconds,
            region_xyxy=region_xyxy,
            # The whole image is prepared as it would be without tiles.
            content=image if is_whole else image.crop(region_xyxy),
        )

    def read(self, limits: Limits = LIMITS, reduction: Reduction | None = None) -> LoadedImage:
        """Return the upright image.

        Files and bytes are decoded; a PIL image is rotated by its EXIF orientation, as a file would
        be; an array is (h, w, 3) RGB, (h, w, 4) RGBA or (h, w) gray of uint8, or (h, w) gray of uint16.

        Args:
            limits: largest size of files and bytes.
            reduction: see `open_image`.

        Raises:
            BadImage: the file, the bytes or the frame cannot be used.
            BadInput: the source is not an image.
        """
        if self.error is not None:
            raise self.error
        content = self.content() if callable(self.content) else self.content
        if isinstance(content, LoadedImage):
            return content
        if self.address is not None and isinstance(content, bytes):
            try:
                return open_image(content, limits, reduction)
            except BadImage as error:  # it does not know the address
                reason = error.code.partition(".")[2]
                raise type(error)(self.address, error.detail, reason=reason, remedy=error.remedy) from error
        if isinstance(content, Path | str | bytes):
            return open_image(content, limits, reduction)
        if isinstance(content, Image.Image):
            try:  # an image that Pillow has not decoded yet may turn out to be damaged
                orientation = content.getexif().get(ORIENTATION_TAG, 1)
                array = np.asarray(_convert_mode(content))
            except (OSError, SyntaxError) as error:
                name = getattr(content, "filename", None)
                raise BadImage(name, f"Pillow cannot decode it ({error})") from error
            return _image_from_array(
                apply_orientation(array, orientation if orientation in range(1, 9) else 1)
            )
        if isinstance(content, np.ndarray):
            return _image_from_array(content)
        raise BadImage(self.path, "there are no pixels to read")

    def to_dict(self) -> dict[str, Any]:
        """Return what identifies the image, for JSON: `path`, and for frames `frame` and `time_seconds`."""
        path = self.address if self.path is None else self.path.as_posix()
        fields: dict[str, Any] = {"path": path}
        if self.kind is InputKind.FRAME:
            fields |= {"frame": self.frame_index, "time_seconds": round(self.time_seconds or 0.0, 3)}
        return fields

    def __str__(self) -> str:
        return self.id


def is_url(source: Path | str) -> bool:
    """Return whether a path has the form of a URL, such as `https://…` or `s3://…`."""
    return _URL.match(str(source)) is not None


def _convert_mode(image: Image.Image) -> Image.Image:
    """Return the image as RGB, RGBA or 16-bit gray."""
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        return image
    if image.mode in ("I", "F"):
        raise BadInput(
            f"PIL image: expected 8 or 16 bits per channel, got mode {image.mode}, which does not define "
            "white. Convert it to uint8 or uint16.",
            reason="pil-mode",
        )
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _image_from_array(array: NDArray[Any]) -> LoadedImage:
    """Return the image of an array; `LoadedImage` refuses other shapes and types."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype.kind == "u" and array.dtype.itemsize == 2 and array.ndim == 2:
        return LoadedImage(array.astype(np.uint16, copy=False))
    if array.dtype == np.uint8 and array.ndim == 2:
        return LoadedImage(np.repeat(array[..., None], 3, axis=2))
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 4:
        image = Image.fromarray(np.ascontiguousarray(array))
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return LoadedImage(np.asarray(Image.alpha_composite(white, image).convert("RGB")))
    return LoadedImage(array)
