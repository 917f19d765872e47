"""Equal networks are traced once, and tiny graphs may grow."""

import pytest
from tests.traced_once import traced_once as traced_once


@pytest.fixture
def tiny_graphs_are_mostly_names(monkeypatch):
    monkeypatch.setattr("blemish.export.int8.MAX_SIZE_SHARE", 2.0)
