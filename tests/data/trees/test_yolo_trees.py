"""Drawn YOLO data sets are read as what they were drawn from, or refused by name."""

from tests.data.trees.run_trees import run
from tests.data.trees.yolo_trees import draw_yolo


def test_open_dataset_of_drawn_yolo(pool, tmp_path):
    run(draw_yolo, 400, pool, tmp_path)
