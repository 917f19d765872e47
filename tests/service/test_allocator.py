"""HeapTrimmer, in a process of its own, because the allocator belongs to the process."""

import ctypes
import subprocess
import sys

import pytest

CODE = """
import io
from concurrent.futures import ThreadPoolExecutor
from PIL import Image
from blemish.imaging import open_image
from blemish.service.allocator import HeapTrimmer, resident_bytes

trimmer = HeapTrimmer()
buffer = io.BytesIO()
Image.new("RGB", (6000, 4000)).save(buffer, "PNG")
data = buffer.getvalue()

def use(_):
    open_image(data).pixels.max()

with ThreadPoolExecutor(4) as pool:
    list(pool.map(use, range(4)))  # the modules are imported
    trimmer.trim()
    before = resident_bytes()
    list(pool.map(use, range(24)))
    trimmer.trim()
    print(before, resident_bytes())
"""


def has_glibc():
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


@pytest.mark.skipif(not has_glibc(), reason="only glibc has malloc_trim")
def test_heap_trimmer_returns_the_memory_of_large_images():
    command = [sys.executable, "-c", CODE]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    before, after = map(int, output.split())
    assert after <= before + 48 * 2**20  # without a trimmer 470 MB remain
