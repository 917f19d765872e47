"""Statistics of a data set: labels, objects, image sizes and colors."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

import numpy as np

from blemish.arrays import FloatArray
from blemish.data.image_hashes import map_in_parallel
from blemish.data.image_headers import read_all_header_info
from blemish.errors import BadImage
from blemish.imaging import LIMITS, Limits, open_image
from blemish.structures import Dataset

MAX_SIZES = 10


@dataclass(frozen=True)
class LabelCounts:
    """The counts of one label.

    Attributes:
        name: see Labels.
        display_name: see Labels.
        images: number of images with the label.
        objects: number of objects with the label; the same as `images` for image-level tasks.
        by_split: number of images with the label in each split.
    """

    name: str
    display_name: str
    images: int
    objects: int
    by_split: dict[str, int]


@dataclass(frozen=True)
class Statistics:
    """The statistics of a data set.

    Attributes:
        task: task of the data set.
        format: its format.
        images: number of images.
        splits: number of images in each split.
        labels: the counts of each label.
        background_fraction: fraction of images without objects or labels, in [0, 1]; None for classification,
            where each image has a label.
        objects_per_image: minimum, mean and maximum; None for image-level tasks.
        box_area_fraction: area of a box as a fraction of its image, in [0, 1]: 5th, 50th and 95th percentile;
            None if there are no boxes.
        sizes: the commonest sizes of images, `WIDTHxHEIGHT`, with their number.
        sides: minimum, median and maximum of width and of height, in pixels.
        modes: format and pixel type of the images, with their number.
        co_occurrence: (L, L) the number of images with both labels; on the diagonal, with the label.
        mean: mean of red, green and blue (16-bit gray: three times the same), in [0, 1]; None if not
            computed.
        std: standard deviation of red, green and blue, in [0, 1]; None if not computed.
        groups: number of groups; 0 if there are none.
        unreadable: ids of the images that cannot be read.
    """

    task: str
    format: str
    images: int
    splits: dict[str, int]
    labels: tuple[LabelCounts, ...]
    background_fraction: float | None
    objects_per_image: tuple[int, float, int] | None
    box_area_fraction: tuple[float, float, float] | None
    sizes: dict[str, int]
    sides: dict[str, tuple[int, float, int]]
    modes: dict[str, int]
    co_occurrence: tuple[tuple[int, ...], ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    groups: int = 0
    unreadable: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics as values that JSON can represent."""
        return asdict(self)

    def to_html(self) -> str:
        """Return a self-contained HTML page."""
        return _to_html(self)


def statistics(dataset: Dataset, *, pixels: bool = True, limits: Limits = LIMITS) -> Statistics:
    """Compute the statistics of a data set.

    Args:
        dataset: the data set.
        pixels: whether to decode every image for mean and standard deviation.
        limits: the largest size of an image, in bytes and pixels, that is accepted.
    """
    ground_truths = [s.ground_truth for s in dataset.samples]
    known = [t for t in ground_truths if t is not None]
    presence = np.array([t.presence_mask() for t in known], bool).reshape(len(known), len(dataset.labels))
    splits = np.array(
        [s.split or "" for s, t in zip(dataset.samples, ground_truths, strict=True) if t is not None]
    )
    objects = np.zeros(len(dataset.labels), np.int64)
    for ground_truth in ground_truths:
        if ground_truth is not None:
            np.add.at(objects, ground_truth.label_index, 1)
    infos = read_all_header_info([s.path for s in dataset.samples], limits=limits)
    headers = [info.header for info in infos if info.header is not None]
    sizes = np.array([h.size_hw for h in headers]).reshape(-1, 2)
    mean, std = _channel_statistics(dataset, limits) if pixels else (None, None)
    counts = [len(t) for t in known]
    return Statistics(
        task=str(dataset.task),
        format=dataset.format,
        images=len(dataset),
        splits=dataset.splits,
        labels=tuple(
            LabelCounts(
                name,
                display_name,
                int(presence[:, i].sum()),
                int(objects[i]),
                {s: int(presence[splits == s, i].sum()) for s in dataset.splits},
            )
            for i, (name, display_name) in enumerate(
                zip(dataset.labels.names, dataset.labels.display_names, strict=True)
            )
        ),
        background_fraction=None
        if dataset.task.has_one_label or not counts
        else float(np.mean(np.array(counts) == 0)),
        objects_per_image=(min(counts), float(np.mean(counts)), max(counts))
        if dataset.task.has_boxes and counts
        else None,
        box_area_fraction=_box_area_fractions(dataset),
        sizes=dict(Counter(f"{w}x{h}" for h, w in sizes.tolist()).most_common(MAX_SIZES)),
        sides={
            side: (int(v.min()), float(np.median(v)), int(v.max()))
            for side, v in (("width", sizes[:, 1]), ("height", sizes[:, 0]))
            if len(v)
        },
        modes=dict(Counter(f"{h.format} {h.mode}" for h in headers).most_common()),
        co_occurrence=tuple(
            tuple(row) for row in (presence.T.astype(np.int64) @ presence.astype(np.int64)).tolist()
        ),
        mean=mean,
        std=std,
        groups=len({s.group for s in dataset.samples if s.group is not None}),
        unreadable=tuple(s.id for s, info in zip(dataset.samples, infos, strict=True) if info.error_code),
    )


def _box_area_fractions(dataset: Dataset) -> tuple[float, float, float] | None:
    fractions: list[FloatArray] = []
    for sample in dataset.samples:
        ground_truth = sample.ground_truth
        if ground_truth is not None and ground_truth.boxes_xyxy is not None and sample.size_hw is not None:
            sides = ground_truth.boxes_xyxy[:, 2:] - ground_truth.boxes_xyxy[:, :2]
            fractions.append(sides.prod(1) / (sample.size_hw[0] * sample.size_hw[1]))
    if not fractions or not sum(map(len, fractions)):
        return None
    low, median, high = np.quantile(np.concatenate(fractions), [0.05, 0.5, 0.95]).tolist()
    return low, median, high


def _channel_statistics(
    dataset: Dataset, limits: Limits
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return mean and standard deviation of all pixels of all images for each channel."""

    def moments(position: int) -> tuple[int, list[float], list[float]] | None:
        try:
            image = open_image(dataset.samples[position].path, limits)
        except BadImage:
            return None
        scale = 65535 if image.is_16bit else 255
        # Histograms are exact and need no copy of the pixels as floating-point numbers.
        values = np.arange(scale + 1) / scale
        flat = image.pixels.reshape(-1, 1 if image.is_16bit else 3)
        histograms = [np.bincount(flat[:, c], minlength=scale + 1) for c in range(flat.shape[1])]
        histograms = histograms * 3 if image.is_16bit else histograms
        first = [float(h @ values) for h in histograms]
        second = [float(h @ values**2) for h in histograms]
        return int(image.size_hw[0] * image.size_hw[1]), first, second

    rows = [r for r in map_in_parallel(moments, range(len(dataset))) if r is not None]
    if not rows:
        return None, None
    total = sum(r[0] for r in rows)
    mean = np.sum([r[1] for r in rows], 0) / total
    variance = np.sum([r[2] for r in rows], 0) / total - mean**2
    return tuple(mean.tolist()), tuple(np.sqrt(np.maximum(variance, 0)).tolist())


def _to_html(stats: Statistics) -> str:
    max_images = max((x.images for x in stats.labels), default=1) or 1
    splits = list(stats.splits)
    rows = "".join(
        f"<tr><td>{escape(x.display_name)}<td class=n>{x.images}<td class=n>{x.objects}"
        + "".join(f"<td class=n>{x.by_split[s]}" for s in splits)
        + f"<td class=bars><div class=bar style='width:{100 * x.images / max_images:.1f}%'></div>"
        for x in stats.labels
    )
    co_occurrence = "".join(
        f"<tr><th>{escape(a.display_name)}" + "".join(f"<td class=n>{v}" for v in row)
        for a, row in zip(stats.labels, stats.co_occurrence, strict=True)
    )
    facts = "".join(f"<tr><td>{escape(k)}<td>{escape(v)}" for k, v in summary_lines(stats))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Data set</title><style>"
        "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0"
        " 1rem;color:#1d2430}"
        "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .75rem;text-align:left;"
        "border-bottom:1px solid #d8dde6}.n{text-align:right;font-variant-numeric:tabular-nums}"
        ".bar{height:.8rem;background:#0072b2;min-width:1px}td.bars{min-width:8rem}</style>"
        f"<h1>{stats.images} images</h1><table>{facts}</table><h2>Labels</h2><table><tr><th>label"
        f"<th>images<th>objects{''.join(f'<th>{escape(s)}' for s in splits)}<th></tr>{rows}</table>"
        f"<h2>Label co-occurrence</h2><table><tr><th>"
        f"{''.join(f'<th>{escape(x.display_name)}' for x in stats.labels)}"
        f"</tr>{co_occurrence}</table></html>"
    )


def summary_lines(stats: Statistics) -> list[tuple[str, str]]:
    """Return facts about the whole data set as (name, value), for a table."""
    lines = [("task", stats.task), ("format", stats.format), ("images", str(stats.images))]
    if stats.splits:
        lines.append(("splits", ", ".join(f"{k} {v}" for k, v in stats.splits.items())))
    if stats.groups:
        lines.append(("groups", str(stats.groups)))
    if stats.background_fraction is not None:
        lines.append(("background images", f"{stats.background_fraction:.1%}"))
    if stats.objects_per_image is not None:
        low_count, mean, high_count = stats.objects_per_image
        lines.append(("objects per image", f"{low_count} to {high_count}, mean {mean:.2f}"))
    if stats.box_area_fraction is not None:
        low, median, high = stats.box_area_fraction
        lines.append(
            ("box area", f"median {median:.1%} of the image, 5th percentile {low:.2%}, 95th {high:.1%}")
        )
    for side, (shortest, middle, longest) in stats.sides.items():
        lines.append((side, f"{shortest} to {longest} pixels, median {middle:.0f}"))
    lines.append(("most frequent sizes", ", ".join(f"{k} ({v})" for k, v in list(stats.sizes.items())[:4])))
    lines.append(("stored as", ", ".join(f"{k} ({v})" for k, v in stats.modes.items())))
    if stats.mean is not None and stats.std is not None:
        lines.append(("mean of red, green, blue", ", ".join(f"{v:.4f}" for v in stats.mean)))
        lines.append(("standard deviation", ", ".join(f"{v:.4f}" for v in stats.std)))
    if stats.unreadable:
        lines.append(("unreadable images", str(len(stats.unreadable))))
    return lines
