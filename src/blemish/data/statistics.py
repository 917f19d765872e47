"""What a data set holds, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

import numpy as np

from blemish.arrays import FloatArray
from blemish.data.image_hashes import in_parallel
from blemish.data.image_headers import read_all_header_info
from blemish.errors import BadImage
from blemish.imaging import LIMITS, Limits, open_image
from blemish.structures import Dataset

MOST_SIZES = 10


@dataclass(frozen=True)
class LabelCounts:
    """One label.

    Attributes:
        name: see Labels; likewise title.
        images: in which it stands.
        objects: that bear it; the same as `images` for image-level sets.
        by_split: images of each split.
    """

    name: str
    title: str
    images: int
    objects: int
    by_split: dict[str, int]


@dataclass(frozen=True)
class Statistics:
    """A data set in numbers.

    Attributes:
        task: of the set; likewise format.
        images: how many.
        splits: how many in each.
        labels: one for each.
        clean: share of images with nothing in them; None for classification, where each has a label.
        objects_a_image: least, mean and most; None for image-level sets.
        object_share: of an object's box in its image's area: 5th, 50th and 95th percentile.
        sizes: the commonest sizes, `WIDTHxHEIGHT`, and how often.
        sides: least, median and most of width and of height, pixels.
        modes: how images are stored, and how often.
        together: (L, L) in how many images two labels stand together; a label with itself, how many.
        mean: of red, green and blue (or grey of 16 bits, three times), in [0, 1]; None where not asked for.
        deviation: likewise.
        groups: how many objects were photographed, where known.
    """

    task: str
    format: str
    images: int
    splits: dict[str, int]
    labels: tuple[LabelCounts, ...]
    clean: float | None
    objects_an_image: tuple[int, float, int] | None
    object_share: tuple[float, float, float] | None
    sizes: dict[str, int]
    sides: dict[str, tuple[int, float, int]]
    modes: dict[str, int]
    together: tuple[tuple[int, ...], ...]
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    groups: int = 0
    unreadable: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    def to_html(self) -> str:
        """A page that stands on its own."""
        return _page(self)


def statistics(dataset: Dataset, *, pixels: bool = True, limits: Limits = LIMITS) -> Statistics:
    """Count what a data set holds.

    Args:
        dataset: what to count.
        pixels: whether to decode every image for mean and standard deviation.
        limits: as for `open_image`.
    """
    ground_truths = [s.ground_truth for s in dataset.samples]
    known = [t for t in ground_truths if t is not None]
    held = np.array([t.presence_mask() for t in known], bool).reshape(len(known), len(dataset.labels))
    splits = np.array(
        [s.split or "" for s, t in zip(dataset.samples, ground_truths, strict=True) if t is not None]
    )
    objects = np.zeros(len(dataset.labels), np.int64)
    for ground_truth in ground_truths:
        if ground_truth is not None:
            np.add.at(objects, ground_truth.label_index, 1)
    looks = read_all_header_info([s.path for s in dataset.samples], limits=limits)
    headers = [k.header for k in looks if k.header is not None]
    sizes = np.array([h.size_hw for h in headers]).reshape(-1, 2)
    mean, deviation = _colours(dataset, limits) if pixels else (None, None)
    counts = [len(t) for t in known]
    return Statistics(
        task=str(dataset.task),
        format=dataset.format,
        images=len(dataset),
        splits=dataset.splits,
        labels=tuple(
            LabelCounts(
                name,
                title,
                int(held[:, i].sum()),
                int(objects[i]),
                {s: int(held[splits == s, i].sum()) for s in dataset.splits},
            )
            for i, (name, title) in enumerate(
                zip(dataset.labels.names, dataset.labels.display_names, strict=True)
            )
        ),
        clean=None
        if dataset.task == "classification" or not counts
        else float(np.mean(np.array(counts) == 0)),
        objects_an_image=(min(counts), float(np.mean(counts)), max(counts))
        if dataset.task.has_boxes and counts
        else None,
        object_share=_shares(dataset),
        sizes=dict(Counter(f"{w}x{h}" for h, w in sizes.tolist()).most_common(MOST_SIZES)),
        sides={
            side: (int(v.min()), float(np.median(v)), int(v.max()))
            for side, v in (("width", sizes[:, 1]), ("height", sizes[:, 0]))
            if len(v)
        },
        modes=dict(Counter(f"{h.format} {h.mode}" for h in headers).most_common()),
        together=tuple(tuple(row) for row in (held.T.astype(np.int64) @ held.astype(np.int64)).tolist()),
        mean=mean,
        deviation=deviation,
        groups=len({s.group for s in dataset.samples if s.group is not None}),
        unreadable=tuple(s.id for s, k in zip(dataset.samples, looks, strict=True) if k.error_code),
    )


def _shares(dataset: Dataset) -> tuple[float, float, float] | None:
    shares: list[FloatArray] = []
    for sample in dataset.samples:
        ground_truth = sample.ground_truth
        if ground_truth is not None and ground_truth.boxes_xyxy is not None and sample.size_hw is not None:
            sides = ground_truth.boxes_xyxy[:, 2:] - ground_truth.boxes_xyxy[:, :2]
            shares.append(sides.prod(1) / (sample.size_hw[0] * sample.size_hw[1]))
    if not shares or not sum(map(len, shares)):
        return None
    low, middle, high = np.quantile(np.concatenate(shares), [0.05, 0.5, 0.95]).tolist()
    return low, middle, high


def _colours(dataset: Dataset, limits: Limits) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and standard deviation of all pixels of all images, channel by channel."""

    def one(position: int) -> tuple[int, list[float], list[float]] | None:
        try:
            photo = open_image(dataset.samples[position].path, limits)
        except BadImage:
            return None
        scale = 65535 if photo.is_16bit else 255
        # Histograms are exact and cost no copy of the pixels as floating-point numbers.
        values = np.arange(scale + 1) / scale
        flat = photo.pixels.reshape(-1, 1 if photo.is_16bit else 3)
        counted = [np.bincount(flat[:, c], minlength=scale + 1) for c in range(flat.shape[1])]
        counted = counted * 3 if photo.is_16bit else counted
        first = [float(c @ values) for c in counted]
        second = [float(c @ values**2) for c in counted]
        return int(photo.size_hw[0] * photo.size_hw[1]), first, second

    rows = [r for r in in_parallel(one, range(len(dataset))) if r is not None]
    if not rows:
        return None, None
    total = sum(r[0] for r in rows)
    mean = np.sum([r[1] for r in rows], 0) / total
    variance = np.sum([r[2] for r in rows], 0) / total - mean**2
    return tuple(mean.tolist()), tuple(np.sqrt(np.maximum(variance, 0)).tolist())


def _page(found: Statistics) -> str:
    most = max((x.images for x in found.labels), default=1) or 1
    splits = list(found.splits)
    rows = "".join(
        f"<tr><td>{escape(x.title)}<td class=n>{x.images}<td class=n>{x.objects}"
        + "".join(f"<td class=n>{x.by_split[s]}" for s in splits)
        + f"<td class=bars><div class=bar style='width:{100 * x.images / most:.1f}%'></div>"
        for x in found.labels
    )
    together = "".join(
        f"<tr><th>{escape(a.title)}" + "".join(f"<td class=n>{v}" for v in row)
        for a, row in zip(found.labels, found.together, strict=True)
    )
    facts = "".join(f"<tr><td>{escape(k)}<td>{escape(v)}" for k, v in summary_lines(found))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Data set</title><style>"
        "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0"
        " 1rem;color:#1d2430}"
        "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .75rem;text-align:left;"
        "border-bottom:1px solid #d8dde6}.n{text-align:right;font-variant-numeric:tabular-nums}"
        ".bar{height:.8rem;background:#0072b2;min-width:1px}td.bars{min-width:8rem}</style>"
        f"<h1>{found.images} images</h1><table>{facts}</table><h2>Labels</h2><table><tr><th>label"
        f"<th>images<th>objects{''.join(f'<th>{escape(s)}' for s in splits)}<th></tr>{rows}</table>"
        f"<h2>Together in an image</h2><table><tr><th>"
        f"{''.join(f'<th>{escape(x.title)}' for x in found.labels)}"
        f"</tr>{together}</table></html>"
    )


def summary_lines(found: Statistics) -> list[tuple[str, str]]:
    """Facts about the whole set, as (what, how much), for a table."""
    lines = [("task", found.task), ("format", found.format), ("images", str(found.images))]
    if found.splits:
        lines.append(("splits", ", ".join(f"{k} {v}" for k, v in found.splits.items())))
    if found.groups:
        lines.append(("groups", str(found.groups)))
    if found.clean is not None:
        lines.append(("nothing in it", f"{found.clean:.1%}"))
    if found.objects_an_image is not None:
        least, mean, most = found.objects_an_image
        lines.append(("objects an image", f"{least} to {most}, {mean:.2f} on average"))
    if found.object_share is not None:
        low, middle, high = found.object_share
        lines.append(
            ("an object's box", f"{middle:.1%} of the image (5% below {low:.2%}, 5% above {high:.1%})")
        )
    for side, (least, middle, most) in found.sides.items():
        lines.append((side, f"{least} to {most} pixels, half below {middle:.0f}"))
    lines.append(("commonest sizes", ", ".join(f"{k} ({v})" for k, v in list(found.sizes.items())[:4])))
    lines.append(("stored as", ", ".join(f"{k} ({v})" for k, v in found.modes.items())))
    if found.mean is not None and found.deviation is not None:
        lines.append(("mean of red, green, blue", ", ".join(f"{v:.4f}" for v in found.mean)))
        lines.append(("standard deviation", ", ".join(f"{v:.4f}" for v in found.deviation)))
    if found.unreadable:
        lines.append(("cannot be opened", str(len(found.unreadable))))
    return lines
