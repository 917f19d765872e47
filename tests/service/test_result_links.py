"""LinkStore: expiry and memory."""

import numpy as np

from blemish.service.result_links import LinkedResult, LinkStore
from blemish.structures import Labels, Prediction, Task


def prediction():
    return Prediction(
        task=Task.CLASSIFICATION,
        labels=Labels(("a", "b")),
        label_index=np.array([0]),
        size_hw=(4, 4),
        scores=np.array([0.7]),
        label_scores=np.array([0.7, 0.3]),
        thresholds=np.array([0.5, 0.5]),
    )


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_link_store_links_expire():
    clock = Clock()
    links = LinkStore(10, 1_000_000, clock)
    tokens = links.add(LinkedResult(b"x" * 100, prediction()), ("image", "overlay"))
    result, kind = links.get(tokens["overlay"])
    assert (result.image[:1], kind) == (b"x", "overlay")
    clock.now = 9.99
    assert links.get(tokens["image"]) is not None
    clock.now = 10
    assert links.get(tokens["image"]) is None
    assert links.used_bytes == 0


def test_link_store_removes_the_oldest_result_if_memory_is_full():
    links = LinkStore(1000, 10_000, Clock())
    tokens = [links.add(LinkedResult(bytes(2000), prediction()), ("image",))["image"] for _ in range(50)]
    alive = [links.get(token) is not None for token in tokens]
    assert alive == [False] * (50 - sum(alive)) + [True] * sum(alive)
    assert sum(alive) == 3
    assert links.used_bytes <= 10_000
    assert links.add(LinkedResult(bytes(20_000), prediction()), ("image",)) == {}
    assert sum(links.get(token) is not None for token in tokens) == 3
    links.clear()
    assert links.used_bytes == 0


def test_link_store_without_lifetime_gives_no_links():
    assert LinkStore(0, 10_000).add(LinkedResult(b"x", prediction()), ("image",)) == {}
