#!/usr/bin/env bash
# Pillow reads an uncompressed TIFF of 16-bit RGB samples in separate planes (PlanarConfiguration 2) without an error
# or a warning and gives wrong values: the low and the high bytes of the samples in turn.
# The file is valid TIFF 6.0: three strips, one for each plane. tifffile, an independent reader, gives the true values.
# Prints the versions and what each reader gives; exits with 1 when the behavior changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.3.5 tifffile==2025.10.16
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import struct
import sys
import warnings

import numpy as np
import PIL
import tifffile
from PIL import Image

warnings.simplefilter("error")
TRUE = (0x1234, 0x5678, 0x9ABC)
SIDE = 8


def write(path, planar):
    """A little-endian TIFF 6.0 file of SIDE x SIDE pixels, 16 bits per sample, without compression."""
    entries, data = [], b""
    first = 8
    planes = [np.full((SIDE, SIDE), value, "<u2").tobytes() for value in TRUE]
    pixels = np.tile(np.array(TRUE, "<u2"), SIDE * SIDE).tobytes()
    strips = planes if planar == 2 else [pixels]
    offsets = [first + sum(map(len, strips[:i])) for i in range(len(strips))]
    data = b"".join(strips)
    place = first + len(data)
    extra = b""

    def values(kind, numbers):
        nonlocal extra
        packed = struct.pack("<" + {3: "H", 4: "I"}[kind] * len(numbers), *numbers)
        if len(packed) <= 4:
            return packed.ljust(4, b"\0")
        at = place + len(extra)
        extra += packed
        return struct.pack("<I", at)

    for tag, kind, numbers in (
        (256, 3, [SIDE]), (257, 3, [SIDE]), (258, 3, [16] * 3), (259, 3, [1]), (262, 3, [2]),
        (273, 4, offsets), (277, 3, [3]), (278, 3, [SIDE]), (279, 4, [len(s) for s in strips]), (284, 3, [planar]),
    ):
        entries.append(struct.pack("<HHI", tag, kind, len(numbers)) + values(kind, numbers))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    header = b"II*\0" + struct.pack("<I", place + len(extra))
    with open(path, "wb") as file:
        file.write(header + data + extra + directory)


write("planes.tif", 2)
reference = tifffile.imread("planes.tif")
reference = reference if reference.shape[-1] == 3 else reference.transpose(1, 2, 0)
assert (reference == np.array(TRUE)).all(), "tifffile disagrees: the file is not what it should be"
print(f"Pillow {PIL.__version__}, tifffile {tifffile.__version__}")
print("true 8-bit values (high bytes):", [hex(v >> 8) for v in TRUE])
try:
    image = Image.open("planes.tif")
    mode = image.mode
    got = np.asarray(image)
    distinct = sorted({tuple(int(v) for v in pixel) for pixel in got.reshape(-1, got.shape[-1])})
    print(f"Pillow: mode {mode}, {len(distinct)} distinct pixels in an image of one color, such as", distinct[:2])
    right = [tuple(v >> 8 for v in TRUE)]
    silent_and_wrong = distinct != right and mode == "RGB"
except Exception as error:
    print("Pillow:", type(error).__name__, error)
    silent_and_wrong = False
sys.exit(0 if silent_and_wrong else 1)
PYTHON
