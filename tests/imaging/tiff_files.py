"""A writer of TIFF files whose tags and directories tests choose."""

import struct
from typing import Any

import numpy as np


def write_tiff(directories, *, order="<", sub_ifds=()):
    """Return the bytes of a TIFF file.

    Args:
        directories: a list of (pixels, tags): pixels is an array (h, w), (h, w, c), or (c, h, w) for planes;
            tags overrides the tags that the array determines, as values or tuples.
        order: `<` or `>`.
        sub_ifds: indices of directories that are not in the chain, but SubIFDs of the first.
    """
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 0))
    offsets: dict[Any, Any] = {}
    links: list[Any] = []  # position of the field that points to the next directory
    for index in [*sub_ifds, *(i for i in range(len(directories)) if i not in sub_ifds)]:
        pixels, tags = directories[index]
        planar = tags.get(284) == 2
        shape = pixels.shape
        height, width = shape[1:] if planar else shape[:2]
        channels = shape[0] if planar else (shape[2] if pixels.ndim == 3 else 1)
        planes = list(pixels) if planar else [pixels]
        strips = []
        for plane in planes:
            strips.append((len(out), plane.nbytes))
            out += plane.astype(plane.dtype.newbyteorder(order)).tobytes()
        values = {
            256: width,
            257: height,
            258: (pixels.dtype.itemsize * 8,) * channels,
            259: 1,
            262: 2 if channels == 3 else 1,
            273: tuple(s[0] for s in strips),
            277: channels,
            278: height,
            279: tuple(s[1] for s in strips),
            **tags,
        }
        if index == 0 and sub_ifds:
            values[330] = tuple(offsets[i] for i in sub_ifds)
        entries = []
        for tag, value in sorted(values.items()):
            value = value if isinstance(value, tuple) else (value,)
            data = struct.pack(f"{order}{len(value)}I", *value)
            if len(data) > 4:
                place = len(out)
                out += data
                data = struct.pack(order + "I", place)
            entries.append(struct.pack(order + "HHI", tag, 4, len(value)) + data)
        if len(out) % 2:
            out += b"\0"
        offsets[index] = len(out)
        if index not in sub_ifds:
            position = links.pop() if links else 4
            struct.pack_into(order + "I", out, position, len(out))
        out += struct.pack(order + "H", len(entries)) + b"".join(entries)
        if index not in sub_ifds:
            links.append(len(out))
        out += struct.pack(order + "I", 0)
    return bytes(out)


def gradient(height, width, channels=0, dtype=np.uint8):
    """Return an array of different values that use the range of `dtype`."""
    shape = (height, width, channels) if channels else (height, width)
    return np.linspace(0, np.iinfo(dtype).max, int(np.prod(shape))).astype(dtype).reshape(shape)
