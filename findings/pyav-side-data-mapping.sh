#!/usr/bin/env bash
# PyAV: frame.side_data is a collections.abc.Mapping whose iteration yields values, not keys, so that items() and dict()
# raise KeyError and keys() contains values, although get("DISPLAYMATRIX") works.
# The video is written by PyAV itself; its track header then states a rotation by 90 degrees (ISO/IEC 14496-12, 8.3.2).
# Prints the version and what each call gives; exits with 1 when the behavior changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import struct
import sys
from collections.abc import Mapping

import av
import numpy as np

with av.open("turned.mp4", "w") as container:
    stream = container.add_stream("mpeg4", rate=5)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for number in range(2):
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        frame.pts = number
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
with open("turned.mp4", "r+b") as file:
    data = file.read()
    file.seek(data.index(b"tkhd") + 44)
    file.write(struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30))

with av.open("turned.mp4") as container:
    side_data = next(container.decode(video=0)).side_data
    print("PyAV", av.__version__)
    print("is a Mapping:", isinstance(side_data, Mapping), "of length", len(side_data))
    has_matrix = side_data.get("DISPLAYMATRIX") is not None
    print("get('DISPLAYMATRIX'):", side_data.get("DISPLAYMATRIX"))
    print("iteration:", list(side_data))
    failed = []
    for name, call in (("items()", lambda: list(side_data.items())), ("dict()", lambda: dict(side_data))):
        try:
            print(f"{name}:", call())
        except KeyError as error:
            failed.append(name)
            print(f"{name}: KeyError:", error)
sys.exit(0 if isinstance(side_data, Mapping) and has_matrix and len(failed) == 2 else 1)
PYTHON
