"""Decode and encode the brush masks of Label Studio."""

from __future__ import annotations

import numpy as np

from blemish.arrays import Mask
from blemish.geometry import mask_from_array, mask_to_array
from blemish.imaging import LIMITS

CHANNELS = 4  # the mask is the alpha channel of an RGBA image
COUNT_BITS = 32
LENGTH_FIELDS = 4
VALUE_BITS = 8
LENGTH_BITS = (4, 8, 12, 16)  # of the four fields, as written


def decode_brush(rle: object, size_hw: tuple[int, int]) -> Mask:
    """Return the mask of a brush region.

    The bits of `rle` contain the number of values, their width in bits, four widths of run lengths, and then
    runs of equal values or sequences of single values.

    Args:
        rle: the bytes as a list of integers.
        size_hw: height and width of the annotated image.

    Raises:
        ValueError: the list is not such a mask; the message describes a valid one.

    Source:
        `decode_rle` in label_studio_sdk.converter.brush, the inverse of @thi.ng/rle-pack.
    """
    height, width = size_hw
    try:
        bits = np.unpackbits(np.array(rle, np.uint8))
    except (TypeError, ValueError, OverflowError):
        raise ValueError("rle as a list of bytes") from None
    reader = _BitReader(bits)
    count = reader.read(COUNT_BITS)
    if count != height * width * CHANNELS or height * width > LIMITS.max_pixels:
        raise ValueError(f"a mask of {width} x {height} pixels, the size of the image")
    value_bits = reader.read(5) + 1
    length_bits = [reader.read(4) + 1 for _ in range(LENGTH_FIELDS)]
    values = np.zeros(count, np.uint8)
    position = 0
    while position < count:
        is_run = reader.read(1)
        end = position + 1 + reader.read(length_bits[reader.read(2)])
        if end > count:
            raise ValueError("runs that fit the image")
        if is_run:
            values[position:end] = min(reader.read(value_bits), 255)
        else:
            values[position:end] = np.minimum(reader.read_many(end - position, value_bits), 255)
        position = end
    return mask_from_array(values.reshape(height, width, CHANNELS)[..., CHANNELS - 1] > 0)


class _BitReader:
    """Reads unsigned integers of any number of bits, the highest bit first."""

    def __init__(self, bits: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
        self._bits = bits
        self._position = 0

    def read(self, width: int) -> int:
        """Return the next integer of `width` bits."""
        return int(self.read_many(1, width)[0])

    def read_many(self, number: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """Return the next integers of `width` bits each.

        Raises:
            ValueError: there are not as many bits.
        """
        end = self._position + number * width
        if end > len(self._bits):
            raise ValueError("complete run lengths")
        rows = self._bits[self._position : end].reshape(number, width).astype(np.int64)
        self._position = end
        return rows @ (1 << np.arange(width - 1, -1, -1, dtype=np.int64))


def encode_brush(mask: Mask) -> list[int]:
    """Return the run lengths of a mask as Label Studio stores a brush region: a list of bytes.

    Source:
        The inverse of `decode_brush`; label_studio_sdk.converter.brush reads it.
    """
    pixels = np.ravel(mask_to_array(mask))
    first = np.flatnonzero(np.diff(pixels, prepend=not pixels[0]))
    lengths = np.diff(first, append=pixels.size) * CHANNELS
    bits = [f"{pixels.size * CHANNELS:032b}", f"{VALUE_BITS - 1:05b}", *(f"{n - 1:04b}" for n in LENGTH_BITS)]
    for start, length in zip(first.tolist(), lengths.tolist(), strict=True):
        value = f"{255 if pixels[start] else 0:0{VALUE_BITS}b}"
        while length:
            part = min(length, 1 << LENGTH_BITS[-1])
            field = next(i for i, width_bits in enumerate(LENGTH_BITS) if part <= 1 << width_bits)
            bits.append(f"1{field:02b}{part - 1:0{LENGTH_BITS[field]}b}{value}")
            length -= part
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]
