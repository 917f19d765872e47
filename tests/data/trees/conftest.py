"""Fixtures of the generated annotation trees."""

import pytest
from tests.data.trees.annotation_tree import ImagePool


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    """Tiny images of several sizes and formats, written once and linked into every tree."""
    return ImagePool(tmp_path_factory.mktemp("pool"))


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """Turn the user's cache off."""
    monkeypatch.setenv("BLEMISH_CACHE", "")
