"""preview: a grid of images with their annotations."""

import numpy as np

from blemish.data import open_dataset
from blemish.data.preview import preview
from blemish.data.synthetic.generate import synthesize
from blemish.testing import raises


def test_preview_shows_every_label(tmp_path):
    synthesize("panels", tmp_path / "set", task="detection", format="coco", count=30, size=64)
    dataset = open_dataset(tmp_path / "set")
    grid = preview(dataset, count=6, columns=3, tile=100)
    assert grid.size[0] > 300
    assert grid.size[1] > 200
    assert len({tuple(p) for p in np.asarray(grid).reshape(-1, 3)}) > 100
    with raises("bad-input.empty-preview"):
        preview(dataset, count=0)
