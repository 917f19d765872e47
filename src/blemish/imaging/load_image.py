"""Opening an image, and reading its header."""

from __future__ import annotations

import io
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from blemish.errors import BadImage, BadInput, ImageTooLarge, ImageTruncated, ImageUndecodable
from blemish.imaging.containers import ends_early, png_exif, tiff_directories
from blemish.imaging.strict_decode import EndOfFile, StrictFile, make_strict, quiet_here

Source = Path | str | bytes
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})

ORIENTATION_TAG = 0x0112
# Looking them up here, and not through Image.open, keeps Pillow's own pixel limit out of the way.
PLUGINS = (JpegImagePlugin, PngImagePlugin, WebPImagePlugin, TiffImagePlugin, BmpImagePlugin)
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")


class ForeignFormat(NamedTuple):
    """A kind of file that users often supply in place of an image.

    Attributes:
        kind: a noun phrase for "this is …".
        remedy: what the user can do.
        marks: byte offset and bytes that identify the kind; one match is enough.
    """

    kind: str
    remedy: str
    marks: tuple[tuple[int, bytes], ...]


FOREIGN_FORMATS = (
    ForeignFormat("HEIC or AVIF, which is not supported", "save it as JPEG", ((4, b"ftyp"),)),
    ForeignFormat("a GIF, which is not supported", "save it as PNG", ((0, b"GIF8"),)),
    ForeignFormat("a PDF", "save its pictures as PNG or JPEG", ((0, b"%PDF"),)),
    ForeignFormat(
        "a pointer of Git LFS and not the image itself", "run git lfs pull", ((0, b"version https://"),)
    ),
    ForeignFormat(
        "a web page",
        "download the image itself",
        ((0, b"<!DOCTYPE"), (0, b"<!doctype"), (0, b"<html")),
    ),
)
GREY_16_MODES = ("I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True)
class Limits:
    """What is refused before it is decoded.

    Attributes:
        max_pixels: width x height.
        max_bytes: of the file.
    """

    max_pixels: int = 64_000_000
    max_bytes: int = 200_000_000


LIMITS = Limits()


@dataclass(frozen=True)
class Header:
    """What an image says of itself before it is decoded.

    Attributes:
        format: `JPEG`, `PNG`, `WEBP`, `TIFF` or `BMP`.
        mode: Pillow's name for the pixels as stored: `RGB`, `L`, `P`, `CMYK`, `I;16`, ...
        size_hw: height and width of the upright image, pixels.
        stored_size_hw: as they lie in the file, before the EXIF orientation is undone.
        orientation: EXIF's, 1 to 8; 1 is upright.
        bits: of one channel: 1, 8, 16 or 32.
        frames: how many pictures the file holds; the first is the image.
    """

    format: str
    mode: str
    size_hw: tuple[int, int]
    stored_size_hw: tuple[int, int]
    orientation: int
    bits: int
    frames: int


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """An image that was opened: upright, read-only.

    Attributes:
        pixels: (h, w, 3) uint8 RGB, or (h, w) uint16 for grey images of 16 bits.
        path: the file, or None for an image from memory.
        header: what the file said of itself; None for pixels that came from no file.

    Raises:
        BadInput: the pixels are of another shape or type.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    path: Path | None = None
    header: Header | None = None

    def __post_init__(self) -> None:
        array = np.ascontiguousarray(self.pixels)
        rgb = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
        grey = array.dtype == np.uint16 and array.ndim == 2
        if not (rgb or grey) or 0 in array.shape:
            raise BadInput(
                f"pixels are {array.dtype} of shape {array.shape}; give (h, w, 3) uint8 or (h, w) uint16"
            )
        if array is self.pixels and array.flags.writeable:
            array = array.view()
        array.setflags(write=False)
        object.__setattr__(self, "pixels", array)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    @property
    def is_16bit(self) -> bool:
        """Whether the pixels are grey of 16 bits."""
        return bool(self.pixels.dtype == np.uint16)

    def to_pil(self, white_level: int = 65535) -> Image.Image:
        """The image as an RGB picture of 8 bits, for people to look at.

        Args:
            white_level: what becomes white in a 16-bit image; brighter values are white too.
        """
        if not self.is_16bit:
            return Image.fromarray(self.pixels)
        grey = np.clip(self.pixels.astype(np.float32) * np.float32(255 / white_level) + 0.5, 0, 255)
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def open_image(source: Source, limits: Limits = LIMITS) -> LoadedImage:
    """The image in a file, upright, as RGB of 8 bits or grey of 16.

    Transparent places become white; of several frames the first is taken; channels of 16 bits in colour
    images are cut to 8.

    Args:
        source: a path, or the bytes of a file.
        limits: what is refused before decoding.

    Raises:
        BadImage: no such file, a folder, an empty file, or one that cannot be read.
        ImageTooLarge: over a limit; nothing was decoded.
        ImageTruncated: begins as an image and ends too early.
        ImageUndecodable: no image, a damaged one, or one of a kind that is not supported.

    Example:
        >>> buffer = io.BytesIO()
        >>> Image.new("LA", (4, 3), (0, 0)).save(buffer, "PNG")
        >>> photo = open_image(buffer.getvalue())
        >>> photo.size_hw, photo.pixels[0, 0].tolist()
        ((3, 4), [255, 255, 255])
    """
    with _opened(source, limits) as (image, header, path):
        pixels = _pixels(image, header, path)
    return LoadedImage(pixels, path, header)


def read_header(source: Source, limits: Limits = LIMITS) -> Header:
    """What an image says of itself; nothing is decoded.

    Args:
        source: a path, or the bytes of a file.
        limits: as for `open_image`.

    Raises:
        BadImage: as `open_image`, as far as the header shows it.
    """
    with _opened(source, limits) as (_, header, _):
        return header


@contextmanager
def _opened(source: Source, limits: Limits) -> Iterator[tuple[ImageFile.ImageFile, Header, Path | None]]:
    """An image whose header was read and found within the limits; only named errors leave the block."""
    path = None if isinstance(source, bytes) else Path(source)
    with _file(source, path, limits) as (file, size):
        reader: Any = StrictFile(file) if ImageFile.LOAD_TRUNCATED_IMAGES else file
        image_format = "image"
        try:
            with quiet_here():
                image_format = _format(file, path)
                _check_pixels(_declared_size(file, image_format), path, limits)
                image = _plugin_image(reader, image_format)
                header = _header(image, file, image_format)
                _check_pixels(header.stored_size_hw, path, limits)
                yield image, header, path
        except BadImage:
            raise
        except MemoryError as error:
            raise ImageTooLarge(
                path, "there is not enough memory to open it", reason="memory", remedy="make it smaller"
            ) from error
        except Image.DecompressionBombError as error:
            # Newer versions of Pillow ask their own limit inside some decoders: lowered by someone, or
            # lower than ours.
            raise ImageTooLarge(
                path,
                f"it is over the limit of Pillow, twice Image.MAX_IMAGE_PIXELS = {Image.MAX_IMAGE_PIXELS}",
                reason="pillow-limit",
                remedy="make it smaller or raise that limit",
            ) from error
        except Exception as error:
            # Pillow and its codecs raise whatever they stumble over, some fifteen types on damaged files.
            if isinstance(error, EndOfFile) or ends_early(file, size, image_format):
                raise ImageTruncated(
                    path, f"the {image_format} file ends too early", remedy="copy or download it again"
                ) from error
            said = re.sub(r"\s+", " ", str(error)).strip()[:120]
            raise ImageUndecodable(
                path,
                f"the {image_format} file is damaged or of a kind that is not supported"
                f"{f' ({said})' if said and said != 'None' else ''}",
                reason="damaged",
                remedy="save it again as PNG or JPEG",
            ) from error


@contextmanager
def _file(source: Source, path: Path | None, limits: Limits) -> Iterator[tuple[IO[bytes], int]]:
    """The open file and its size in bytes, after the checks that need no look inside."""
    if path is None:
        data = bytes(source)  # type: ignore[arg-type]
        _check_bytes(len(data), path, limits)
        yield io.BytesIO(data), len(data)
        return
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise BadImage(path, "this is a folder", reason="folder", remedy="give an image in it")
        if not stat.S_ISREG(status.st_mode):
            raise BadImage(path, "this is not a regular file", reason="not-a-file", remedy="give an image")
        _check_bytes(status.st_size, path, limits)
        file = path.open("rb")
    except FileNotFoundError as error:
        raise BadImage(path, "no such file", reason="no-such-file", remedy="check the path") from error
    except OSError as error:
        raise BadImage(
            path,
            f"cannot be read ({error.strerror})",
            reason="unreadable-file",
            remedy="check the path and its permissions",
        ) from error
    except ValueError as error:  # a null byte in the path
        if isinstance(error, BadImage):
            raise
        raise BadImage(path, f"this cannot be a path ({error})", reason="invalid-path") from error
    with file:
        yield file, status.st_size


def _check_bytes(size: int, path: Path | None, limits: Limits) -> None:
    if size == 0:
        raise BadImage(path, "the file is empty", reason="empty-file", remedy="copy or download it again")
    if size > limits.max_bytes:
        raise ImageTooLarge(
            path,
            f"{size:,} bytes are over the limit of {limits.max_bytes:,}",
            reason="max-bytes",
            remedy="save it smaller or raise the limit max_bytes",
        )


def _check_pixels(size_hw: tuple[int, int] | None, path: Path | None, limits: Limits) -> None:
    if size_hw is not None and size_hw[0] * size_hw[1] > limits.max_pixels:
        height, width = size_hw
        raise ImageTooLarge(
            path,
            f"{width} x {height} pixels are over the limit of {limits.max_pixels:,}",
            reason="max-pixels",
            remedy="make it smaller or raise the limit max_pixels",
        )


def _format(file: IO[bytes], path: Path | None) -> str:
    """Which of the formats the first bytes announce."""
    prefix = file.read(16)
    for name in FORMATS:
        accept = Image.OPEN[name][1]
        if accept is None or accept(prefix) is True:
            return name
    if known := foreign_format(prefix):
        raise ImageUndecodable(
            path, f"this is {known.kind}", reason="unsupported-format", remedy=known.remedy
        )
    raise ImageUndecodable(
        path,
        "this is not an image in JPEG, PNG, WebP, TIFF or BMP",
        reason="unsupported-format",
        remedy="save it as one of these",
    )


def foreign_format(prefix: bytes) -> ForeignFormat | None:
    """Return which of the common unsupported kinds of file begins with `prefix`; None for all others."""
    for known in FOREIGN_FORMATS:
        if any(prefix[offset : offset + len(mark)] == mark for offset, mark in known.marks):
            return known
    return None


def _plugin_image(file: Any, name: str) -> ImageFile.ImageFile:
    file.seek(0)
    image = Image.OPEN[name][0](file, "")
    if image.width < 1 or image.height < 1:
        raise SyntaxError("it has no pixels")
    return image


def _declared_size(file: IO[bytes], image_format: str) -> tuple[int, int] | None:
    """Height and width where Pillow's plugin would take memory for them before it tells."""
    if image_format != "WEBP":
        return None
    file.seek(0)
    head = file.read(30)
    kind = head[12:16]
    if kind == b"VP8X" and len(head) == 30:
        width, height = int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    elif kind == b"VP8L" and len(head) >= 25:
        bits = int.from_bytes(head[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 " and len(head) == 30:
        width, height = (v & 0x3FFF for v in struct.unpack_from("<HH", head, 26))
    else:
        return None
    return height, width


def _header(image: ImageFile.ImageFile, file: IO[bytes], image_format: str) -> Header:
    width, height = image.size
    orientation, bits = _orientation(image, file, image_format), 8
    frames = 1 if image_format == "TIFF" else int(getattr(image, "n_frames", 1))
    if image_format == "TIFF":
        # Pillow swaps the sides of a turned TIFF by itself, the tags say how it lies in the file.
        tags = image.tag_v2  # type: ignore[attr-defined]
        width, height = int(tags[256]), int(tags[257])
        bits = int(max(tags.get(258, (1,))))
        try:
            frames = max(tiff_directories(file).frames, 1)
        except (struct.error, ValueError, OverflowError, OSError):  # only the first one is looked at
            frames = 1
    elif image_format == "PNG":
        file.seek(24)
        bits = 16 if file.read(1) == b"\x10" else 8
    if image.mode == "1":
        bits = 1
    upright = (width, height) if orientation >= 5 else (height, width)
    return Header(image_format, image.mode, upright, (height, width), orientation, bits, frames)


def _orientation(image: ImageFile.ImageFile, file: IO[bytes], image_format: str) -> int:
    """EXIF orientation, 1 to 8; 1 where it is missing or nonsense."""
    try:
        exif = image.info.get("exif")
        if image_format == "PNG" and exif is None and "Raw profile type exif" not in image.info:
            # PngImageFile.getexif would decode the whole picture to look behind it.
            data = png_exif(file)
            found = Image.Exif()
            if data:
                found.load(data)
            value = found.get(ORIENTATION_TAG)
        else:
            value = image.getexif().get(ORIENTATION_TAG)
    except Exception:  # damaged EXIF is no reason to refuse an image
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _pixels(image: ImageFile.ImageFile, header: Header, path: Path | None) -> NDArray[Any]:
    """Decoded, on white, upright."""
    if image.mode == "F" or image.mode == "LAB":
        kind = "floating-point numbers" if image.mode == "F" else "LAB colours"
        raise ImageUndecodable(
            path,
            f"its pixels are {kind}",
            reason="pixel-type",
            remedy="save it as RGB or as grey of 8 or 16 bits",
        )
    reader: Any = image.fp
    if isinstance(reader, StrictFile):
        make_strict(image)
    image.load()
    if image.mode in GREY_16_MODES or image.mode == "I":
        array = _grey_16(image, path)
    elif image.mode == "RGB" and "transparency" not in image.info:
        array = np.asarray(image)
    else:
        array = np.asarray(_on_white(image))
    # Pillow turns a TIFF upright while it loads it.
    return array if header.format == "TIFF" else upright(array, header.orientation)


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels as they are meant to be seen.

    Args:
        array: (h, w, ...) as stored.
        orientation: EXIF's, 1 to 8.

    Returns:
        (h, w, ...) or, for 5 to 8, (w, h, ...).
    """
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def _grey_16(image: Image.Image, path: Path | None) -> NDArray[np.uint16]:
    """(h, w) uint16, as stored; Pillow's own conversions would clip them to 255."""
    array = np.asarray(image)
    if image.mode == "I":
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 65535:
            raise ImageUndecodable(
                path,
                f"its values range from {low} to {high}",
                reason="pixel-type",
                remedy="save it as grey of 16 bits, 0 to 65535",
            )
    values = array.astype(np.uint16)
    clear = image.info.get("transparency")
    return np.where(values == clear, np.uint16(65535), values) if isinstance(clear, int) else values


def _on_white(image: Image.Image) -> Image.Image:
    """An RGB picture, what is transparent being white."""
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
