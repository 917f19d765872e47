#!/usr/bin/env bash
# Pillow does not open a big-endian TIFF of 16-bit gray samples with PhotometricInterpretation 0 (white is zero),
# although it opens the same image in little-endian order, and the big-endian one with black as zero.
# Where it opens white-is-zero images of 16 bits, it does not invert them, unlike those of 8 bits.
# The files are valid TIFF 6.0; tifffile, an independent reader, reads all of them.
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

import numpy as np
import PIL
import tifffile
from PIL import Image, UnidentifiedImageError

SIDE = 8


def write(path, order, photometric, bits):
    """A TIFF 6.0 file of SIDE x SIDE gray samples, uncompressed, in one strip. order: "<" or ">"."""
    samples = (np.arange(SIDE * SIDE).reshape(SIDE, SIDE) * (1000 if bits == 16 else 3)).astype(f"{order}u{bits // 8}")
    fields = [(256, 3, SIDE), (257, 3, SIDE), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    fields += [(273, 4, 8 + 2 + 9 * 12 + 4), (277, 3, 1), (278, 3, SIDE), (279, 4, samples.nbytes)]
    data = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", len(fields))
    for tag, kind, value in fields:
        packed = struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
        data += struct.pack(f"{order}HHI", tag, kind, 1) + packed
    with open(path, "wb") as file:
        file.write(data + struct.pack(f"{order}I", 0) + samples.tobytes())
    assert (tifffile.imread(path) == samples).all(), "tifffile disagrees: the file is not what it should be"
    return samples


print(f"Pillow {PIL.__version__}, tifffile {tifffile.__version__}")
found = {}
for bits in (8, 16):
    for order in "<>":
        for photometric in (1, 0):
            samples = write("a.tif", order, photometric, bits)
            try:
                got = np.asarray(Image.open("a.tif"))
                white = 255 if bits == 8 else 65535
                result = "as stored" if (got == samples).all() else "inverted" if (got == white - samples).all() else "wrong"
            except UnidentifiedImageError as error:
                result = type(error).__name__
            found[bits, order, photometric] = result
            print(f"{bits} bits, {'big' if order == '>' else 'little'}-endian, PhotometricInterpretation {photometric}:", result)
expected = {
    (8, "<", 1): "as stored", (8, "<", 0): "inverted", (8, ">", 1): "as stored", (8, ">", 0): "inverted",
    (16, "<", 1): "as stored", (16, "<", 0): "as stored", (16, ">", 1): "as stored",
    (16, ">", 0): "UnidentifiedImageError",
}
sys.exit(0 if found == expected else 1)
PYTHON
