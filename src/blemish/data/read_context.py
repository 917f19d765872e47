"""What every reader of a format needs: options, a place for problems, and images found by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from blemish.data.findings import Finding, Severity
from blemish.data.header_info import HeaderInfo
from blemish.data.image_index import ImageIndex
from blemish.data.split_names import SPLITS
from blemish.errors import BadDataset, suggestion
from blemish.structures import Task


@dataclass
class ReadContext:
    """One reading of a data set: what was asked, and what was found on the way.

    Attributes:
        images: where images lie, if not beside their labels.
        task: what the user wants the set to be, or None to go by what it holds.
        columns: for tables, which column (name, or position from 0) is the path, label, group, split, x, ...
        delimiter: for tables; recognised where None.
        box_order: for tables, the order of four columns given by position: xywh, xyhw or xyxy.
        missing: `error` for an image that is not there, `drop` to go on without it, or `keep`.
        minimum_labels: fewer distinct labels than this in a classification set are an error.
        lenient: collect problems instead of raising the first.
        looks: what a look at each image's header showed, by path, where somebody looked.
        notes: what was dropped or mended, for people.
        findings: problems collected.
    """

    images: Path | None = None
    task: Task | None = None
    columns: Mapping[str, str | int] = field(default_factory=dict)
    delimiter: str | None = None
    box_order: str | None = None
    missing: str = "error"
    minimum_labels: int = 2
    lenient: bool = False
    looks: dict[Path, HeaderInfo] = field(default_factory=dict, repr=False)
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

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
    ) -> None:
        """Something is wrong: raise it, or keep it and go on where the reading is lenient or it is no error.

        Raises:
            BadDataset: an error, and the reading is not lenient.
        """
        finding = Finding(code, severity, message, path, origin, remedy, fix)
        if severity is Severity.ERROR and not self.lenient:
            raise BadDataset(finding.sentence())
        self.findings.append(finding)

    def note(self, sentence: str) -> None:
        """Say something once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def in_two_splits(self, name: str, first: str, second: str, *, origin: str) -> str:
        """The one of two splits that an image listed in both counts for, the one to measure with."""
        lost, kept = sorted((first, second), key=SPLITS.index)
        self.note(f"images that stand in {lost} and in {kept} count for {kept} only")
        if self.lenient:
            self.problem(
                "split-leak",
                f"{name!r} stands in {lost} and in {kept}",
                origin=origin,
                remedy="list it in one split only: blemish data split",
                fix=f"drops it from {lost}",
            )
        return kept

    def missing_images(
        self, missing: list[tuple[str, str]], looked_in: Path, listed: ImageIndex | None = None
    ) -> None:
        """Report images that labels name and nobody finds.

        Args:
            missing: (name as written, origin) of each.
            looked_in: the folder they should lie in.
            listed: what lies there, for the nearest name.
        """
        if not missing:
            return
        remedy = "put them there, say where they are with images=, or drop their lines"
        if self.lenient:
            for name, origin in missing:
                near = (
                    "" if listed is None else suggestion(PurePosixPath(name).name, listed.names, max_names=0)
                )
                self.problem(
                    "missing-image",
                    f"there is no image {name!r} in {looked_in}{near if 'mean' in near else ''}",
                    origin=origin,
                    remedy="restore it or drop the line",
                    fix="drops the line",
                )
            return
        shown = ", ".join(repr(name) for name, _ in missing[:5]) + (", ..." if len(missing) > 5 else "")
        if self.missing == "drop":
            self.note(
                f"{len(missing)} images that labels name are not in {looked_in} and were dropped: {shown}"
            )
            return
        count = "an image is" if len(missing) == 1 else f"{len(missing)} images are"
        raise BadDataset(f"{missing[0][1]}: {count} not in {looked_in}: {shown}; {remedy}")
