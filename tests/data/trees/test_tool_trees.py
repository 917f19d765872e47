"""Drawn exports of annotation tools are read as what they were drawn from, or refused by name."""

import pytest
from tests.data.trees.run_trees import run
from tests.data.trees.tool_trees import (
    draw_cvat,
    draw_label_studio,
    draw_labelme,
    draw_ndjson,
    draw_supervisely,
    draw_via,
)

TOOLS = (draw_cvat, draw_label_studio, draw_labelme, draw_ndjson, draw_supervisely, draw_via)


@pytest.mark.parametrize("draw", TOOLS, ids=lambda d: d.__name__)
def test_open_dataset_of_drawn_exports(draw, pool, tmp_path):
    run(draw, 35, pool, tmp_path)
