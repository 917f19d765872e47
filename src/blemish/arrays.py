"""Array type aliases and the run-length mask; every package may import them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias, overload

import numpy as np

from blemish.errors import BadInput

if TYPE_CHECKING:  # numpy.typing loads all of NumPy, and `blemish info` needs none of it
    from numpy.typing import NDArray

FloatArray: TypeAlias = "NDArray[np.float64]"
IntArray: TypeAlias = "NDArray[np.int64]"
BoolArray: TypeAlias = "NDArray[np.bool_]"


@dataclass(frozen=True, eq=False)
class Mask:
    """A region of an image, stored as run lengths.

    Attributes:
        size_hw: height and width of the image, in pixels.
        counts: (n,) int64, >= 0, in pixels: alternating lengths of background and mask runs over the whole
            image in column-major order, the first run being background (COCO's uncompressed RLE). Their sum
            is height x width. Read-only.

    Raises:
        BadInput: a run is negative, or the sum of the runs is not height x width.

    Example:
        >>> Mask((2, 3), np.array([2, 3, 1])).area
        3
    """

    size_hw: tuple[int, int]
    counts: IntArray

    def __post_init__(self) -> None:
        counts = np.ascontiguousarray(self.counts, np.int64)
        height, width = self.size_hw
        if (counts < 0).any() or counts.sum() != height * width:
            raise BadInput(
                f"run lengths of a mask: expected non-negative numbers that add up to {height} x {width}, "
                f"got a sum of {counts.sum()} and a minimum of {counts.min(initial=0)}",
                reason="run-lengths",
            )
        counts.setflags(write=False)
        object.__setattr__(self, "counts", counts)

    @property
    def area(self) -> int:
        """Number of pixels in the mask."""
        return int(self.counts[1::2].sum())


class LazyMasks(Sequence[Mask]):
    """Masks that are computed when they are read for the first time.

    They keep what they are computed from, such as the prototypes of an image, so that many of them need much
    memory; `tuple(masks)` is the way to keep the masks alone.
    """

    __slots__ = ("_functions", "_masks")

    def __init__(self, functions: Sequence[Callable[[], Mask]]) -> None:
        """Take one function per mask, which is called at most once by each thread."""
        self._functions = functions
        self._masks: list[Mask | None] = [None] * len(functions)

    def __len__(self) -> int:
        return len(self._masks)

    @overload
    def __getitem__(self, row: SupportsIndex) -> Mask: ...

    @overload
    def __getitem__(self, row: slice) -> tuple[Mask, ...]: ...

    def __getitem__(self, row: SupportsIndex | slice) -> Mask | tuple[Mask, ...]:
        if isinstance(row, slice):
            return tuple(self[i] for i in range(*row.indices(len(self))))
        mask = self._masks[row]
        if mask is None:
            mask = self._masks[row] = self._functions[row.__index__()]()
        return mask

    def __reduce__(self) -> tuple[type[tuple[Mask, ...]], tuple[list[Mask]]]:
        return tuple, (list(self),)


def read_only_array(values: Any, dtype: Any, shape: tuple[int | None, ...], name: str) -> NDArray[Any]:
    """Return `values` as a read-only array of `dtype`; raise `BadInput` if the shape differs."""
    # A read-only array is not copied: a hundred thousand ground truths share their empty flags.
    is_array = isinstance(values, np.ndarray) and values.dtype == dtype and values.base is None
    array: NDArray[Any] = values if is_array and not values.flags.writeable else np.array(values, dtype=dtype)
    if array.size == 0 and shape[0] == 0:  # an empty list means no boxes
        array = array.reshape([s or 0 for s in shape])
    fits = array.ndim == len(shape) and all(s in (None, a) for s, a in zip(shape, array.shape, strict=True))
    if not fits:
        raise BadInput(f"{name}: expected shape {shape}, got {array.shape}", reason="array-shape")
    array.setflags(write=False)
    return array


@cache
def empty_array(dtype: Any) -> NDArray[Any]:
    """Return a (0,) array, shared by all ground truths without these values."""
    empty = np.zeros(0, dtype)
    empty.setflags(write=False)
    return empty


@cache
def no_flags(count: int) -> BoolArray:
    """Return (count,) bool, all false, shared by all ground truths of that many objects."""
    flags = np.zeros(count, bool)
    flags.setflags(write=False)
    return flags


def summarize_heatmap(heatmap: NDArray[np.floating], size_hw: tuple[int, int] | None) -> dict[str, Any]:
    """Return the highest value of a heatmap and its place in the image.

    Args:
        heatmap: (h, w), evenly over the image.
        size_hw: of the image in pixels; None for the size of the heatmap.
    """
    height, width = heatmap.shape
    row, column = divmod(int(heatmap.argmax()), width)
    full_height, full_width = size_hw or (height, width)
    return {
        "peak": float(heatmap[row, column]),
        "peak_xy": [(column + 0.5) / width * full_width, (row + 0.5) / height * full_height],
    }
