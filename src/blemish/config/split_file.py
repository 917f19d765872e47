"""Read and write `split.csv`: the id and the split of every image of a run."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from blemish.errors import BadInput
from blemish.model_file import write_atomically
from blemish.structures import Dataset


def write_split_file(dataset: Dataset, path: Path) -> None:
    """Write the id and split of every image of a data set."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "split"))
    writer.writerows((s.id, s.split or "") for s in dataset)
    write_atomically(path, text.getvalue().encode())


def read_split_file(path: Path) -> dict[str, str]:
    """Return the split of every image by id, as `write_split_file` wrote it.

    Raises:
        BadInput: the file was edited or is damaged ("bad-input.split-file").
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["id"]: row["split"] for row in csv.DictReader(file)}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(
            f"{path}: expected a CSV table with the columns id and split, as training writes it; restore the "
            "file, or give images with --data",
            reason="split-file",
        ) from error
