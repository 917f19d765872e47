"""Results of predictions as text lines, and drawn into image and video files."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from blemish.inference.inputs import ImageInput, InputKind
from blemish.inference.sources import DRAWN_STEM
from blemish.model_file import write_atomically

if TYPE_CHECKING:
    from blemish.abstention import Decision
    from blemish.errors import BlemishError
    from blemish.face_blur import Blur
    from blemish.inference import PredictionResult
    from blemish.inference.video import VideoWriter


def text_line(
    result: PredictionResult, not_drawn: BlemishError | None = None, decision: Decision | None = None
) -> str:
    """Return one line of text: the image and its prediction, or the error.

    Args:
        result: of one image or video frame.
        not_drawn: why it could not be drawn, if that was requested.
        decision: what is decided and what is left for review, if that was requested.
    """
    if result.prediction is None:
        return str(result.error)
    line = f"{result.input}: {result.prediction.task.hook('describe')(result.prediction)}"
    familiarity = result.prediction.familiarity
    if familiarity is not None and familiarity.unfamiliar:
        line += "; UNFAMILIAR, unlike the training images"
    capture = result.prediction.capture
    if capture is not None and capture.retake:
        line += f"; {capture.sentence.replace('retake', 'RETAKE', 1)}"
    if decision is not None:
        line = f"{result.input}: {_decision_text(decision)} ({line.removeprefix(f'{result.input}: ')})"
    return line if not_drawn is None else f"{line}; not drawn: {not_drawn}"


def _decision_text(decision: Decision) -> str:
    if decision.is_review:
        return f"REVIEW, {decision.reason}"
    names = {state.label: state.display_name for state in decision.states}
    return f"decided: {', '.join(names.get(name, name) for name in decision.labels) or 'no damage'}"


def open_face_blur(output: Path | None, labels: str | None, crops: Path | None) -> Blur:
    """Return what blurs the faces in drawn images.

    Args:
        output: of the drawn images, or None.
        labels: the format of labels, whose images are copies, or None.
        crops: the folder of crops, or None.

    Raises:
        BadInput: nothing is drawn, or images are written that must stay as they are ("bad-input.blur-faces").
        MissingExtra: the detector is not installed.
    """
    from blemish.errors import BadInput
    from blemish.face_blur import open_blur

    if output is None or labels is not None or crops is not None:
        raise BadInput(
            "--blur-faces: expected --output DIR, and neither --save nor --save-crops, whose images are for"
            " training",
            reason="blur-faces",
        )
    return open_blur()


class DrawnWriter:
    """A context manager that draws results into files of a folder: images, and videos for video frames."""

    def __init__(self, folder: Path, min_score: float | None = None, blur: Blur | None = None) -> None:
        """Prepare the names of the files.

        Args:
            folder: created if it does not exist.
            min_score: lower-scoring objects are not drawn. Default: the threshold of each label.
            blur: applied to each image before it is drawn on, or None.
        """
        self.folder, self.min_score, self.blur = folder, min_score, blur
        self._names: set[str] = set()
        self._video: VideoWriter | None = None
        self._video_source: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if self._video is not None:
            video, self._video = self._video, None
            video.__exit__(kind, *rest)

    def reserve(self, names: Iterable[str]) -> None:
        """Keep the names of files that an interrupted run has drawn."""
        for name in names:
            stem, _, suffix = name.casefold().rpartition(DRAWN_STEM)
            self._names.add(stem + suffix)

    def end_video(self, source: ImageInput) -> None:
        """Complete the video before an input that is not one of its frames."""
        if source.kind is not InputKind.FRAME or source.path != self._video_source:
            self.__exit__(None)

    def add(self, result: PredictionResult) -> Path:
        """Draw one result that has a prediction and its pixels; the frames of a video become a video.

        Returns:
            The image file, or the video file, which is complete when the next input is added or this context
            ends.

        Raises:
            StorageFull: the disk is full or read-only.
        """
        drawn = result.plot(min_score=self.min_score, blur=self.blur)
        if result.input.kind is InputKind.FRAME:
            return self._add_frame(result, drawn)
        self.end_video(result.input)
        path = self._new_path(Path(result.input.id).stem, ".jpg")
        buffer = io.BytesIO()
        drawn.save(buffer, "JPEG", quality=90)
        write_atomically(path, buffer.getvalue())
        self._take(path)
        return path

    def _add_frame(self, result: PredictionResult, drawn: Any) -> Path:
        from blemish.inference.video import VideoWriter

        source = result.input.path
        assert source is not None  # noqa: S101  (frames come from a file)
        self.end_video(result.input)
        if self._video is None:
            self._video = VideoWriter(self._new_path(source.stem, ".mp4"))
            self._video_source = source
            self._take(self._video.path)
        self._video.write(drawn, result.input.time_seconds or 0.0)
        return self._video.path

    def _new_path(self, stem: str, suffix: str) -> Path:
        """Return a path that no other file of this run has; a search of a folder for images skips it."""
        name, number = stem, 1
        while name.casefold() + suffix in self._names:  # some file systems ignore case
            number += 1
            name = f"{stem}-{number}"
        return self.folder / f"{name}{DRAWN_STEM}{suffix}"

    def _take(self, path: Path) -> None:
        self.reserve([path.name])
