"""Predictions as lines for programs, lines for people, pictures and films."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from blemish.geometry import mask_to_rings, rle_to_text
from blemish.inference.inputs import Frame
from blemish.inference.sources import DRAWN_STEM
from blemish.model_file import write_atomically

if TYPE_CHECKING:
    from blemish.inference import PredictionResult
    from blemish.inference.video import VideoWriter


DRAWN_PIXELS = 25_000_000  # larger images are drawn reduced to it: for the eye, and for the memory


def json_line(outcome: PredictionResult, drawn: Path | None = None) -> str:
    """One line of JSON: the prediction, or the path and the error; for frames their number and time too.

    Args:
        outcome: of one image or frame.
        drawn: the picture or film that shows it.
    """
    source = outcome.source
    place: dict[str, Any] = {"path": Path(source.path if isinstance(source, Frame) else source).as_posix()}
    if isinstance(source, Frame):
        place |= {"frame": source.index, "time_seconds": round(source.time_seconds, 3)}
    if outcome.prediction is None:
        return json.dumps({**place, "error": str(outcome.error)})
    answer = place | outcome.prediction.to_dict()
    if outcome.prediction.masks is not None:
        for found, mask in zip(answer["detections"], outcome.prediction.masks, strict=True):
            found["polygons"] = [ring.round(1).tolist() for ring in mask_to_rings(mask)]
            found["rle"] = {"size": list(mask.size_hw), "counts": rle_to_text(mask)}
    if drawn is not None:
        answer["drawn"] = drawn.as_posix()
    return json.dumps(answer)


def line(outcome: PredictionResult) -> str:
    """One line for people: the image and the verdict, or what is wrong with it."""
    if outcome.prediction is None:
        return str(outcome.error)
    return f"{outcome.source}: {outcome.prediction.task.hook('describe')(outcome.prediction)}"


class Pictures:
    """Images and films with what was found drawn on them, in one folder; a context."""

    def __init__(self, folder: Path, white_level: int, min_score: float | None = None) -> None:
        """Write into `folder`.

        Args:
            folder: made where it is not there.
            white_level: what becomes white of 16-bit images.
            min_score: objects below it are not drawn; None takes the threshold of each label.
        """
        self.folder, self.white_level, self.min_score = folder, white_level, min_score
        self._names: set[str] = set()
        self._film: VideoWriter | None = None
        self._film_of: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if self._film is not None:
            film, self._film = self._film, None
            film.__exit__(kind, *rest)

    def add(self, outcome: PredictionResult) -> Path:
        """Draw one outcome that went well and kept its image; frames of a film become a film.

        Returns:
            The picture, or the film, which is complete once the next one begins or this context ends.

        Raises:
            StorageFull: the disk is full or read-only.
        """
        from blemish.drawing import draw, reduce_image

        assert outcome.prediction is not None and outcome.image is not None  # noqa: S101
        photo = reduce_image(outcome.image, DRAWN_PIXELS)
        picture = draw(outcome.prediction.filter_scores(self.min_score), photo.to_pil(self.white_level))
        if isinstance(outcome.source, Frame):
            return self._add_frame(outcome.source, picture)
        self.__exit__(None)
        path = self._new_path(Path(outcome.source).stem, ".jpg")
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        write_atomically(path, buffer.getvalue())
        return path

    def _add_frame(self, frame: Frame, picture: Any) -> Path:
        from blemish.inference.video import VideoWriter

        if self._film is None or self._film_of != frame.path:
            self.__exit__(None)
            self._film = VideoWriter(self._new_path(frame.path.stem, ".mp4"))
            self._film_of = frame.path
        self._film.write(picture, frame.time_seconds)
        return self._film.path

    def _new_path(self, stem: str, suffix: str) -> Path:
        """A name that no other picture of this run has, nor a source: folders are not searched for these."""
        name, number = stem, 1
        while name.casefold() + suffix in self._names:  # file systems that fold case must not merge two
            number += 1
            name = f"{stem}-{number}"
        self._names.add(name.casefold() + suffix)
        return self.folder / f"{name}{DRAWN_STEM}{suffix}"
