"""`CheckContext`: the facts about a data set that checks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from blemish.data.duplicates import Pair, find_copies, image_signatures
from blemish.data.findings import Finding
from blemish.data.header_info import HeaderInfo
from blemish.data.raw_annotations import PlacedAnnotations
from blemish.errors import BadImage, ImageTooLarge, ImageTruncated
from blemish.imaging import LIMITS, Limits
from blemish.structures import Dataset, Sample

UNSUPPORTED_MODES = ("F", "LAB")  # Pillow's names of pixel types that `load_image` refuses


@dataclass(frozen=True, eq=False)
class CheckContext:
    """The facts about a data set that checks share, so that each file is read once.

    What takes long is computed when the first check asks for it.

    Attributes:
        dataset: the data set, without what could not be read.
        headers: the header info of every image.
        read_findings: the faults that the reader of the format reported.
        annotations: the boxes, polygons and masks of each image, faulty ones included; empty if the data set
            was already open.
        image_folder: the folder to search for images that no label names, or None not to search.
        decode: whether checks may decode images.
        thorough: whether to follow the entropy-coded data of every JPEG.
        limits: the largest size of an image, in bytes and pixels, that is accepted.
    """

    dataset: Dataset
    headers: Mapping[Path, HeaderInfo]
    read_findings: tuple[Finding, ...] = ()
    annotations: tuple[PlacedAnnotations, ...] = ()
    image_folder: Path | None = None
    decode: bool = True
    thorough: bool = False
    limits: Limits = field(default=LIMITS)

    @cached_property
    def images(self) -> list[tuple[Sample, HeaderInfo]]:
        """Every sample with the header info of its image."""
        return [(sample, self.headers[sample.path]) for sample in self.dataset.samples]

    @cached_property
    def _images_by_code(self) -> dict[str, list[tuple[Sample, HeaderInfo]]]:
        by_code: dict[str, list[tuple[Sample, HeaderInfo]]] = {}
        for sample, info in self.images:
            by_code.setdefault(unusable_code(info), []).append((sample, info))
        return by_code

    @property
    def readable_images(self) -> list[tuple[Sample, HeaderInfo]]:
        """The samples whose headers show no damage."""
        return self._images_by_code.get("", [])

    def unusable_images(self, code: str) -> list[tuple[Sample, HeaderInfo]]:
        """Return the samples whose headers show damage with this finding code; see `unusable_code`."""
        return self._images_by_code.get(code, [])

    @cached_property
    def _decoded(self) -> tuple[list[Sample], list[BadImage], list[tuple[Sample, Sample, Pair]]]:
        samples = [sample for sample, _ in self.readable_images]
        if not self.decode:
            return samples, [], []
        signatures = image_signatures([s.path for s in samples], limits=self.limits)
        pairs = [(samples[p.first], samples[p.second], p) for p in find_copies(signatures)]
        decoded = [s for s, opened in zip(samples, signatures.opened.tolist(), strict=True) if opened]
        return decoded, list(signatures.errors.values()), pairs

    @property
    def decodable_samples(self) -> list[Sample]:
        """The samples whose images can be decoded, or the readable ones if `decode` is false."""
        return self._decoded[0]

    @property
    def decode_errors(self) -> list[BadImage]:
        """The errors of images that cannot be decoded; empty if `decode` is false."""
        return self._decoded[1]

    @property
    def copies(self) -> list[tuple[Sample, Sample, Pair]]:
        """The pairs of samples that show the same image; empty if `decode` is false."""
        return self._decoded[2]


def unusable_code(info: HeaderInfo) -> str:
    """Return the code of the finding about an unusable image, or "" if its header shows no damage."""
    if info.error_code == "bad-image.empty-file":
        return "empty-file"
    if info.error_class is ImageTooLarge:
        return "oversized-image"
    if info.error_class is ImageTruncated or info.fault == "truncated":
        return "truncated-image"
    if info.error_code:
        return "broken-image"
    if info.fault == "checksum":
        return "damaged-image"
    if info.header is not None and info.header.mode in UNSUPPORTED_MODES:
        return "broken-image"
    return ""
