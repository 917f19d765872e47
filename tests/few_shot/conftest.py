"""A trunk with random weights in the published layout, and drawn cells to learn from."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def trunk_state(lite):
    return lite.published_layout(np.random.default_rng(0))


@pytest.fixture(scope="session")
def small_state(lite):
    """The same layout with few channels, so that a training takes seconds."""
    widths = (8, 8, 8, 16, 16, 24, 32)
    return lite.published_layout(np.random.default_rng(1), widths=widths, stem=8, head=64, classes=10)
