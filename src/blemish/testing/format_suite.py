"""The test suite that every registered data set format must pass."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np

from blemish.data import open_dataset
from blemish.data.formats import get_format
from blemish.data.synthetic import write_panels
from blemish.data.write_dataset import write_dataset
from blemish.errors import BlemishError, WrongTask
from blemish.structures import Dataset, Task


def check_format(
    name: str, folder: Path, *, example: Path | None = None, images: int = 6, seed: int = 0
) -> None:
    """Check that a format reads what it wrote, and refuses damaged files with an error of Blemish.

    Args:
        name: registry name.
        folder: an empty folder for the files of this check.
        example: a valid data set; required for a format that cannot be written.
        images: number of images of each synthetic data set.
        seed: of the drawn images and of the damage.

    Raises:
        AssertionError: a check failed; the message begins with its name.
    """
    entry = get_format(name)
    examples = [example] if example is not None else []
    if entry.is_writable:
        for task in Task:
            written = _check_round_trip(name, task, folder / f"round-trip-{task}", images, seed)
            if written is not None:
                examples.append(written)
        assert examples, f"round trip: {name} can be written, but for no task"
    assert examples, f"{name} cannot be written: give a valid data set as `example`"
    for number, source in enumerate(examples):
        assert entry.implementation.recognizes(source), f"recognizes: {source} is not recognized by {name}"
        _check_repeatable(name, source)
        _check_damage(name, source, folder / f"damaged-{number}", seed)
    nothing = folder / "empty"
    nothing.mkdir(parents=True, exist_ok=True)
    assert not entry.implementation.recognizes(nothing), f"recognizes: {name} recognizes an empty folder"


def _check_round_trip(name: str, task: Task, folder: Path, images: int, seed: int) -> Path | None:
    """Write a synthetic data set and read it again; return None if the format cannot represent this task."""
    dataset = write_panels(folder / "source", images, seed, layout="images", task=task)
    target = folder / "written"
    try:
        written = write_dataset(dataset, target, name)
    except WrongTask:
        return None
    # What the format reported as lost may be the masks, and with them the task.
    again = open_dataset(target, format=name, task=None if written.losses else task)
    where = f"round trip ({name}, {task})"
    assert len(again) == len(dataset), f"{where}: {len(again)} of {len(dataset)} images"
    if not written.losses:
        _compare(dataset, again, where)
    return target


def _compare(first: Dataset, second: Dataset, where: str) -> None:
    """Compare labels, boxes and mask areas of two data sets by the file names of their images."""
    by_stem = {sample.path.stem: sample for sample in second}
    for sample in first:
        other = by_stem.get(sample.path.stem)
        assert other is not None, f"{where}: {sample.id} is missing"
        one, two = sample.ground_truth, other.ground_truth
        assert (one is None) == (two is None), f"{where}: {sample.id} has ground truth on one side only"
        if one is None or two is None:
            continue
        assert sorted(one.label_names) == sorted(two.label_names), f"{where}: labels of {sample.id} differ"
        if one.boxes_xyxy is not None and two.boxes_xyxy is not None:
            mine, theirs = (np.array(sorted(boxes.tolist())) for boxes in (one.boxes_xyxy, two.boxes_xyxy))
            assert np.allclose(mine, theirs, atol=0.51), f"{where}: boxes of {sample.id} differ"


def _check_repeatable(name: str, source: Path) -> None:
    """Two readings of one data set give the same samples in the same order."""
    first, second = (open_dataset(source, format=name, minimum_labels=1) for _ in range(2))
    assert [s.id for s in first] == [s.id for s in second], f"repeatable: {name} changes the order"
    assert first.labels == second.labels, f"repeatable: {name} changes the labels"
    assert all(s.path.is_file() for s in first), f"repeatable: {name} names images that do not exist"


def _check_damage(name: str, source: Path, folder: Path, seed: int, tries: int = 20) -> None:
    """Damaged label files are read or refused with a `BlemishError`; no other exception escapes."""
    if not source.is_dir():
        return
    texts = [p for p in sorted(source.rglob("*")) if p.suffix in (".txt", ".json", ".xml", ".csv", ".yaml")]
    rng = random.Random(seed)  # noqa: S311  (test data)
    for number in range(tries if texts else 0):
        target = folder / str(number)
        shutil.copytree(source, target)
        victim = target / rng.choice(texts).relative_to(source)
        content = bytearray(victim.read_bytes())
        if number % 3 == 0:
            content = content[: len(content) // 2]
        elif content:
            for _ in range(3):
                content[rng.randrange(len(content))] = rng.randrange(256)
        victim.write_bytes(content)
        try:
            open_dataset(target, format=name, minimum_labels=1)
        except BlemishError:
            pass
        except Exception as error:
            kind = type(error).__name__
            raise AssertionError(
                f"damage: {name} raises {kind} for a damaged {victim.name}: {error}"
            ) from error
        finally:
            shutil.rmtree(target)
