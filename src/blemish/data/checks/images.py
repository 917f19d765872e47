"""Checks of image files: those that cannot be used, and those with unusual properties."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from blemish.data.check_context import CheckContext
from blemish.data.checks import register
from blemish.data.findings import Finding, Severity
from blemish.data.image_hashes import map_in_parallel
from blemish.data.image_index import ImageIndex, files_below
from blemish.data.jpeg_integrity import find_jpeg_damage
from blemish.errors import BadImage, ImageTruncated
from blemish.imaging import SUFFIXES, Header, PassedOver, is_unsupported, open_image
from blemish.structures import Dataset, Sample

MAX_NAMES = 5  # of passed-over files that a finding names
MIN_SIDE_PIXELS = 10
COPY_AGAIN = "copy or download it again"
PAINTED_MASK_FOLDERS = ("SegmentationObject", "SegmentationClass")  # of VOC


@register("images.empty", codes=("empty-file",))
def check_empty(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Image files without any bytes."""
    for sample, _ in context.unusable_images("empty-file"):
        yield _unusable_image("empty-file", "the file is empty", sample.path, COPY_AGAIN)


@register("images.unreadable", codes=("broken-image",))
def check_unreadable(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Files that are not images, or are images of an unsupported kind."""
    for sample, info in context.unusable_images("broken-image"):
        if info.error_code:
            yield _unusable_image("broken-image", info.detail, sample.path, info.remedy or "replace it")
        elif info.header is not None:
            message = f"its pixels are {info.header.mode}"
            yield _unusable_image("broken-image", message, sample.path, "save it as RGB or as gray")


@register("images.truncated", codes=("truncated-image",))
def check_truncated(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Image files that end too early."""
    for sample, _ in context.unusable_images("truncated-image"):
        yield _unusable_image("truncated-image", "the file ends too early", sample.path, COPY_AGAIN)
    for error in context.decode_errors:
        if isinstance(error, ImageTruncated):
            yield _undecodable("truncated-image", error)


@register("images.damaged", codes=("damaged-image",))
def check_damaged(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Image files with a wrong checksum, or that cannot be decoded."""
    for sample, _ in context.unusable_images("damaged-image"):
        yield _unusable_image("damaged-image", "a checksum in the file is wrong", sample.path, COPY_AGAIN)
    for error in context.decode_errors:
        if not isinstance(error, ImageTruncated):
            yield _undecodable("damaged-image", error)


@register("images.damaged-jpeg", codes=("damaged-image",))
def check_jpeg_integrity(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """JPEG files with damage that decoders do not report (with `--thorough` only)."""
    if not context.thorough:
        return
    for path in dict.fromkeys(s.path for s in context.decodable_samples):
        damage = find_jpeg_damage(path.read_bytes())
        if damage:
            message = f"it can be decoded, and {damage}"
            yield _unusable_image("damaged-image", message, path, f"inspect it, and {COPY_AGAIN}")


@register("images.oversized", codes=("oversized-image",))
def check_oversized(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Images with too many pixels or bytes."""
    for sample, info in context.unusable_images("oversized-image"):
        yield _unusable_image("oversized-image", info.detail, sample.path, info.remedy)


@register("images.tiny", codes=("tiny-image",))
def check_tiny(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Images with a side shorter than 10 pixels."""
    for sample, header in _headers(context):
        height, width = header.size_hw
        if min(height, width) < MIN_SIDE_PIXELS:
            yield Finding(
                "tiny-image",
                Severity.WARNING,
                f"it is {width} x {height} pixels",
                sample.path,
                remedy="replace or drop it",
                fix="drops it",
                drops_image=True,
            )


@register("images.wrong-extension", codes=("wrong-extension",))
def check_extension(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Image files whose names have the extension of another format."""
    for sample, header in _headers(context):
        suffix = sample.path.suffix
        if suffix.casefold() not in SUFFIXES.get(header.format, (suffix.casefold(),)):
            yield Finding(
                "wrong-extension",
                Severity.WARNING,
                f"it is a {header.format} file with the extension {suffix}",
                sample.path,
                remedy=f"rename it to {sample.path.stem}{SUFFIXES[header.format][0]}",
                fix="renames it",
            )


@register("images.trailing-bytes", codes=("trailing-bytes",))
def check_trailing_bytes(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Image files with bytes after the end of the image."""
    for sample, info in context.readable_images:
        if info.fault == "trailing":
            message = "the file continues after the end of the image"
            yield _note("trailing-bytes", message, sample.path, "save it again if that is not intended")


@register("images.exif-orientation", codes=("exif-orientation",))
def check_orientation(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Images that are stored rotated or mirrored, with an EXIF orientation."""
    for sample, header in _headers(context):
        if header.orientation != 1:
            yield _note(
                "exif-orientation",
                f"it has EXIF orientation {header.orientation}, which is applied when it is read",
                sample.path,
                "make sure that its labels were drawn on the upright image",
            )


@register("images.sixteen-bit", codes=("sixteen-bit",))
def check_sixteen_bit(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Images with 16 bits per channel."""
    for sample, header in _headers(context):
        if header.bits == 16:
            remedy = "set white_level in the recipe if its brightest value is not 65535"
            yield _note("sixteen-bit", "it has 16 bits per channel", sample.path, remedy)


@register("images.unused-bits", codes=("unused-bits",))
def check_unused_bits(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """16-bit images whose samples use less than a quarter of the range, such as 12 bits in 16."""
    if not context.decode:
        return
    wide = {path for sample in context.decodable_samples if (path := sample.path) is not None}
    paths = [s.path for s, header in _headers(context) if header.bits == 16 and s.path in wide]

    def unused(path: Path) -> tuple[str, bool]:
        try:
            image = open_image(path, context.limits)
        except BadImage:  # a finding of another check
            return "", False
        return image.unused_bits(), image.is_16bit

    unique = list(dict.fromkeys(paths))
    for path, (sentence, is_gray) in zip(unique, map_in_parallel(unused, unique), strict=True):
        if sentence:
            remedy = (
                "set data.white_level in the recipe, and --white-level for model files that were trained "
                "without it"
                if is_gray
                else "scale its samples to the full range of 16 bits, or save it with 8"
            )
            yield Finding("unused-bits", Severity.WARNING, sentence, path, remedy=remedy)


@register("images.passed-over", codes=("passed-over-image",))
def check_passed_over(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Images in unsupported formats, such as HEIC, that are not read."""
    folder = context.image_folder or dataset.root
    found = PassedOver()
    for prefix, entry in files_below(folder) if folder.is_dir() else ():
        if is_unsupported(entry.name):
            found.add(Path(folder, prefix, entry.name))
    for kind, paths in found.paths.items():
        names = ", ".join(sorted(p.name for p in paths)[:MAX_NAMES])
        yield Finding(
            "passed-over-image",
            Severity.WARNING,
            f"{len(paths)} {kind} file{'s are' if len(paths) > 1 else ' is'} not read: {names}"
            + (", ..." if len(paths) > MAX_NAMES else ""),
            folder,
            remedy="save them as JPEG or PNG" if len(paths) > 1 else "save it as JPEG or PNG",
        )


@register("images.cmyk", codes=("cmyk",))
def check_cmyk(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Images in CMYK, the color space of printing."""
    for sample, header in _headers(context):
        if header.mode == "CMYK":
            remedy = "save it as RGB to be sure of its colors"
            yield _note("cmyk", "its colors are CMYK, which is intended for printing", sample.path, remedy)


@register("images.palette", codes=("palette",))
def check_palette(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Images with a palette of at most 256 colors."""
    for sample, header in _headers(context):
        if header.mode == "P":
            remedy = "use the original if there is one"
            yield _note("palette", "it has a palette of at most 256 colors", sample.path, remedy)


@register("images.multiple-frames", codes=("several-frames",))
def check_frames(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Image files with several frames, of which only the first is read."""
    for sample, header in _headers(context):
        if header.frames > 1:
            message = f"the file has {header.frames} frames, and only the first is read"
            yield _note("several-frames", message, sample.path, "split the file")


@register("images.unlabeled", codes=("image-without-label",))
def check_unlabeled(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Images in the folder of the data set that no label names."""
    folder = context.image_folder
    if folder is None or not folder.is_dir():
        return
    known = {os.fspath(s.path) for s in dataset.samples}
    known |= {os.fspath(f.path) for f in context.read_findings if f.path is not None}
    painted = tuple(f"{os.sep}{name}{os.sep}" for name in PAINTED_MASK_FOLDERS)
    for image in sorted(ImageIndex(folder).path_texts()):
        if image not in known and not any(part in image for part in painted):
            yield Finding(
                "image-without-label",
                Severity.WARNING,
                "no label names it",
                Path(image),
                remedy="label it or remove it",
                fix="leaves it out",
            )


def _headers(context: CheckContext) -> Iterator[tuple[Sample, Header]]:
    for sample, info in context.readable_images:
        if info.header is not None:
            yield sample, info.header


def _unusable_image(code: str, message: str, path: Path, remedy: str) -> Finding:
    return Finding(code, Severity.ERROR, message, path, remedy=remedy, fix="leaves it out", drops_image=True)


def _undecodable(code: str, error: BadImage) -> Finding:
    return Finding(
        code,
        Severity.ERROR,
        error.detail,
        error.path,
        remedy=error.remedy,
        fix="leaves it out",
        drops_image=True,
    )


def _note(code: str, message: str, path: Path, remedy: str) -> Finding:
    return Finding(code, Severity.NOTE, message, path, remedy=remedy)
