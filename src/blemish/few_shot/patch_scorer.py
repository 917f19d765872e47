"""How far each patch of an image is from good patches: fitted on good images, computed in NumPy and ONNX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from blemish.few_shot.trunk_graph import GraphParts

DIMENSIONS = 128  # of the patches' principal components
WORST = 0.04  # the share of an image's patches whose mean distance is the distance of the image
CALM = 0.25  # the share of an image's patches that are at most at the distance of its background
COMMON = 0.99  # the share of the good images whose background is at most the largest that is subtracted
MAX_BACKGROUNDS = 200  # good images whose background is measured
BANK_SIZE = 4000
MAX_CANDIDATES = 20_000  # patches that the coreset is chosen from
PROJECTED = 24  # dimensions of the random projection in which the coreset is chosen
NOISE = 0.003  # added to each variance, as a share of the mean variance
MIN_VARIANCE = 1e-8  # of identical images; its inverse root fits float16
CHUNK = 16  # images whose distances are computed at once
Patches = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PatchScorer:
    """What is known of good patches; P positions, c features, d components, m patches in memory.

    Attributes:
        projection: (c, d) float32 principal components.
        mean: (P, d) float32, of the components at each position.
        whitening: (P, d, d) float32, symmetric; multiplied by it, the good patches of a position have unit
            covariance. Rounded to float16, as the file stores it.
        bank: (m, d) float32 whitened good patches, rounded to float16; None to measure the distance from the
            mean.
        common: the largest background that is subtracted, at least 0.
    """

    projection: Patches
    mean: Patches
    whitening: Patches
    bank: Patches | None = None
    common: float = 0.0

    def whiten(self, patches: Patches) -> Patches:
        """Return (n, P, d) whitened components of patches (n, P, c)."""
        centered = patches @ self.projection - self.mean
        return np.asarray(np.matmul(centered[:, :, None, :], self.whitening)[:, :, 0, :], np.float32)

    def distances(self, patches: Patches) -> NDArray[np.float32]:
        """Return (n, P) float32 distances of patches (n, P, c) from good ones."""
        rows = []
        for start in range(0, len(patches), CHUNK):
            whitened = self.whiten(patches[start : start + CHUNK])
            squared = (whitened**2).sum(2)
            if self.bank is not None:
                flat = whitened.reshape(-1, whitened.shape[2])
                cross = np.empty(len(flat), np.float32)
                lengths = (self.bank**2).sum(1)
                for first in range(0, len(flat), 2048):
                    cross[first : first + 2048] = (
                        lengths - 2 * flat[first : first + 2048] @ self.bank.T
                    ).min(1)
                squared = squared + cross.reshape(squared.shape)
            rows.append(np.sqrt(np.maximum(squared, 0)))
        return np.concatenate(rows)

    def excess(self, patches: Patches) -> NDArray[np.float32]:
        """Return (n, P) how much farther patches (n, P, c) are from good ones than their image's background.

        An image with a coarse grain or with noise is farther everywhere. A defect is a place that is farther
        still. No more is subtracted than good images need, so that a defect that covers the image counts.
        """
        distances = self.distances(patches)
        return distances - np.minimum(background(distances), np.float32(self.common))[:, None]

    def with_common(self, patches: Patches) -> PatchScorer:
        """Return the scorer that subtracts at most the background of nearly all good images, (n, P, c)."""
        step = max(len(patches) // MAX_BACKGROUNDS, 1)
        common = float(np.quantile(background(self.distances(patches[::step])), COMMON))
        return replace(self, common=common)


def background(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n,) the distance that the calmest quarter of each image's patches does not exceed.

    Args:
        distances: (n, P) from good patches.

    Example:
        >>> background(np.array([[4.0, 1, 3, 9]], np.float32)).tolist()
        [1.0]
    """
    rank = _calm_patches(distances.shape[1])
    return np.partition(distances, rank - 1, axis=1)[:, rank - 1]


def _calm_patches(positions: int) -> int:
    """Return the number of patches that are at most at the distance of the background."""
    return max(round(CALM * positions), 1)


def _worst_patches(positions: int) -> int:
    """Return the number of patches whose mean is the distance of the image."""
    return max(round(WORST * positions), 1)


def image_distances(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n,) the mean of the largest 4 % of each image's values (n, P)."""
    worst = _worst_patches(distances.shape[1])
    return np.asarray(np.sort(distances, 1)[:, -worst:].mean(1), np.float32)


def to_scores(distances: NDArray[np.floating], center: float, width: float) -> NDArray[np.float64]:
    """Return scores in (0, 1): .5 at `center`, .75 at one `width` above it.

    No score saturates, so that the order of distances is kept.

    Example:
        >>> to_scores(np.array([2.0, 3.0, 4.0]), 3.0, 1.0).tolist()
        [0.25, 0.5, 0.75]
    """
    unit = (np.asarray(distances, np.float64) - center) / width
    return np.asarray(0.5 + 0.5 * unit / (1 + np.abs(unit)), np.float64)


def fit_gaussian(patches: Patches) -> PatchScorer:
    """Return a Gaussian for each position, in principal components shared by all positions.

    The covariance of a position is shrunk toward that of all positions, the more the fewer images there are.

    Args:
        patches: (n, P, c) float32 of good images.

    Source:
        Defard et al., PaDiM: a Patch Distribution Modeling Framework (ICPR 2020), with principal instead of
        random components and a shrunk covariance.
    """
    count, positions, width = patches.shape
    center = patches.mean(0)
    scatter = np.zeros((width, width))
    for start in range(0, count, CHUNK):
        rows = (patches[start : start + CHUNK] - center).reshape(-1, width)
        scatter += rows.T @ rows
    _, vectors = np.linalg.eigh(scatter)
    projection = np.ascontiguousarray(vectors[:, ::-1][:, :DIMENSIONS], np.float32)
    dimensions = projection.shape[1]
    pooled = (projection.T @ scatter @ projection) / (count * positions)
    components = patches @ projection
    mean = components.mean(0)
    centered = np.ascontiguousarray((components - mean).transpose(1, 0, 2))  # (P, n, d)
    own = np.matmul(centered.transpose(0, 2, 1), centered) / count
    share = (dimensions / (dimensions + count)) ** 3
    covariance = (1 - share) * own + share * pooled
    noise = NOISE * np.trace(covariance, axis1=1, axis2=2) / dimensions
    values, axes = np.linalg.eigh(covariance + noise[:, None, None] * np.eye(dimensions))
    scale = 1 / np.sqrt(np.maximum(values, MIN_VARIANCE))
    whitening = np.matmul(axes * scale[:, None, :], axes.transpose(0, 2, 1))
    symmetric = (whitening + whitening.transpose(0, 2, 1)) / 2  # exactly: only the upper triangles are stored
    return PatchScorer(projection, mean.astype(np.float32), _rounded(symmetric))


def _rounded(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return float32 values that float16 represents exactly."""
    return values.astype(np.float16).astype(np.float32)


def fit_memory(
    patches: Patches, rng: np.random.Generator, *, progress: Callable[[str, int, int], None] | None = None
) -> PatchScorer:
    """Return a Gaussian's whitening with the mean and a coreset of whitened good patches.

    Args:
        patches: (n, P, c) float32 of good images.
        rng: chooses candidates, projection and the first patch.
        progress: called with "choosing patches" and the number of chosen patches and of all.

    Source:
        Roth et al., Towards Total Recall in Industrial Anomaly Detection (CVPR 2022): greedy k-center
        coreset in a random projection; here in whitened components.
    """
    scorer = fit_gaussian(patches)
    count, positions, _ = patches.shape
    chosen = np.sort(rng.permutation(count * positions)[:MAX_CANDIDATES])
    image, position = np.divmod(chosen, positions)
    components = patches[image, position] @ scorer.projection - scorer.mean[position]
    candidates = np.empty_like(components)
    for place in range(positions):
        rows = position == place
        candidates[rows] = components[rows] @ scorer.whitening[place]
    size = min(BANK_SIZE, len(candidates))
    projected = candidates @ rng.normal(size=(candidates.shape[1], PROJECTED)).astype(np.float32)
    rows_kept = k_center(projected, size, int(rng.integers(len(candidates))), progress=progress)
    # k-center prefers rare patches; the mean of each position, 0 when whitened, stands for all others.
    bank = np.concatenate([np.zeros((1, candidates.shape[1]), np.float32), _rounded(candidates[rows_kept])])
    return PatchScorer(scorer.projection, scorer.mean, scorer.whitening, bank)


def k_center(
    points: NDArray[np.float32],
    count: int,
    first: int = 0,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> NDArray[np.int64]:
    """Return rows of `points`, each the farthest from those before it.

    Args:
        points: (n, d) float32.
        count: number of rows, at most n.
        first: the first row.
        progress: called with "choosing patches" and the number of chosen rows and of all.

    Source:
        Gonzalez, Clustering to minimize the maximum intercluster distance (1985).

    Example:
        >>> k_center(np.array([[0.0], [1.0], [5.0], [9.0]], np.float32), 3).tolist()
        [0, 3, 2]
    """
    lengths = (points**2).sum(1)
    rows = np.empty(count, np.int64)
    nearest = np.full(len(points), np.inf, np.float32)
    row = first
    for i in range(count):
        rows[i] = row
        np.minimum(nearest, lengths + lengths[row] - 2 * (points @ points[row]), out=nearest)
        nearest[row] = -1  # rounding must not choose a row twice
        row = int(nearest.argmax())
        if progress is not None and (i + 1) % 500 == 0:
            progress("choosing patches", i + 1, count)
    return rows


def add_scorer(
    parts: GraphParts,
    patches: str,
    scorer: PatchScorer,
    center: float,
    width: float,
    upsampling: NDArray[np.float32],
) -> None:
    """Append the outputs `scores` (b, 1) and `heatmap` (b, h, h), both in [0, 1].

    Args:
        parts: the graph.
        patches: name of (b, c, g, g) features.
        scorer: fitted on good images.
        center: the distance whose score is .5.
        width: see `to_scores`.
        upsampling: (h, g) weights from patches to cells of the heatmap.
    """
    size = len(scorer.mean)
    grid = upsampling.shape[1]
    kernel = np.ascontiguousarray(scorer.projection.T)[:, :, None, None]
    components = parts.add("Conv", [patches, parts.constant("projection", kernel)], "components")
    flat = parts.constant("flat", np.array([0, scorer.mean.shape[1], size], np.int64))
    rows = parts.add("Reshape", [components, flat], "components.flat")
    rows = parts.add("Transpose", [rows], "components.rows", perm=[2, 0, 1])  # (P, b, d)
    centered = parts.add("Sub", [rows, parts.constant("mean", scorer.mean[:, None])], "centered")
    whitened = parts.add("MatMul", [centered, _add_whitening(parts, scorer.whitening)], "whitened")
    axis = parts.constant("axis", np.array([-1], np.int64))
    square = parts.add("Mul", [whitened, whitened], "square")
    squared = parts.add("ReduceSum", [square, axis], "squared", keepdims=0)  # (P, b)
    if scorer.bank is not None:
        half = parts.constant("bank.half", np.ascontiguousarray(-2 * scorer.bank.T).astype(np.float16))
        bank = parts.add("Cast", [half], "bank", to=TensorProto.FLOAT)
        lengths = parts.constant("bank.lengths", (scorer.bank**2).sum(1))
        cross = parts.add("MatMul", [whitened, bank], "cross")  # (P, b, m)
        nearest = parts.add("Add", [cross, lengths], "nearest")
        nearest = parts.add("ReduceMin", [nearest], "nearest.min", axes=[-1], keepdims=0)
        squared = parts.add("Add", [squared, nearest], "squared.nearest")
    distances = parts.add("Sqrt", [parts.add("Relu", [squared], "squared.safe")], "distances")
    of_image = parts.add("Transpose", [distances], "distances.image", perm=[1, 0])  # (b, P)
    of_image = _add_excess(parts, of_image, size, scorer.common)
    worst = parts.constant("worst", np.array([_worst_patches(size)], np.int64))
    parts.add_many("TopK", [of_image, worst], ["worst.values", "worst.rows"], axis=-1)
    mean = parts.add("ReduceMean", ["worst.values"], "worst.mean", axes=[-1], keepdims=1)
    _add_scores(parts, mean, "scores", center, width)
    cells = parts.constant("cells", np.array([-1, grid, grid], np.int64))
    square_map = parts.add("Reshape", [of_image, cells], "distances.map")
    down = parts.add("MatMul", [parts.constant("down", upsampling), square_map], "map.rows")
    across = parts.constant("across", np.ascontiguousarray(upsampling.T))
    _add_scores(parts, parts.add("MatMul", [down, across], "map"), "heatmap", center, width)


def _add_whitening(parts: GraphParts, whitening: NDArray[np.float32]) -> str:
    """Append (P, d, d) matrices that the file stores as upper triangles of float16, a quarter of their size.

    Runtimes unpack them once, when the file is opened: they depend on constants alone.
    """
    width = whitening.shape[1]
    rows, columns = np.triu_indices(width)
    places = np.empty((width, width), np.int64)
    places[rows, columns] = places[columns, rows] = np.arange(len(rows))
    packed = parts.constant("whitening.packed", whitening[:, rows, columns].astype(np.float16))
    single = parts.add("Cast", [packed], "whitening.single", to=TensorProto.FLOAT)
    return parts.add("Gather", [single, parts.constant("whitening.places", places)], "whitening", axis=1)


def _add_excess(parts: GraphParts, distances: str, positions: int, common: float) -> str:
    """Append `PatchScorer.excess` for distances (b, P)."""
    calm = parts.constant("calm", np.array([_calm_patches(positions)], np.int64))
    parts.add_many("TopK", [distances, calm], ["calm.values", "calm.rows"], axis=-1, largest=0)
    highest = parts.add("ReduceMax", ["calm.values"], "background.own", axes=[-1], keepdims=1)
    limit = parts.constant("background.common", np.float32(common))
    return parts.add("Sub", [distances, parts.add("Min", [highest, limit], "background")], "excess")


def _add_scores(parts: GraphParts, distances: str, output: str, center: float, width: float) -> None:
    """Append `to_scores`."""
    shifted = parts.add("Sub", [distances, parts.constant("center", np.float32(center))], f"{output}.shifted")
    unit = parts.add("Div", [shifted, parts.constant("width", np.float32(width))], f"{output}.unit")
    signed = parts.add("Softsign", [unit], f"{output}.signed")
    half = parts.constant("half", np.float32(0.5))
    parts.add("Add", [parts.add("Mul", [signed, half], f"{output}.half"), half], output)
