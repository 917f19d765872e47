"""Run Blemish's public suites on the extensions of this plug-in, in an environment where it is installed."""

from blemish.testing import check_architecture, check_format


def test_boards_net():
    check_architecture("boards-net", task="classification", options={"input_size": 32})


def test_boards_format(tmp_path):
    check_format("boards", tmp_path)
