"""Run a generator of trees over many seeds, and collect what was read wrong."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.data.trees.annotation_tree import ImagePool, Tree
from tests.data.trees.tree_oracle import WrongReading, judge

MIN_SHARE_READ = 0.6  # of the trees, so that refusing everything fails
MAX_SHOWN = 8


def run(
    draw: Callable[[Tree], Path | None],
    count: int,
    pool: ImagePool,
    tmp_path: Path,
    *,
    first: int = 0,
    keep: bool = False,
) -> Counter[str]:
    """Draw `count` trees, read each, and raise with the first faults.

    Raises:
        WrongReading: a tree was read as something else, or too many were refused.
    """
    faults: list[str] = []
    outcomes: Counter[str] = Counter()
    for seed in range(first, first + count):
        root = tmp_path / f"{draw.__name__}-{seed}"
        root.mkdir()
        tree = Tree(random.Random(f"{draw.__name__} {seed}"), pool, root)
        start = draw(tree)
        try:
            outcomes[judge(tree, start)] += 1
        except WrongReading as error:
            faults.append(f"{draw.__name__} {seed}: {error}")
        except Exception as error:  # a crash is a fault of that tree
            faults.append(f"{draw.__name__} {seed}: crash {type(error).__name__}: {error}")
        if not keep:
            shutil.rmtree(root)
    if faults:
        raise WrongReading(f"{len(faults)} of {count} trees:\n" + "\n".join(faults[:MAX_SHOWN]))
    if outcomes["read"] < MIN_SHARE_READ * count:
        raise WrongReading(f"{draw.__name__}: only {outcomes['read']} of {count} trees were read")
    return outcomes
