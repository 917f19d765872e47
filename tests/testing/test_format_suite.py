"""`blemish.testing.check_format` on every built-in format that can be written."""

from typing import cast

import pytest

from blemish.data.formats import FORMATS, WritableFormat, register
from blemish.structures import Dataset, Labels, Task
from blemish.testing import check_format

WRITABLE = [name for name, entry in FORMATS.items() if entry.is_writable]


@pytest.mark.parametrize("name", WRITABLE)
def test_check_format_passes_on_built_in_formats(name, tmp_path):
    check_format(name, tmp_path, images=4)


@pytest.fixture
def forgetful():
    """A format that drops the last image when it reads."""

    @register("forgetful", rank=99, description="a test")
    class Forgetful:
        def recognizes(self, path):
            return (path / "labels.csv").is_file()

        def read(self, path, context):
            whole = FORMATS.get("csv").implementation.read(path, context)
            return Dataset(task=whole.task, labels=whole.labels, samples=whole.samples[:-1], root=whole.root)

        def write(self, dataset, root, context):
            cast("WritableFormat", FORMATS.get("csv").implementation).write(dataset, root, context)

    yield
    FORMATS.unregister("forgetful")


def test_check_format_fails_on_a_lost_image(forgetful, tmp_path):
    with pytest.raises(AssertionError, match="round trip"):
        check_format("forgetful", tmp_path, images=4)


@pytest.fixture
def crashing():
    """A format that can only be read, and fails with an exception of its own."""

    @register("crashing", rank=99, description="a test")
    class Crashing:
        def recognizes(self, path):
            return (path / "labels.txt").is_file()

        def read(self, path, context):
            int((path / "labels.txt").read_bytes()[:4])
            return Dataset(task=Task.MULTILABEL, labels=Labels(("dent",)), samples=(), root=path)

    yield
    FORMATS.unregister("crashing")


def test_check_format_needs_an_example_of_a_format_that_cannot_be_written(crashing, tmp_path):
    with pytest.raises(AssertionError, match="give a valid data set"):
        check_format("crashing", tmp_path)
