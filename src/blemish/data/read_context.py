"""`ReadContext`: the options of one reading of a data set, and the collector of its faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blemish.data.findings import Finding, Severity
from blemish.data.header_info import HeaderInfo
from blemish.data.image_index import ImageIndex
from blemish.data.raw_annotations import PlacedAnnotations
from blemish.data.split_names import SPLITS
from blemish.errors import BadDataset
from blemish.structures import Task

CROWD_VALUES = ("ignore", "objects")
MAX_NAMED_IMAGES = 5  # number of missing images that an error names
MAX_NAMED_FOLDERS = 3


@dataclass
class ReadContext:
    """The options of one reading of a data set, and what the reader found.

    Attributes:
        format: the format that the user named, or None if it is detected.
        images: folder of the images, if they are not beside the labels.
        task: the task that the data set is to be read for, or None to choose it by the annotations.
        columns: for tables, the column (name, or position from 0) of each role: path, label, group, split, x,
            ...
        delimiter: for tables; None to detect it.
        box_order: for tables, the order of four box columns given by position: xywh, xyhw or xyxy.
        uncertain: for tables, how cells such as -1 and nan in columns of 0 and 1 are read: "error",
            "negative", "positive", or "drop" the line.
        crowd: how objects that are marked as crowd are read: "ignore" or "objects".
        missing: what to do about an image that does not exist: "error", "drop" it, or "keep" its labels.
        minimum_labels: a classification data set with fewer distinct labels is an error.
        lenient: whether to collect faults instead of raising the first, as `blemish data check` does.
        headers: the header info of each image that was read.
        notes: what was left out or converted, one sentence each.
        findings: the faults collected.
        annotations: if `lenient`, the annotations of every image, for the checks.
    """

    format: str | None = None
    images: Path | None = None
    task: Task | None = None
    columns: Mapping[str, str | int] = field(default_factory=dict)
    delimiter: str | None = None
    box_order: str | None = None
    uncertain: str = "error"
    crowd: str = "ignore"
    missing: str = "error"
    minimum_labels: int = 2
    lenient: bool = False
    headers: dict[Path, HeaderInfo] = field(default_factory=dict, repr=False)
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    annotations: list[PlacedAnnotations] = field(default_factory=list, repr=False)

    def problem(
        self,
        code: str,
        message: str,
        *,
        origin: str = "",
        path: Path | None = None,
        remedy: str = "",
        severity: Severity = Severity.ERROR,
        fix: str = "",
        drops_image: bool = False,
    ) -> None:
        """Report a fault: raise it if it is an error and the reading is strict, collect it otherwise.

        Args:
            code: the kind of fault, such as "missing-image".
            message: what is wrong, without the place.
            origin: the place in the labels: "labels.csv:14".
            path: the image that it concerns.
            remedy: what the user can do.
            severity: only an error is raised.
            fix: what `blemish data check --fix` does about it.
            drops_image: whether that fix leaves the image out.

        Raises:
            BadDataset: with the reason `code`, for an error in a strict reading.
        """
        finding = Finding(code, severity, message, path, origin, remedy, fix, drops_image=drops_image)
        if severity is Severity.ERROR and not self.lenient:
            raise BadDataset(message, where=finding.where, remedy=remedy, reason=code)
        self.findings.append(finding)

    def note(self, sentence: str) -> None:
        """Record what was left out or converted; a repeated sentence is recorded once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def in_two_splits(self, name: str, first: str, second: str, *, origin: str) -> str:
        """Report an image that is listed in two splits.

        Args:
            name: the image.
            first: one split.
            second: the other split.
            origin: the place of the later entry.

        Returns:
            The split that the image is read into: test before val before train.
        """
        dropped, kept = sorted((first, second), key=SPLITS.index)
        self.note(f"images in both {dropped} and {kept} are read into {kept} only")
        if self.lenient:
            self.problem(
                "split-leak",
                f"{name!r} is in both {dropped} and {kept}",
                origin=origin,
                remedy="list it in one split only, or run blemish data split",
                fix=f"drops it from {dropped}",
            )
        return kept

    def missing_images(
        self, missing: list[tuple[str, str]], searched: Path, index: ImageIndex | None = None
    ) -> None:
        """Report images that labels name and that do not exist.

        Args:
            missing: name as written, and place of the label, of each image.
            searched: the folder that was searched.
            index: the images in that folder, to suggest the nearest name.

        Raises:
            BadDataset: the reading is strict and `self.missing` is "error".
        """
        if not missing:
            return
        places = [] if index is None else index.folders_with(missing[0][0])
        folder = "--images"
        if places:
            named_folders = " or ".join(str(place) for place in places[:MAX_NAMED_FOLDERS])
            folder = f"--images: files of the name are in {named_folders}"
        if self.lenient:
            for number, (name, origin) in enumerate(missing):
                # Comparing thousands of names with thousands of files takes minutes.
                shown = number < MAX_NAMED_IMAGES and index is not None
                nearest = index.nearest(name) if shown and index is not None else None
                self.problem(
                    "missing-image",
                    f"there is no image {name!r} in {searched}"
                    + (f"; did you mean {nearest!r}?" if nearest else ""),
                    origin=origin,
                    remedy=f"name their folder with {folder}"
                    if places
                    else "restore the image or drop the line",
                    fix="drops the line",
                )
            return
        named = ", ".join(repr(name) for name, _ in missing[:MAX_NAMED_IMAGES])
        if len(missing) > MAX_NAMED_IMAGES:
            named += ", ..."
        if self.missing == "drop":
            self.note(f"dropped {len(missing)} labeled images that are not in {searched}: {named}")
            return
        subject = "an image is" if len(missing) == 1 else f"{len(missing)} images are"
        raise BadDataset(
            f"{subject} not in {searched}: {named}",
            where=missing[0][1],
            remedy=f"put them there, drop their lines, or name their folder with {folder}",
            reason="missing-image",
        )
