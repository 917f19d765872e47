"""Drawn VOC data sets are read as what they were drawn from, or refused by name."""

from run_trees import run
from voc_trees import draw_voc


def test_open_dataset_of_drawn_voc(pool, tmp_path):
    run(draw_voc, 250, pool, tmp_path)
