"""Drawn class folders and images with masks are read as what they were drawn from, or refused by name."""

from tests.data.trees.class_folders import draw_class_folders
from tests.data.trees.mask_trees import draw_masks
from tests.data.trees.run_trees import run


def test_open_dataset_of_drawn_class_folders(pool, tmp_path):
    run(draw_class_folders, 250, pool, tmp_path)


def test_open_dataset_of_drawn_masks(pool, tmp_path):
    run(draw_masks, 100, pool, tmp_path)
