"""Drawn tables are read as what they were drawn from, or refused by name."""

import pytest
from tests.data.trees.run_trees import run
from tests.data.trees.table_trees import draw_box_table, draw_table


@pytest.mark.parametrize(("draw", "count"), [(draw_table, 200), (draw_box_table, 140)])
def test_open_dataset_of_drawn_tables(draw, count, pool, tmp_path):
    run(draw, count, pool, tmp_path)
