"""The module sheet: each cell of a solar module cut upright, with the decision of a model about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from blemish.arrays import FloatArray
from blemish.errors import BadInput, UnknownName, WrongTask
from blemish.geometry import homography_from_points, sample_levels
from blemish.imaging import LoadedImage
from blemish.inspections.module_grid import ModuleGrid, cell_name, find_grid

if TYPE_CHECKING:
    from blemish.inference import Predictor

_SAMPLES = 48  # per side of a cell, for its inactive share
_SMOOTH = 5  # samples: narrower dark lines are busbars or cracks
INACTIVE_LEVEL = 0.45  # of the level that active cells have at this place
_NOTABLE = 0.05  # inactive share from which a cell can be the worst one


@dataclass(frozen=True, kw_only=True)
class CellDecision:
    """The decision of a model about one cell.

    Attributes:
        row: from 0, from the top.
        column: from 0, from the left.
        quad: four corners (x, y) in pixels of the image: upper left, upper right, lower right, lower left.
        labels: positive labels that are damage, with their scores, the highest first.
        scores: of all labels of the model, in [0, 1].
        inactive_share: share of the cell that is dark, in [0, 1], measured in the image.
        error: the code of the error if the model failed, or None.
    """

    row: int
    column: int
    quad: tuple[tuple[float, float], ...]
    labels: tuple[tuple[str, float], ...]
    scores: dict[str, float]
    inactive_share: float
    error: str | None = None

    @property
    def name(self) -> str:
        """The name of the cell, such as "R2C5"."""
        return cell_name(self.row, self.column)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.name,
            "row": self.row + 1,
            "column": self.column + 1,
            "labels": [{"label": label, "score": round(score, 6)} for label, score in self.labels],
            "scores": self.scores,
            "inactive_share": self.inactive_share,
            "quad": [list(point) for point in self.quad],
            "error": self.error,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class ModuleSheet:
    """The decisions about all cells of one module.

    Attributes:
        grid: where the cells are.
        cells: row by row.
        model_digest: SHA-256 of the model file.
        normal_labels: labels that are no damage.
    """

    grid: ModuleGrid
    cells: tuple[CellDecision, ...]
    model_digest: str
    normal_labels: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; see docs/inspections.md for the fields."""
        worst = self.worst_cell()
        return {
            "size_hw": list(self.grid.size_hw),
            "grid": self.grid.to_dict(),
            "model_digest": self.model_digest,
            "normal_labels": list(self.normal_labels),
            "cells": [cell.to_dict() for cell in self.cells],
            "damaged_cells": sum(bool(cell.labels) for cell in self.cells),
            "counts": dict(Counter(label for cell in self.cells for label, _ in cell.labels)),
            "inactive_area_share": round(float(np.mean([cell.inactive_share for cell in self.cells])), 4),
            "worst_cell": None if worst is None else worst.name,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModuleSheet:
        """Return the sheet of plain values, which `to_dict` gave."""
        return cls(
            grid=ModuleGrid.from_dict(values["grid"], values["size_hw"]),
            cells=tuple(
                CellDecision(
                    row=cell["row"] - 1,
                    column=cell["column"] - 1,
                    quad=tuple((x, y) for x, y in cell["quad"]),
                    labels=tuple((item["label"], item["score"]) for item in cell["labels"]),
                    scores=dict(cell["scores"]),
                    inactive_share=cell["inactive_share"],
                    error=cell["error"],
                )
                for cell in values["cells"]
            ),
            model_digest=values["model_digest"],
            normal_labels=tuple(values["normal_labels"]),
        )

    def worst_cell(self) -> CellDecision | None:
        """Return the cell with the largest inactive share, from 5 % on; else the one with the highest score.

        None if no cell is damaged.
        """
        dark = max(self.cells, key=lambda cell: cell.inactive_share)
        if dark.inactive_share >= _NOTABLE:
            return dark
        damaged = [cell for cell in self.cells if cell.labels]
        return max(damaged, key=lambda cell: cell.labels[0][1], default=None)


def cut_cells(
    image: LoadedImage, grid: ModuleGrid, size_wh: tuple[int, int] | None = None
) -> Iterator[LoadedImage]:
    """Yield the cells upright and without perspective, row by row.

    Args:
        image: the image in which the grid was found.
        grid: where the cells are.
        size_wh: width and height of each cell, in pixels. Default: those of the largest cell in the image.
    """
    quads = grid.cell_quads()
    if size_wh is None:
        sides = np.linalg.norm(np.roll(quads, -1, 2) - quads, axis=-1)
        wide, tall = sides[..., ::2].max(), sides[..., 1::2].max()
        size_wh = max(1, round(float(wide))), max(1, round(float(tall)))
    # Whole numbers of 16 bits are interpolated as floats.
    source = Image.fromarray(image.pixels.astype(np.float32)) if image.is_16bit else image.rgb_image()
    for quad in quads.reshape(-1, 4, 2):
        cut = _cut(source, quad, size_wh)
        if image.is_16bit:
            levels = np.clip(np.asarray(cut) + 0.5, 0, 65535).astype(np.uint16)
            yield LoadedImage(levels, white_level=image.white_level)
        else:
            yield LoadedImage(cut)


def _cut(source: Image.Image, quad: FloatArray, size_wh: tuple[int, int]) -> Image.Image:
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64) * size_wh
    coefficients = homography_from_points(corners, quad).ravel()[:8].tolist()
    return source.transform(size_wh, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)


def inspect_module(
    image: LoadedImage,
    predictor: Predictor,
    grid: tuple[int, int] | ModuleGrid | None = None,
    *,
    corners: FloatArray | None = None,
    normal_labels: Collection[str] = (),
) -> ModuleSheet:
    """Return the decision of a model about each cell of a solar module.

    Args:
        image: an electroluminescence image of the whole module.
        predictor: of a model file for cells, with labels for whole images.
        grid: rows and columns, or a grid that was found. Default: they are counted.
        corners: see `find_grid`.
        normal_labels: labels that are no damage, such as "functional".

    Raises:
        WrongTask: the model finds boxes ("wrong-task.cells").
        UnknownName: a normal label is none of the model's.
        BadInput: no grid is found, see `find_grid`; or every label of a classifier would be damage
            ("bad-input.normal-labels").
    """
    check_cell_model(predictor, normal_labels)
    found = grid if isinstance(grid, ModuleGrid) else find_grid(image, grid, corners=corners)
    quads = found.cell_quads().reshape(-1, 4, 2)
    shares = measure_inactive(image, found).ravel()
    decisions = []
    results = predictor.stream(list(cut_cells(image, found)))
    for number, (result, quad, share) in enumerate(zip(results, quads, shares, strict=True)):
        labels: list[tuple[str, float]] = []
        scores: dict[str, float] = {}
        if result.prediction is not None:
            prediction = result.prediction
            pairs = zip(prediction.label_names, prediction.scores.tolist(), strict=True)
            labels = sorted((p for p in pairs if p[0] not in normal_labels), key=lambda p: -p[1])
            every = zip(prediction.labels, prediction.label_scores.tolist(), strict=True)
            scores = {name: round(score, 6) for name, score in every}
        decisions.append(
            CellDecision(
                row=number // found.columns,
                column=number % found.columns,
                quad=tuple((round(float(x), 2), round(float(y), 2)) for x, y in quad),
                labels=tuple(labels),
                scores=scores,
                inactive_share=round(float(share), 4),
                error=None if result.prediction is not None else getattr(result.error, "code", "error"),
            )
        )
    return ModuleSheet(
        grid=found,
        cells=tuple(decisions),
        model_digest=predictor.digest,
        normal_labels=tuple(sorted(normal_labels)),
    )


def check_cell_model(predictor: Predictor, normal_labels: Collection[str]) -> None:
    """Raise an error if a model cannot judge cells; see `inspect_module`."""
    if not predictor.task.is_image_level:
        raise WrongTask(
            f"module: expected a model with labels for whole cells, got {predictor.task}. To find boxes in "
            "the image of the module, use no grid.",
            reason="cells",
        )
    for name in normal_labels:
        if name not in predictor.labels:
            raise UnknownName("label", name, predictor.labels, where="normal labels")
    if predictor.task.has_one_label and not normal_labels:
        raise BadInput(
            "module: this classifier gives every cell a label. Name the labels that are no damage "
            f"(--normal), of {', '.join(predictor.labels)}.",
            reason="normal-labels",
        )


def measure_inactive(image: LoadedImage, grid: ModuleGrid) -> FloatArray:
    """Return the share of each cell that is dark, (rows, columns) float64 in [0, 1].

    A place is dark if, smoothed over a tenth of the cell, it is below 45 % of the level that active cells
    have there. That level is a quadratic surface through the brighter half of the cells, which follows
    vignette. Places that are dark in most of these cells are not counted: the cut corners of wafers.
    """
    if image.is_16bit:
        gray = image.pixels.astype(np.float32)
    else:
        gray = np.asarray(image.rgb_image().convert("L"), np.float32)
    rows, columns = grid.rows, grid.columns
    ticks = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    u, v = np.meshgrid(ticks, ticks)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    unit = np.stack([u.ravel(), v.ravel(), np.ones(u.size)])
    levels = np.zeros((rows * columns, _SAMPLES, _SAMPLES))
    for number, quad in enumerate(grid.cell_quads().reshape(-1, 4, 2)):
        mapped = (homography_from_points(corners, quad) @ unit).T
        points = mapped[:, :2] / mapped[:, 2:]
        levels[number] = sample_levels(gray, points).reshape(_SAMPLES, _SAMPLES)
    levels -= float(np.percentile(gray, 1))
    smooth = _smoothed(levels)
    middle = np.median(levels, axis=(1, 2))
    row, column = np.divmod(np.arange(rows * columns), columns)
    design = _surface((column + 0.5) / columns, (row + 0.5) / rows)
    bright = middle >= np.median(middle)
    if bright.sum() < 2 * design.shape[1]:
        reference = np.full(levels.shape, float(middle[bright].mean()))
    else:
        weights = np.linalg.lstsq(design[bright], middle[bright], rcond=None)[0]
        x = (column[:, None, None] + u) / columns
        y = (row[:, None, None] + v) / rows
        reference = _surface(x, y) @ weights
    dark = smooth < INACTIVE_LEVEL * reference
    wafer = dark[bright].mean(0) <= 0.5
    shares: FloatArray = dark[:, wafer].mean(1) if wafer.any() else dark.mean((1, 2))
    return shares.reshape(rows, columns)


def _surface(x: FloatArray, y: FloatArray) -> FloatArray:
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)


def _smoothed(levels: FloatArray) -> FloatArray:
    """Return (n, s, s) levels, averaged over squares of `_SMOOTH` samples."""
    half = _SMOOTH // 2
    padded = np.pad(levels, ((0, 0), (half, half), (half, half)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (_SMOOTH, _SMOOTH), axis=(1, 2))
    mean: FloatArray = windows.mean((-1, -2))
    return mean
