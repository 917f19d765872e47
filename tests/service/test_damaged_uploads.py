"""Damaged images: never a server fault, and never slow."""

import io
import time
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from blemish.service.problem_details import CATALOG

MAX_CPU_SECONDS = 2.0  # of this process, in which the server runs: other programs do not count
NOISE = Image.fromarray(np.random.default_rng(5).integers(0, 256, (60, 80, 3), dtype=np.uint8))


def saved(image, kind, **options):
    with io.BytesIO() as buffer:
        image.save(buffer, kind, **options)
        return buffer.getvalue()


def seeds():
    """Return images in every supported format and in some that are not."""
    rgb, grey = NOISE, NOISE.convert("L")
    sixteen = Image.fromarray(np.arange(4800, dtype=np.uint16).reshape(60, 80) * 13)
    frames = [NOISE.rotate(90 * i) for i in range(3)]
    exif = Image.Exif()
    exif[0x0112] = 7
    return [
        saved(rgb, "JPEG"),
        saved(rgb, "JPEG", progressive=True, exif=exif),
        saved(NOISE.convert("CMYK"), "JPEG"),
        saved(grey, "JPEG"),
        saved(rgb, "PNG"),
        saved(NOISE.convert("P"), "PNG"),
        saved(NOISE.convert("RGBA"), "PNG"),
        saved(sixteen, "PNG"),
        saved(grey.convert("1"), "PNG"),
        saved(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        saved(rgb, "WEBP"),
        saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        saved(rgb, "TIFF"),
        saved(sixteen, "TIFF"),
        saved(NOISE.convert("CMYK"), "TIFF", compression="tiff_lzw"),
        saved(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
        saved(rgb, "BMP"),
        saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        saved(Image.new("RGB", (1, 1)), "PNG"),
        saved(Image.new("L", (65_500, 1)), "PNG"),
        saved(Image.new("RGB", (1, 65_500)), "JPEG"),
        saved(Image.new("L", (65_500, 1)), "TIFF"),
    ]


SEEDS = seeds()
SIGNATURES = [
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\0\0\0\0WEBP",
    b"II*\0\x08\0\0\0",
    b"BM",
    b"GIF89a",
    b"",
]


@st.composite
def mutated(draw):
    """Draw an image that was cut, with flipped bits, another signature, or inserted bytes."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for kind in draw(st.lists(st.sampled_from(["cut", "flip", "signature", "insert", "zero"]), max_size=3)):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        if kind == "cut":
            del data[at:]
        elif kind == "flip":
            for _ in range(draw(st.integers(1, 6))):
                # the first bytes matter most
                end = draw(st.sampled_from([min(64, len(data)), len(data)]))
                data[draw(st.integers(0, end - 1))] ^= 1 << draw(st.integers(0, 7))
        elif kind == "signature":
            signature = draw(st.sampled_from(SIGNATURES))
            data[: len(signature)] = signature
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=40))
        else:
            data[at : at + 16] = bytes(len(data[at : at + 16]))
    return bytes(data)


def check(client, data):
    """Return the status of the answer, after checking that it is not a server fault and not slow."""
    began = time.process_time()
    response = client.post("/api/v1/predict", files={"image": data}, params={"model": "masks"})
    seconds = time.process_time() - began
    assert response.status_code < 500, response.text
    assert seconds < MAX_CPU_SECONDS, (seconds, response.status_code)
    if response.status_code != 200:
        problem = response.json()
        status, _ = CATALOG.get(problem["code"]) or CATALOG[problem["code"].partition(".")[0]]
        assert status == response.status_code
    return response.status_code


def test_predict_undamaged_images(client):
    assert [check(client, data) for data in SEEDS] == [415 if d.startswith(b"GIF") else 200 for d in SEEDS]


def fuzz_server(address, examples, timeout):
    statuses: dict[Any, Any] = {}
    with httpx.Client(base_url=address, timeout=timeout) as client:

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(mutated())
        def fuzz(data):
            status = check(client, data)
            statuses[status] = statuses.get(status, 0) + 1

        fuzz()
        for link in ("image", "overlay"):  # the server still works
            answer = client.post("/api/v1/predict", files={"image": SEEDS[0]}).json()
            assert client.get(answer["links"][link]).status_code == 200
    assert sum(statuses.values()) >= examples * 0.9
    assert {200, 415, 422} <= set(statuses)


def test_predict_damaged_images(address, tools):
    fuzz_server(address, 200, tools.timeout_seconds)


@pytest.mark.slow
def test_predict_thousands_of_damaged_images(address, tools):
    fuzz_server(address, 2500, tools.timeout_seconds)
