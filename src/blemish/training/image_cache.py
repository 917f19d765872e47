"""Large images decoded once: a bounded folder of reduced copies that later epochs read instead.

Without a random crop the copy is the very picture the network takes, so nothing changes by a bit. With one,
the copy is as large as keeps the smallest crop of the recipe at the network's size, and crops are taken from
it. A copy is named by path, size, time of change and what it was made for, so that a changed image, or
another recipe, never finds it.
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
from blemish.structures import Sample
from blemish.training.image_augmentation import AugmentationParams
from blemish.training.image_dataset import FileImageSource

WORTH_IT = 4  # an image is copied for crops only where it has so many times the copy's pixels
ABANDONED = 3600  # seconds after which nobody writes a copy any more
_SUFFIX = ".reduced"
_HEADERS = 256  # bytes of two arrays in NumPy's format


class ResizedImageCache(FileImageSource):
    """Images from reduced copies, made the first time each is asked for.

    Args:
        inputs: of the network.
        crop: the recipe's random crop, or None.
        max_bytes: of the folder; when it is full, further images are read from their files.
        folder: None for `images` in Blemish's cache folder.
        share: of the folder's room that this one may fill, in each process that reads from it. Nobody counts
            for all: loaders and sources write side by side, so each has its part.
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
        self.side = largest_side_needed(inputs, crop) if crop else 0
        above = cache_folder()
        self.folder = folder or (above / "images" if above is not None else None)
        self.room = 0
        if self.folder is not None and max_bytes:
            sweep(self.folder)
            self.room = int((max_bytes - prune(self.folder, max_bytes)) * share)
        self._has_folder = bool(self.folder is not None and max_bytes)
        self._since = time.time_ns()
        self._unused: list[tuple[int, int, Path]] | None = None
        self._copy: tuple[str, LoadedImage, tuple[int, int]] | None = None

    def resized(
        self, sample: Sample, spec: InputSpec, change: AugmentationParams
    ) -> tuple[NDArray[Any], Placement]:
        """As `preprocessing.resize` does."""
        if self.crop is not None:
            return self._cropped(sample, spec, change)
        path = self._path(sample, f"{spec.model_dump_json()}")
        found = None if path is None else self._read(path)
        if found is not None:
            pixels, numbers = found
            n = numbers.tolist()
            return pixels, Placement((int(n[0]), int(n[1])), spec.size_hw, (n[2], n[3]), (n[4], n[5]))
        pixels, placement = super().resized(sample, spec, change)
        numbers = np.array([*placement.size_hw, *placement.scale_xy, *placement.offset_xy], np.float64)
        self._keep(path, pixels, numbers)
        return pixels, placement

    def size_hw(self, sample: Sample) -> tuple[int, int]:
        """Of the upright image, pixels."""
        return sample.size_hw or self._reduced(sample)[1]

    def _cropped(
        self, sample: Sample, spec: InputSpec, change: AugmentationParams
    ) -> tuple[NDArray[Any], Placement]:
        copy, size_hw = self._reduced(sample)
        if copy.size_hw == size_hw:
            return resize(copy, spec, change.crop_xyxy)
        ratio_y, ratio_x = copy.size_hw[0] / size_hw[0], copy.size_hw[1] / size_hw[1]
        crop = change.crop_xyxy
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
        """The copy that crops are taken from, the image where it is small; and the image's size."""
        if self._copy is not None and self._copy[0] == sample.id:
            return self._copy[1:]
        path = self._path(sample, f"{self.side}")
        found = None if path is None else self._read(path)
        if found is not None:
            pixels, numbers = found
            size_hw = (int(numbers[0]), int(numbers[1]))
            photo = LoadedImage(pixels, sample.path)
        else:
            photo = self.image(sample)
            size_hw = photo.size_hw
            smaller = reduce(photo, self.side)
            if photo.pixels.size >= WORTH_IT * smaller.pixels.size:
                photo = smaller
                self._keep(path, photo.pixels, np.array(size_hw, np.float64))
        self._copy = sample.id, photo, size_hw
        return photo, size_hw

    def _path(self, sample: Sample, purpose: str) -> Path | None:
        if self.folder is None or not self._has_folder:
            return None
        try:
            stat = sample.path.stat()
        except OSError:
            return None  # whoever opens it says what is wrong
        name = f"{sample.path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{purpose}"
        return self.folder / (hashlib.sha256(os.fsencode(name)).hexdigest()[:40] + _SUFFIX)

    def _read(self, path: Path) -> tuple[NDArray[Any], NDArray[np.float64]] | None:
        """A copy, whose time then says that it is in use."""
        found = read_arrays(path)
        if found is not None:
            with suppress(OSError):
                if path.stat().st_mtime_ns < self._since:
                    os.utime(path)
        return found

    def _make_room(self, size: int) -> bool:
        """Take room from copies that nobody used since this training began, the longest unused first."""
        assert self.folder is not None  # noqa: S101  (a copy has a path)
        if self._unused is None:
            self._unused = sorted((f for f in copies_in(self.folder) if f[0] < self._since), reverse=True)
        while size > self.room and self._unused:
            path = self._unused.pop()[2]
            with suppress(OSError):  # another process was faster, and has the room
                stat = path.stat()
                if stat.st_mtime_ns < self._since:
                    path.unlink()
                    self.room += stat.st_size
        return size <= self.room

    def _keep(self, path: Path | None, pixels: NDArray[Any], numbers: NDArray[np.float64]) -> None:
        size = pixels.nbytes + numbers.nbytes + _HEADERS
        if path is None or (size > self.room and not self._make_room(size)):
            return
        beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                np.save(file, numbers)
                np.save(file, pixels)
            beside.replace(path)
        except OSError:  # a full disk costs time, not the training
            with suppress(OSError):
                beside.unlink()
            if not path.is_file():  # else another process was faster, and on Windows reads from it now
                self.room, self._unused = 0, []
            return
        self.room -= size


def largest_side_needed(inputs: Sequence[InputSpec], crop: CropConfig) -> int:
    """Pixels of a copy's shorter side, such that the recipe's smallest crop still fills every input."""
    side = max(max(spec.size_hw) for spec in inputs)
    return round(side / math.sqrt(crop.scale[0]))


def reduce(photo: LoadedImage, side: int) -> LoadedImage:
    """The image with its shorter side `side` pixels long; itself where it is smaller."""
    height, width = photo.size_hw
    ratio = side / min(height, width)
    if ratio >= 1:
        return photo
    size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    if photo.is_16bit:
        image = Image.fromarray(photo.pixels.astype(np.float32)).resize(size, FILTERS["bilinear"])
        return replace(photo, pixels=np.asarray(image).round().clip(0, 65535).astype(np.uint16))
    image = Image.fromarray(photo.pixels)
    return replace(photo, pixels=np.asarray(image.resize(size, FILTERS["bilinear"], reducing_gap=3.0)))


def read_arrays(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]] | None:
    """Pixels and numbers of a copy; None where there is none, or half of one."""
    try:
        with path.open("rb") as file:
            numbers = _load(file)
            return _load(file), numbers
    except (OSError, ValueError, EOFError):
        return None


def _load(file: BinaryIO) -> NDArray[Any]:
    array: NDArray[Any] = np.load(file, allow_pickle=False)
    return array


def copies_in(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Time of last use (ns), bytes and path of every copy."""
    for path in folder.glob(f"*{_SUFFIX}"):
        with suppress(OSError):  # another training was faster
            stat = path.stat()
            yield stat.st_mtime_ns, stat.st_size, path


def prune(folder: Path, max_bytes: int) -> int:
    """Bytes in the folder after the copies that were used last are left, at most `max_bytes` of them."""
    files = sorted(copies_in(folder))
    total = sum(size for _, size, _ in files)
    for _, size, path in files:
        if total <= max_bytes:
            break
        with suppress(OSError):  # another training was faster, or on Windows reads from it now
            path.unlink()
            total -= size
    return total


def sweep(folder: Path) -> None:
    """Remove the halves of copies that killed processes left behind."""
    for path in folder.glob(f".*{_SUFFIX}.*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()
