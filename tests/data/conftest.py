"""Small images and tables for the data room's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Draws a small image that no other resembles, below the test's folder."""

    def one(name: str, size_wh: tuple[int, int] = (24, 20), seed: int | None = None, **save: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(abs(hash_of(name)) if seed is None else seed)
        coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8)).resize(size_wh)
        coarse.save(path, **save)
        return path

    return one


def hash_of(name: str) -> int:
    """The same number for the same name in every run."""
    return int.from_bytes(name.encode()[-12:], "little")


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a table beside the images."""

    def one(text: str, name: str = "labels.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding=encoding, newline="")
        return path

    return one


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is not below the test's own, where the images and labels lie."""
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """Tests leave the user's cache alone."""
    monkeypatch.setenv("BLEMISH_CACHE", "")
