"""Drawn COCO data sets are read as what they were drawn from, or refused by name."""

from tests.data.trees.coco_trees import draw_coco
from tests.data.trees.run_trees import run


def test_open_dataset_of_drawn_coco(pool, tmp_path):
    run(draw_coco, 450, pool, tmp_path)
