"""The format `boards`: a folder with boards.txt, one line per board: file, label, serial number."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blemish.data.formats import register
from blemish.data.read_context import ReadContext
from blemish.data.write_context import WriteContext, file_names, lose_extras, require_task
from blemish.errors import BadDataset
from blemish.structures import Dataset, GroundTruth, Labels, Sample, Task

LIST = "boards.txt"


@register("boards", rank=45, description=f"a folder with {LIST}")
class BoardsFormat:
    """Lines of file, label and serial number, separated by tabs; the serial number is the group."""

    def recognizes(self, path: Path) -> bool:
        """Return whether the folder contains boards.txt."""
        return (path / LIST).is_file()

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per line, in the order of the lines."""
        rows = []
        try:
            text = (path / LIST).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise BadDataset(
                "the list is not UTF-8 text", where=path / LIST, remedy="save it as UTF-8", reason="encoding"
            ) from error
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            fields = line.split("\t")
            origin = f"{LIST}:{number}"
            image = path / fields[0]
            if len(fields) not in (2, 3) or not fields[1].strip():
                context.problem(
                    "bad-line",
                    f"expected file, label and serial number, got {len(fields)} fields",
                    origin=origin,
                    remedy="separate the fields by tabs",
                )
                continue
            if not image.is_file():
                context.problem("missing-image", f"{fields[0]!r} does not exist", origin=origin, path=image)
                continue
            rows.append((image, fields[0], fields[1].strip(), fields[2] if len(fields) == 3 else "", origin))
        labels = Labels(tuple(sorted({label for _, _, label, _, _ in rows})))
        samples = tuple(
            Sample(
                id=name,
                path=image,
                group=serial or None,
                origin=origin,
                ground_truth=GroundTruth(
                    task=Task.CLASSIFICATION,
                    labels=labels,
                    label_index=np.array([labels.index(label)]),
                ),
            )
            for image, name, label, serial, origin in rows
        )
        if not samples:
            raise BadDataset(
                "the list contains no board", where=path / LIST, remedy="add lines", reason="no-images"
            )
        return Dataset(task=Task.CLASSIFICATION, labels=labels, samples=samples, root=path, format="boards")

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write the images below `root` and one line for each."""
        require_task(dataset, "boards", Task.CLASSIFICATION)
        lose_extras(dataset, context)
        if dataset.splits:
            context.lose("splits", "splits are not kept")
        if list(dataset.labels.names) != sorted(dataset.labels.names):
            context.lose(
                "label-order", "the order of the labels is not kept; they are read in alphabetical order"
            )
        names = file_names(dataset, context)
        lines = []
        for sample in dataset:
            context.put(sample, root / names[sample.id])
            label = sample.ground_truth.label_names[0] if sample.ground_truth else ""
            lines.append(f"{names[sample.id]}\t{label}\t{sample.group or ''}\n")
        (root / LIST).write_text("".join(lines), encoding="utf-8")
