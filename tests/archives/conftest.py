import io
import tarfile

import numpy as np
import pytest
from PIL import Image


def image_bytes(seed, image_format="PNG", size_hw=(12, 16)):
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)).save(buffer, image_format)
    return buffer.getvalue()


def write_tar(file, members):
    """Write (name, content) pairs into a tar file at a path, or in a buffer."""
    options = {"fileobj": file} if isinstance(file, io.BytesIO) else {"name": file}
    with tarfile.open(mode="w", **options) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def web_members(first, count):
    """Return the members of a tar file in the layout of WebDataset: an image and its label per sample."""
    members = []
    for number in range(first, first + count):
        members += [(f"{number:04d}.png", image_bytes(number)), (f"{number:04d}.cls", b"1")]
    return members


@pytest.fixture
def model(tmp_path, tiny):
    tiny.write_scores_model(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def photos(tmp_path):
    """A folder of 13 images in two folders and one damaged file, in an order that is not that of text."""
    for number in range(13):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(number))
    (tmp_path / "photos/b/2.png").write_bytes(b"nothing")
    return tmp_path / "photos"
