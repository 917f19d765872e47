"""Open an image file, or read its header only."""

from __future__ import annotations

import io
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

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

from blemish.errors import BadImage, ImageTooLarge, ImageTruncated, ImageUndecodable
from blemish.imaging.containers import ends_early, png_exif, png_significant_bits, tiff_directories
from blemish.imaging.image_formats import FORMATS, foreign_format, is_avif
from blemish.imaging.loaded_image import (
    LIMITS,
    UPRIGHT,
    Header,
    Limits,
    LoadedImage,
    Reduction,
    apply_orientation,
)
from blemish.imaging.strict_decode import EndOfFile, StrictFile, make_strict, suppress_warnings
from blemish.imaging.tiff_layout import (
    PHOTOMETRIC,
    SENSOR_DATA,
    full_image_directory,
    is_planar_16,
    read_directory,
    read_planar_16,
    starting_at,
    stated_white_level,
)

Source = Path | str | bytes

ORIENTATION_TAG = 0x0112
# These plugins and that of AVIF are used directly, because Image.open would apply Pillow's own pixel limit.
PLUGINS = (JpegImagePlugin, PngImagePlugin, WebPImagePlugin, TiffImagePlugin, BmpImagePlugin)


GRAY_16_MODES = ("I;16", "I;16L", "I;16B", "I;16N")


def open_image(source: Source, limits: Limits = LIMITS, reduction: Reduction | None = None) -> LoadedImage:
    """Return the image in a file, upright, as 8-bit RGB or 16-bit grayscale.

    Transparent pixels become white. The first of several frames is read. Color images with 16 bits per
    channel are reduced to 8.

    Args:
        source: a path, or the bytes of a file.
        limits: the largest image that is decoded.
        reduction: returns from the upright size (height, width) how many times smaller a JPEG file is
            decoded: 1, 2, 4 or 8. Its full size is then decoded only if it is needed. Default: 1.

    Raises:
        BadImage: the file does not exist, is a folder, is empty or cannot be read.
        ImageTooLarge: the image is over a limit; nothing was decoded.
        ImageTruncated: the file starts as an image and ends too early.
        ImageUndecodable: the file is not an image, is damaged, or is in a format that is not supported.

    Example:
        >>> buffer = io.BytesIO()
        >>> Image.new("LA", (4, 3), (0, 0)).save(buffer, "PNG")
        >>> loaded = open_image(buffer.getvalue())
        >>> loaded.size_hw, loaded.pixels[0, 0].tolist()
        ((3, 4), [255, 255, 255])
    """
    with _opened(source, limits) as (image, header, path):
        is_jpeg = header.format == "JPEG"
        factor = reduction(header.size_hw) if is_jpeg and reduction is not None else 1
        loaded = LoadedImage(
            _pixels(image, header, path, factor),
            path,
            header,
            header.white_level,
            decode=partial(_decode_jpeg, source, limits) if is_jpeg else None,
            factor=factor,
        )
    if loaded.white_level is not None and header.format == "PNG" and loaded.pixels.max() > loaded.white_level:
        loaded.white_level = None  # the samples were scaled to 16 bits, as the PNG specification recommends
    return loaded


def _decode_jpeg(source: Source, limits: Limits, factor: int) -> Image.Image:
    """Return the upright image of a JPEG file at one `factor`th of its size."""
    with _opened(source, limits) as (image, header, path):
        pixels = _pixels(image, header, path, factor)
        assert isinstance(pixels, Image.Image)  # noqa: S101  (8 bits)
        return pixels


def read_header(source: Source, limits: Limits = LIMITS) -> Header:
    """Return the header of an image without decoding it.

    Args:
        source: a path, or the bytes of a file.
        limits: the largest image that is accepted.

    Raises:
        BadImage: the same errors as `open_image`, except for damage that only decoding shows.
    """
    with _opened(source, limits) as (_, header, _):
        return header


@contextmanager
def _opened(source: Source, limits: Limits) -> Iterator[tuple[ImageFile.ImageFile, Header, Path | None]]:
    """Open an image whose header is within the limits; every error in the block becomes a `BadImage`."""
    path = None if isinstance(source, bytes) else Path(source)
    with _file(source, path, limits) as (file, size):
        image_format = "image"
        try:
            with suppress_warnings():
                image_format = _identify_format(file, path)
                if image_format == "TIFF":
                    file = _full_image(file, path)
                reader: Any = StrictFile(file) if ImageFile.LOAD_TRUNCATED_IMAGES else file
                _check_pixels(_declared_size(file, image_format), path, limits)
                image = _open_with_plugin(reader, image_format)
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
            # Some decoders of newer Pillow versions apply Pillow's limit, which the program may have lowered.
            raise ImageTooLarge(
                path,
                f"the image is over Pillow's limit, twice Image.MAX_IMAGE_PIXELS = {Image.MAX_IMAGE_PIXELS}",
                reason="pillow-limit",
                remedy="make it smaller or raise that limit",
            ) from error
        except Exception as error:
            # Pillow and its codecs raise about fifteen types of exceptions for damaged files.
            if isinstance(error, EndOfFile) or ends_early(file, size, image_format):
                raise ImageTruncated(
                    path, f"the {image_format} file ends too early", remedy="copy or download it again"
                ) from error
            cause = re.sub(r"\s+", " ", str(error)).strip()[:120]
            raise ImageUndecodable(
                path,
                f"the {image_format} file is damaged or of an unsupported variant"
                f"{f' ({cause})' if cause and cause != 'None' else ''}",
                reason="damaged",
                remedy="save it again as PNG or JPEG",
            ) from error


@contextmanager
def _file(source: Source, path: Path | None, limits: Limits) -> Iterator[tuple[IO[bytes], int]]:
    """Yield the open file and its size in bytes, after the checks that do not read it."""
    if path is None:
        data = bytes(source)  # type: ignore[arg-type]
        _check_bytes(len(data), path, limits)
        yield io.BytesIO(data), len(data)
        return
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise BadImage(path, "this is a folder", reason="folder", remedy="pass an image in it")
        if not stat.S_ISREG(status.st_mode):
            raise BadImage(
                path, "this is not a regular file", reason="not-a-file", remedy="pass an image file"
            )
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


def _identify_format(file: IO[bytes], path: Path | None) -> str:
    """Return the format that the first bytes of the file identify."""
    prefix = file.read(16)
    for name in FORMATS:
        accept = Image.OPEN[name][1]
        if is_avif(prefix) if name == "AVIF" else accept is None or accept(prefix) is True:
            return name
    if known := foreign_format(prefix):
        raise ImageUndecodable(
            path, f"this is {known.kind}", reason="unsupported-format", remedy=known.remedy
        )
    raise ImageUndecodable(
        path,
        f"this is not an image in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}",
        reason="unsupported-format",
        remedy="save it as one of these",
    )


def _full_image(file: IO[bytes], path: Path | None) -> IO[bytes]:
    """Return a TIFF file with the full image first: itself, or a copy if a thumbnail is first.

    Raises:
        ImageUndecodable: there is no full image, or it is the raw data of a camera.
    """
    try:
        directory = full_image_directory(file)
    except (struct.error, ValueError, OverflowError, OSError):
        return file  # damaged: Pillow's own error follows
    if directory is None:
        raise ImageUndecodable(
            path,
            "the TIFF file contains only images that are marked as reduced",
            reason="thumbnail-only",
            remedy="export the full image as TIFF, PNG or JPEG",
        )
    kind = SENSOR_DATA.get(directory.first(PHOTOMETRIC))
    if kind is not None:
        raise ImageUndecodable(
            path,
            f"the full image in the file is {kind}, as in DNG",
            reason="raw-sensor-data",
            remedy="develop it and save it as TIFF, PNG or JPEG",
        )
    return file if directory.offset == read_directory(file).offset else starting_at(file, directory)


def _open_with_plugin(file: Any, name: str) -> ImageFile.ImageFile:
    file.seek(0)
    image = Image.OPEN[name][0](file, "")
    if image.width < 1 or image.height < 1:
        raise SyntaxError("the image has no pixels")
    return image


def _declared_size(file: IO[bytes], image_format: str) -> tuple[int, int] | None:
    """Return height and width of formats whose Pillow plugin allocates the pixels while it opens the file."""
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
    white_level = None
    frames = 1 if image_format == "TIFF" else int(getattr(image, "n_frames", 1))
    if image_format == "TIFF":
        # Pillow swaps the sides of a rotated TIFF; the tags contain the stored size.
        tags = image.tag_v2  # type: ignore[attr-defined]
        width, height = int(tags[256]), int(tags[257])
        bits = int(max(tags.get(258, (1,))))
        try:
            frames = max(tiff_directories(file).frames, 1)
            white_level = stated_white_level(read_directory(file)) if image.mode in GRAY_16_MODES else None
        except (struct.error, ValueError, OverflowError, OSError):  # only the first frame is read
            frames = 1
    elif image_format == "PNG":
        file.seek(24)
        bits = 16 if file.read(1) == b"\x10" else 8
        if image.mode in GRAY_16_MODES and 8 < (significant := png_significant_bits(file)) < 16:
            white_level = (1 << significant) - 1
    if image.mode == "1":
        bits = 1
    upright = (width, height) if orientation >= 5 else (height, width)
    return Header(image_format, image.mode, upright, (height, width), orientation, bits, frames, white_level)


def _orientation(image: ImageFile.ImageFile, file: IO[bytes], image_format: str) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if it is missing or invalid."""
    try:
        exif = image.info.get("exif")
        if image_format == "PNG" and exif is None and "Raw profile type exif" not in image.info:
            # PngImageFile.getexif would decode all pixels to find a chunk after them.
            data = png_exif(file)
            exif_data = Image.Exif()
            if data:
                exif_data.load(data)
            value = exif_data.get(ORIENTATION_TAG)
        else:
            value = image.getexif().get(ORIENTATION_TAG)
    except Exception:  # an image with damaged EXIF data is still usable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _pixels(
    image: ImageFile.ImageFile, header: Header, path: Path | None, factor: int = 1
) -> NDArray[Any] | Image.Image:
    """Return the decoded pixels, upright, on a white background: RGB as Pillow decoded it, or an array.

    Args:
        image: opened, not decoded.
        header: of the image.
        path: of the file, for errors.
        factor: 1, 2, 4 or 8: how many times smaller a JPEG file is decoded.
    """
    if image.mode == "F" or image.mode == "LAB":
        kind = "floating-point numbers" if image.mode == "F" else "LAB colors"
        raise ImageUndecodable(
            path,
            f"the pixels are {kind}",
            reason="pixel-type",
            remedy="save it as RGB or as 8-bit or 16-bit grayscale",
        )
    if header.format == "PNG" and header.bits == 16 and image.mode == "RGB" and "transparency" in image.info:
        raise ImageUndecodable(
            path,
            "one color of 16 bits per channel is transparent (tRNS), which Pillow compares with 8 bits",
            reason="pixel-type",
            remedy="save it with an alpha channel or without transparency",
        )
    reader: Any = image.fp
    if header.format == "TIFF" and is_planar_16(directory := read_directory(reader)):
        return apply_orientation(read_planar_16(reader, directory), header.orientation)
    if factor > 1:
        image.draft(None, (image.width // factor, image.height // factor))
    if isinstance(reader, StrictFile):
        make_strict(image)
    image.load()
    # Pillow applies the orientation of a TIFF file while it loads the pixels.
    orientation = 1 if header.format == "TIFF" else header.orientation
    if image.mode in GRAY_16_MODES or image.mode == "I":
        return apply_orientation(_gray_16(image, path), orientation)
    is_rgb = image.mode == "RGB" and "transparency" not in image.info
    rgb: Image.Image = image if is_rgb else _on_white(image)
    return rgb if orientation == 1 else rgb.transpose(UPRIGHT[orientation])


def _gray_16(image: Image.Image, path: Path | None) -> NDArray[np.uint16]:
    """Return (h, w) uint16 pixels as stored; Pillow's own conversions would clip them to 255."""
    array = np.asarray(image)
    if image.mode == "I":
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 65535:
            raise ImageUndecodable(
                path,
                f"the pixel values range from {low} to {high}",
                reason="pixel-type",
                remedy="save it as 16-bit grayscale, 0 to 65535",
            )
    values = array.astype(np.uint16)
    tags = getattr(image, "tag_v2", {})
    if tags.get(PHOTOMETRIC) == 0:  # white is zero: Pillow inverts 8-bit samples only
        values = np.uint16((1 << min(max(tags.get(258, (16,))), 16)) - 1) - values
    transparent = image.info.get("transparency")
    return (
        np.where(values == transparent, np.uint16(65535), values) if isinstance(transparent, int) else values
    )


def _on_white(image: Image.Image) -> Image.Image:
    """Return an RGB image in which transparent pixels are white."""
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
