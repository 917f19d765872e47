"""The comparison of drawn trees fails for every kind of wrong reading."""

import random
from dataclasses import replace

import pytest
from tests.data.trees.annotation_tree import Tree
from tests.data.trees.coco_trees import draw_coco
from tests.data.trees.run_trees import run
from tests.data.trees.tree_oracle import WrongReading, difference, judge

from blemish.data import open_dataset


@pytest.fixture
def tree(pool, tmp_path):
    """A data set in splits, of which everything is read."""
    for seed in range(200):
        root = tmp_path / str(seed)
        root.mkdir()
        drawn = Tree(random.Random(seed), pool, root)
        draw_coco(drawn)
        plain = not drawn.may_refuse and all(image.annotated for image in drawn.images)
        if plain and drawn.images[0].split and drawn.tasks == ("detection",):
            return drawn
    raise AssertionError("no plain tree among 200")


def _shift(tree):
    label, (x1, y1, x2, y2) = tree.images[0].objects[0]
    tree.images[0].objects[0] = (label, (x1 + 1, y1, x2 + 1, y2))


def _relabel(tree):
    _, box = tree.images[0].objects[0]
    tree.images[0].objects[0] = ("rust", box)
    tree.labels = (*tree.labels, "rust")


FAULTS = {
    "shifted box": _shift,
    "other label": _relabel,
    "lost object": lambda tree: tree.images[0].objects.append(("dent", (1, 1, 20, 20))),
    "object added": lambda tree: tree.images[0].objects.pop(),
    "other split": lambda tree: setattr(tree.images[0], "split", "test"),
    "lost image": lambda tree: tree.images.append(replace(tree.images[0], path="images/none.jpg")),
    "image added": lambda tree: tree.images.pop(),
    "other task": lambda tree: setattr(tree, "tasks", ("classification",)),
    "labels of folders": lambda tree: setattr(tree, "labels", ("train", "val")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_judge_finds(fault, tree):
    assert judge(tree) == "read"
    FAULTS[fault](tree)
    assert difference(open_dataset(tree.root), tree)
    with pytest.raises(WrongReading):
        judge(tree)


def test_run_fails_if_everything_is_refused(pool, tmp_path):
    def draw_nothing(tree):
        tree.write("a.txt", "nothing")
        tree.may_refuse.append("no data set")

    with pytest.raises(WrongReading, match="only 0 of 3"):
        run(draw_nothing, 3, pool, tmp_path)
