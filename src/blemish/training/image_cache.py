"""A cache of resized images: large images are decoded once, and later epochs read the copies.

Without a random crop, the copy is the network's input itself, bit for bit. With one, the copy is large enough
that the recipe's smallest crop fills the network's input, and crops are taken from it. The name of a copy
depends on the image's path, size and modification time and on the purpose of the copy, so that a changed
image or another recipe never reads it. The folder has a maximum size.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.config.schema import CropConfig
from blemish.data.user_cache import cache_folder
from blemish.imaging import LoadedImage
from blemish.model_file import InputSpec
from blemish.preprocessing import FILTERS, Placement, resize
from blemish.preprocessing.image_resize import factor_for
from blemish.structures import Sample
from blemish.training.image_source import Crop, FileImageSource

MIN_REDUCTION = 4  # an image is copied for crops if it has this many times the pixels of the copy
ABANDONED_SECONDS = 3600  # a partial copy of this age belongs to a killed process
_SUFFIX = ".reduced"
_HEADER_BYTES = 256  # of two arrays in NumPy's format


class ResizedImageCache(FileImageSource):
    """Images from resized copies, which are written when an image is read for the first time.

    Args:
        inputs: of the network.
        crop: the recipe's random crop, or None.
        max_bytes: maximum size of the folder; when it is full, further images are read from their files.
        folder: None for `images` in Blemish's cache folder.
        share: share of the folder's free space that this source may fill in each process. Processes write
            concurrently without counting for each other, so each has its own share.
    """

    def __init__(
        self,
        inputs: Sequence[InputSpec],
        crop: CropConfig | None,
        max_bytes: int,
        folder: Path | None = None,
        share: float = 1.0,
    ) -> None:
        super().__init__()
        self.crop = crop
        self.side = shorter_side_for_crops(inputs, crop) if crop else 0
        self.is_scaled = all(spec.decode == "scaled" for spec in inputs)
        default = cache_folder()
        self.folder = folder or (default / "images" if default is not None else None)
        self.free_bytes = 0
        if self.folder is not None and max_bytes:
            remove_partial_copies(self.folder)
            self.free_bytes = int((max_bytes - prune(self.folder, max_bytes)) * share)
        self._has_folder = bool(self.folder is not None and max_bytes)
        self._since = time.time_ns()
        self._unused: list[tuple[int, int, Path]] | None = None
        self._copy: tuple[str, LoadedImage, tuple[int, int]] | None = None

    def resized(
        self, sample: Sample, spec: InputSpec, crop_xyxy: Crop | None = None
    ) -> tuple[NDArray[Any], Placement]:
        """Return pixels and placement as `preprocessing.resize` does."""
        if self.crop is not None:
            return self._cropped(sample, spec, crop_xyxy)
        path = self._path(sample, f"{spec.model_dump_json()}")
        arrays = None if path is None else self._read(path)
        if arrays is not None:
            pixels, numbers = arrays
            n = numbers.tolist()
            return pixels, Placement((int(n[0]), int(n[1])), spec.size_hw, (n[2], n[3]), (n[4], n[5]))
        pixels, placement = super().resized(sample, spec, crop_xyxy)
        numbers = np.array([*placement.size_hw, *placement.scale_xy, *placement.offset_xy], np.float64)
        self._write(path, pixels, numbers)
        return pixels, placement

    def size_hw(self, sample: Sample) -> tuple[int, int]:
        """Return height and width of the upright image in pixels."""
        return sample.size_hw or self._reduced(sample)[1]

    def _cropped(self, sample: Sample, spec: InputSpec, crop: Crop | None) -> tuple[NDArray[Any], Placement]:
        copy, size_hw = self._reduced(sample)
        if copy.size_hw == size_hw:
            return resize(copy, spec, crop)
        ratio_y, ratio_x = copy.size_hw[0] / size_hw[0], copy.size_hw[1] / size_hw[1]
        if crop is not None:
            height, width = copy.size_hw
            left, top, right, bottom = crop
            crop = (
                left * ratio_x,
                top * ratio_y,
                min(right * ratio_x, float(width)),
                min(bottom * ratio_y, float(height)),
            )
        pixels, placement = resize(copy, spec, crop)
        scale_x, scale_y = placement.scale_xy
        return pixels, replace(placement, size_hw=size_hw, scale_xy=(scale_x * ratio_x, scale_y * ratio_y))

    def _reduced(self, sample: Sample) -> tuple[LoadedImage, tuple[int, int]]:
        """Return the copy that crops are taken from, or the image if it is small; and the image's size."""
        if self._copy is not None and self._copy[0] == sample.id:
            return self._copy[1:]
        path = self._path(sample, f"{self.side}{' scaled' if self.is_scaled else ''}")
        arrays = None if path is None else self._read(path)
        if arrays is not None:
            pixels, numbers = arrays
            size_hw = (int(numbers[0]), int(numbers[1]))
            image = LoadedImage(pixels, sample.path, white_level=int(numbers[2]) or None)
        else:
            image = self.image(sample, self._copy_factor if self.is_scaled else None)
            size_hw = image.size_hw
            factor = self._copy_factor(size_hw) if self.is_scaled else 1
            smaller = resize_shorter_side(image, self.side, factor)
            if math.prod(size_hw) >= MIN_REDUCTION * math.prod(smaller.size_hw):
                image = smaller
                self._write(path, image.pixels, np.array([*size_hw, image.white_level or 0], np.float64))
        self._copy = sample.id, image, size_hw
        return image, size_hw

    def _copy_factor(self, size_hw: tuple[int, int]) -> int:
        """Return how many times an image is reduced before the copy for crops is made from it."""
        return factor_for(min(size_hw) / self.side)

    def _path(self, sample: Sample, purpose: str) -> Path | None:
        if self.folder is None or not self._has_folder:
            return None
        try:
            stat = sample.path.stat()
        except OSError:
            return None  # opening the image raises the error
        name = f"{sample.path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{purpose}|white"
        return self.folder / (hashlib.sha256(os.fsencode(name)).hexdigest()[:40] + _SUFFIX)

    def _read(self, path: Path) -> tuple[NDArray[Any], NDArray[np.float64]] | None:
        """Return a copy, and update its modification time, which means that it is in use."""
        arrays = read_arrays(path)
        if arrays is not None:
            with suppress(OSError):
                if path.stat().st_mtime_ns < self._since:
                    os.utime(path)
        return arrays

    def _free_space(self, size: int) -> bool:
        """Delete copies that were not used since this training started, the least recently used first."""
        assert self.folder is not None  # noqa: S101  (a copy has a path)
        if self._unused is None:
            self._unused = sorted((f for f in list_copies(self.folder) if f[0] < self._since), reverse=True)
        while size > self.free_bytes and self._unused:
            path = self._unused.pop()[2]
            with suppress(OSError):  # another process deleted it
                stat = path.stat()
                if stat.st_mtime_ns < self._since:
                    path.unlink()
                    self.free_bytes += stat.st_size
        return size <= self.free_bytes

    def _write(self, path: Path | None, pixels: NDArray[Any], numbers: NDArray[np.float64]) -> None:
        size = pixels.nbytes + numbers.nbytes + _HEADER_BYTES
        if path is None or (size > self.free_bytes and not self._free_space(size)):
            return
        partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                np.save(file, numbers)
                np.save(file, pixels)
            partial.replace(path)
        except OSError:  # with a full disk the training continues without the cache
            with suppress(OSError):
                partial.unlink()
            if not path.is_file():  # otherwise another process wrote it, and on Windows reads it now
                self.free_bytes, self._unused = 0, []
            return
        self.free_bytes -= size


def shorter_side_for_crops(inputs: Sequence[InputSpec], crop: CropConfig) -> int:
    """Return the shorter side of a copy in pixels with which the smallest crop still fills every input."""
    side = max(max(spec.size_hw) for spec in inputs)
    return round(side / math.sqrt(crop.scale[0]))


def resize_shorter_side(image: LoadedImage, side: int, factor: int = 1) -> LoadedImage:
    """Return the image with a shorter side of `side` pixels; the image itself if it is smaller.

    Args:
        image: the image.
        side: pixels.
        factor: 1, 2, 4 or 8: how many times it is reduced first.
    """
    height, width = image.size_hw
    ratio = side / min(height, width)
    if ratio >= 1:
        return image
    size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    if factor > 1:
        reduced, _, (x, y) = image.reduced(factor)
        box = (x / factor, y / factor, (x + width) / factor, (y + height) / factor)
        resized = reduced.resize(size, FILTERS["bilinear"], box)
    elif image.is_16bit:
        resized = Image.fromarray(image.pixels.astype(np.float32)).resize(size, FILTERS["bilinear"])
    else:
        resized = image.rgb_image().resize(size, FILTERS["bilinear"], reducing_gap=3.0)
    if image.is_16bit:
        return image.with_pixels(np.asarray(resized).round().clip(0, 65535).astype(np.uint16))
    return image.with_pixels(np.asarray(resized))


def read_arrays(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]] | None:
    """Return the pixels and the numbers of a copy; None if it does not exist or is incomplete."""
    try:
        with path.open("rb") as file:
            numbers = _load(file)
            return _load(file), numbers
    except (OSError, ValueError, EOFError):
        return None


def _load(file: BinaryIO) -> NDArray[Any]:
    array: NDArray[Any] = np.load(file, allow_pickle=False)
    return array


def list_copies(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Yield the time of last use in nanoseconds, the size in bytes and the path of every copy."""
    for path in folder.glob(f"*{_SUFFIX}"):
        with suppress(OSError):  # another process deleted it
            stat = path.stat()
            yield stat.st_mtime_ns, stat.st_size, path


def prune(folder: Path, max_bytes: int) -> int:
    """Delete the least recently used copies until at most `max_bytes` are left; return the bytes left."""
    files = sorted(list_copies(folder))
    total = sum(size for _, size, _ in files)
    for _, size, path in files:
        if total <= max_bytes:
            break
        with suppress(OSError):  # another process deleted it, or on Windows reads it now
            path.unlink()
            total -= size
    return total


def remove_partial_copies(folder: Path) -> None:
    """Delete the partial copies that killed processes left behind."""
    for path in folder.glob(f".*{_SUFFIX}.*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                path.unlink()
