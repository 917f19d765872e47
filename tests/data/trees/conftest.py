"""The modules of generated annotation trees are next to the tests."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    """Tiny images of several sizes and formats, written once and linked into every tree."""
    from annotation_tree import ImagePool

    return ImagePool(tmp_path_factory.mktemp("pool"))


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """Turn the user's cache off."""
    monkeypatch.setenv("BLEMISH_CACHE", "")
