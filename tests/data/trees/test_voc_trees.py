"""Drawn VOC data sets are read as what they were drawn from, or refused by name."""

from tests.data.trees.run_trees import run
from tests.data.trees.voc_trees import draw_voc


def test_open_dataset_of_drawn_voc(pool, tmp_path):
    run(draw_voc, 250, pool, tmp_path)
