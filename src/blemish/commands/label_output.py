"""`--save` and `--save-crops` of `blemish predict`: predictions as labels, and images of what was found."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from blemish.data.write_context import check_folder_name
from blemish.data.write_dataset import check_output
from blemish.errors import BadInput, WrongTask
from blemish.inference.predicted_labels import PredictedLabels
from blemish.model_file import write_atomically

if TYPE_CHECKING:
    from blemish.abstention import Decision
    from blemish.inference import PredictionResult, Predictor

QUALITY = 95  # of JPEG


class LabelOutput:
    """What a run writes beside its lines: labels in a format, and crops."""

    def __init__(
        self,
        predictor: Predictor,
        sources: list[str],
        *,
        save: str | None,
        save_to: Path | None,
        save_crops: Path | None,
        link: bool,
        min_score: float | None,
        name: str,
    ) -> None:
        """Check the options before the first image is predicted.

        Args:
            predictor: its task and labels are those of the output.
            sources: as the user wrote them; the labels are not written into a folder among them.
            save: format of the labels, or None.
            save_to: folder of the labels. Default: predictions-FORMAT.
            save_crops: folder of the crops, or None.
            link: whether to make hard links to the images instead of copies.
            min_score: lower-scoring objects are left out. Default: the threshold of each label.
            name: of the model file.

        Raises:
            BadInput: a folder cannot be used, or a label cannot be written.
            WrongTask: the format, or a crop, cannot represent the task.
        """
        self._labels: PredictedLabels | None = None
        self._link, self._model = link, f"{Path(name).stem}-{predictor.digest[:12]}"
        self._folders = [Path(s) for s in sources if s != "-" and Path(s).is_dir()]
        self._crops = save_crops
        self._names: set[str] = set()
        self._min_score = min_score
        if save is None and (save_to is not None or link):
            raise BadInput(
                "--save-to and --link: expected --save FORMAT, the format of the labels", reason="save"
            )
        self._root = save_to or Path(f"predictions-{save}")
        if save is not None:
            self._labels = PredictedLabels(save, predictor.task, predictor.labels, min_score=min_score)
            check_output(self._root, self._folders)
        if save_crops is not None:
            if not predictor.task.has_boxes:
                raise WrongTask(
                    f"--save-crops: expected a model with boxes, got {predictor.task}. Use --save folders for"
                    " images in folders of their labels.",
                    reason="needs-boxes",
                )
            check_output(save_crops, self._folders)
            for label in predictor.labels:
                check_folder_name(label)

    @property
    def needs_pixels(self) -> bool:
        """Whether the results must keep their pixels."""
        return self._crops is not None

    def add(self, result: PredictionResult, decision: Decision | None = None) -> None:
        """Add one result, and what is decided, if that was requested.

        Raises:
            BadInput: a frame of a video was to be written as a label.
            StorageFull: the disk is full or read-only.
        """
        if self._labels is not None:
            self._labels.add(result, decision)
        if self._crops is not None:
            self._crop(result, self._crops)

    def _crop(self, result: PredictionResult, folder: Path) -> None:
        """Write the part of the image inside each box, in a folder per label."""
        prediction = result.prediction
        if prediction is None or result.image is None:
            return
        kept = prediction.filter_scores(self._min_score)
        if not len(kept) or kept.boxes_xyxy is None:
            return
        image = result.image.to_pil(result.white_level)
        stem = "image" if result.input.path is None else result.input.path.stem
        if result.input.frame_index is not None:
            stem += f"-{result.input.frame_index}"
        for index, (x1, y1, x2, y2) in zip(kept.label_index.tolist(), kept.boxes_xyxy.tolist(), strict=True):
            left, top = max(math.floor(x1), 0), max(math.floor(y1), 0)
            right, bottom = min(math.ceil(x2), image.width), min(math.ceil(y2), image.height)
            if left >= right or top >= bottom:
                continue
            buffer = io.BytesIO()
            image.crop((left, top, right, bottom)).save(buffer, "JPEG", quality=QUALITY)
            label = kept.labels.names[index] if len(kept.labels) else "object"
            write_atomically(self._path(folder / label, stem), buffer.getvalue())

    def _path(self, folder: Path, stem: str) -> Path:
        """Return a path that no other crop of this run has."""
        number = 1
        while (name := f"{folder.name}/{stem}-{number}".casefold()) in self._names:
            number += 1
        self._names.add(name)
        return folder / f"{stem}-{number}.jpg"

    def finish(self) -> None:
        """Write the labels, and report on standard error what their format cannot represent.

        Raises:
            BadInput: no image has a prediction.
            StorageFull: the disk is full or read-only.
        """
        if self._labels is not None:
            written = self._labels.write(
                self._root, model=self._model, link=self._link, sources=self._folders
            )
            typer.echo(
                f"blemish: wrote the labels of {written.images} images as {written.format} to {written.root}",
                err=True,
            )
            for loss in written.losses:
                typer.echo(f"blemish: not in {written.format}: {loss.sentence()}", err=True)
        if self._crops is not None:
            typer.echo(f"blemish: wrote {len(self._names)} crops to {self._crops}", err=True)
