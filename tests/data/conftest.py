"""Small images and tables for the tests of `blemish.data`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Return a function that writes a small, distinct image below the test's folder."""

    def one(name: str, size_wh: tuple[int, int] = (24, 20), seed: int | None = None, **save: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(abs(hash_of(name)) if seed is None else seed)
        coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8)).resize(size_wh)
        coarse.save(path, **save)
        return path

    return one


def hash_of(name: str) -> int:
    """Return a number that depends on the name only."""
    return int.from_bytes(name.encode()[-12:], "little")


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a table beside the images."""

    def one(text: str, name: str = "labels.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding=encoding, newline="")
        return path

    return one


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the test's own, which contains the images and labels."""
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """Turn the user's cache off."""
    monkeypatch.setenv("BLEMISH_CACHE", "")


@pytest.fixture
def labeled(draw, table):
    """A multilabel table of four images in two splits."""
    for name in ("a.png", "b.png", "c.png", "d.png"):
        draw(name, (30, 20))
    return table(
        "filename,crack,inactive,split\na.png,1,1,train\nb.png,1,0,train\nc.png,0,0,val\nd.png,0,1,val\n"
    )
