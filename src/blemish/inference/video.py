"""Videos: read their frames as inputs, and write images as a video."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from blemish.errors import BadImage, BadInput, ImageTooLarge, ImageTruncated, MissingExtra, StorageFull
from blemish.imaging import LIMITS, Limits, LoadedImage
from blemish.inference.inputs import ImageInput

EXACT = 1e-3  # of an entry of a display matrix that is zero
TIME_BASE = Fraction(1, 1000)  # seconds; the time unit of videos that are written


def read_frames(path: Path, limits: Limits = LIMITS, *, step: int = 1) -> Iterator[ImageInput]:
    """Yield the frames of a video, upright, as they are consumed.

    Args:
        path: a file that FFmpeg reads.
        limits: `max_pixels` applies to a frame; the file may have any size.
        step: yield every n-th frame.

    Returns:
        Inputs in order. If the video cannot be read any further, the last input has the error.

    Raises:
        MissingExtra: PyAV is not installed. Raised by the call itself, like `BadInput`.
        BadInput: the step is below 1.
    """
    if step < 1:
        raise BadInput(f"frame step: expected 1 or more, got {step}", reason="frame-step")
    return _read_frames(path, limits, step, _import_av())


def _read_frames(path: Path, limits: Limits, step: int, av: Any) -> Iterator[ImageInput]:
    index, seconds = -1, 0.0
    try:
        # Open the file, not its name, which FFmpeg could take for a protocol.
        with path.open("rb") as file, av.open(file) as container:
            if not container.streams.video:
                raise BadImage(path, "the file has no video stream", reason="no-video-stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            _check_size(stream, path, limits)
            for index, frame in enumerate(container.decode(stream)):
                _check_size(frame, path, limits)  # a frame may be larger than in the header
                seconds = float(frame.time if frame.time is not None else index / (stream.average_rate or 25))
                if index % step == 0:
                    yield ImageInput.from_frame(path, index, seconds, _upright_image(frame, path))
        if index < 0:
            raise ImageTruncated(path, "the video has no frames")
    except FileNotFoundError:
        missing = BadImage(path, "no such file; check the path", reason="not-found")
        yield ImageInput.from_frame(path, 0, 0.0, missing)
    except BadImage as error:
        yield ImageInput.from_frame(path, max(index, 0), seconds, error)
    except (av.error.FFmpegError, OSError) as error:
        kind = ImageTruncated if index >= 0 else BadImage
        where = f" after frame {index}" if index >= 0 else ""
        detail = f"the video cannot be read{where} ({getattr(error, 'strerror', None) or error})"
        yield ImageInput.from_frame(path, index + 1, seconds, kind(path, detail, reason="video"))


def _check_size(frame: Any, path: Path, limits: Limits) -> None:
    """Raise `ImageTooLarge` if a frame has more pixels than the limit."""
    if frame.width * frame.height > limits.max_pixels:
        raise ImageTooLarge(
            path,
            f"frames of {frame.width} x {frame.height} pixels are over the limit of "
            f"{limits.max_pixels / 1e6:g} megapixels",
        )


def _upright_image(frame: Any, path: Path) -> LoadedImage:
    """Return a frame as a player shows it: rotated and mirrored by the display matrix of its track.

    Raises:
        BadImage: the matrix is not a combination of quarter turns and reflections.

    Source:
        ISO/IEC 14496-12, 6.2.2: (x, y) of a frame is shown at (a x + c y, b x + d y).
    """
    array = frame.to_ndarray(format="rgb24")
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return LoadedImage(array, path)
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5] / 65536
    is_straight, is_turned = abs(b) < EXACT and abs(c) < EXACT, abs(a) < EXACT and abs(d) < EXACT
    if is_straight == is_turned or not (a * d or b * c):
        raise BadImage(
            path,
            f"its display matrix {a:g} {b:g} {c:g} {d:g} is not made of quarter turns and reflections",
            reason="display-matrix",
            remedy="encode it again with the rotation applied",
        )
    if is_turned:
        array, a, d = array.swapaxes(0, 1), c, b
    if a < 0:
        array = array[:, ::-1]
    if d < 0:
        array = array[::-1]
    return LoadedImage(array, path)


class VideoWriter:
    """A context manager that writes images as a video; an error leaves no incomplete video."""

    def __init__(self, path: Path) -> None:
        """Prepare a video; the first image determines its size."""
        self.path = path
        self._partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)
        self._last = -1
        self._av = _import_av()

    def __enter__(self) -> Self:
        return self

    def write(self, image: Image.Image, seconds: float) -> None:
        """Append an image.

        Args:
            image: RGB; resized if its size differs from the first image's.
            seconds: the time from which it is shown.

        Raises:
            StorageFull: the disk is full or read-only; an earlier video at `path` is intact.
        """
        try:
            if self._container is None:
                self._begin(image)
            if image.size != self._size:  # a video may change its size
                image = image.resize(self._size, Image.Resampling.BILINEAR)
            # Widths and heights are even in this color format; one column or row is repeated.
            array = np.asarray(image.convert("RGB"))
            height, width = self._stream.height, self._stream.width
            array = np.pad(array, ((0, 1), (0, 1), (0, 0)), mode="edge")[:height, :width]
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            self._last = max(self._last + 1, round(seconds / TIME_BASE))
            frame.pts, frame.time_base = self._last, TIME_BASE
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            raise self._storage_full(error) from error

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if self._container is not None:
                if kind is None:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
                if kind is None:
                    self._partial.replace(self.path)
        except OSError as error:
            raise self._storage_full(error) from error
        finally:
            with suppress(OSError):
                self._partial.unlink()

    def _begin(self, image: Image.Image) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._container = self._av.open(str(self._partial), "w")
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        self._stream = self._container.add_stream(codec, rate=30)
        self._size = image.size
        self._stream.width, self._stream.height = (side + side % 2 for side in image.size)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = TIME_BASE
        if codec == "mpeg4":
            self._stream.codec_context.bit_rate = 8_000_000

    def _storage_full(self, error: OSError) -> StorageFull:
        reason = error.strerror or str(error)
        return StorageFull(
            f"{self.path}: cannot be written ({reason}). Free disk space or choose another folder."
        )


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingExtra("video", "reading and writing videos") from error
    return av
