"""Films: frames as images, and images as a film."""

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
from blemish.inference.inputs import Frame

TICK = Fraction(1, 1000)  # seconds; the clock of films that are written


def frames(path: Path, limits: Limits = LIMITS, *, step: int = 1) -> Iterator[Frame]:
    """The frames of a film, upright, as they are asked for.

    Args:
        path: a file that FFmpeg reads.
        limits: `max_pixels` of a frame; there is none on the file.
        step: every how many frames one is given.

    Returns:
        Frames in order. Where the film cannot be read any further, the last one holds the error.

    Raises:
        MissingExtra: PyAV is not installed. Raised by the call itself, as BadInput.
        BadInput: a step below 1.
    """
    if step < 1:
        raise BadInput(f"every {step} frames is none; give 1 or more")
    return _frames(path, limits, step, _av())


def _frames(path: Path, limits: Limits, step: int, av: Any) -> Iterator[Frame]:
    index, seconds = -1, 0.0
    try:
        # A file and not its name, which FFmpeg could take for a protocol.
        with path.open("rb") as file, av.open(file) as container:
            if not container.streams.video:
                raise BadImage(path, "there is no picture in this film")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            _limit(stream, path, limits)
            for index, frame in enumerate(container.decode(stream)):
                _limit(frame, path, limits)  # which may be larger than the film's header says
                seconds = float(frame.time if frame.time is not None else index / (stream.average_rate or 25))
                if index % step == 0:
                    yield Frame(path, index, seconds, _image(frame, path))
        if index < 0:
            raise ImageTruncated(path, "the film holds no frame")
    except FileNotFoundError:
        yield Frame(path, 0, 0.0, None, BadImage(path, "no such file; check the path"))
    except BadImage as error:
        yield Frame(path, max(index, 0), seconds, None, error)
    except (av.error.FFmpegError, OSError) as error:
        kind = ImageTruncated if index >= 0 else BadImage
        where = f" after frame {index}" if index >= 0 else ""
        reason = f"this film cannot be read{where} ({getattr(error, 'strerror', None) or error})"
        yield Frame(path, index + 1, seconds, None, kind(path, reason))


def _limit(shown: Any, path: Path, limits: Limits) -> None:
    if shown.width * shown.height > limits.max_pixels:
        raise ImageTooLarge(
            path,
            f"its frames have {shown.width} x {shown.height} pixels, more than the limit of "
            f"{limits.max_pixels / 1e6:g} megapixels",
        )


def _image(frame: Any, path: Path) -> LoadedImage:
    array = frame.to_ndarray(format="rgb24")
    # The display matrix says how a telephone was held: degrees counter-clockwise.
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    return LoadedImage(np.rot90(array, turns), path)


class VideoWriter:
    """Writes pictures as a film, complete or not at all; a context."""

    def __init__(self, path: Path) -> None:
        """Begin a film; its size is that of the first picture."""
        self.path = path
        self._beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)
        self._last = -1
        self._av = _av()

    def __enter__(self) -> Self:
        return self

    def write(self, picture: Image.Image, seconds: float) -> None:
        """Add a picture that is shown from `seconds` on.

        Raises:
            StorageFull: the disk is full or read-only; an earlier film at `path` is intact.
        """
        try:
            if self._container is None:
                self._begin(picture)
            if picture.size != self._size:  # a film that changes its size on the way
                picture = picture.resize(self._size, Image.Resampling.BILINEAR)
            # Widths and heights are even in this colour format; one column or row is repeated.
            array = np.asarray(picture.convert("RGB"))
            height, width = self._stream.height, self._stream.width
            array = np.pad(array, ((0, 1), (0, 1), (0, 0)), mode="edge")[:height, :width]
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            self._last = max(self._last + 1, round(seconds / TICK))
            frame.pts, frame.time_base = self._last, TICK
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            raise self._full(error) from error

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if self._container is not None:
                if kind is None:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
                if kind is None:
                    self._beside.replace(self.path)
        except OSError as error:
            raise self._full(error) from error
        finally:
            with suppress(OSError):
                self._beside.unlink()

    def _begin(self, picture: Image.Image) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._container = self._av.open(str(self._beside), "w")
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        self._stream = self._container.add_stream(codec, rate=30)
        self._size = picture.size
        self._stream.width, self._stream.height = (side + side % 2 for side in picture.size)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = TICK
        if codec == "mpeg4":
            self._stream.codec_context.bit_rate = 8_000_000

    def _full(self, error: OSError) -> StorageFull:
        reason = error.strerror or str(error)
        return StorageFull(
            f"{self.path} could not be written ({reason}); free some space or choose another folder"
        )


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingExtra("video", "reading and writing films") from error
    return av
