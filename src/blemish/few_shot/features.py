"""Pooled features of images from a frozen trunk, computed by ONNX Runtime and kept by image and graph."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemish.data.image_hashes import map_in_parallel
from blemish.data.user_cache import cache_folder
from blemish.familiarity.projection import OUTPUT, Projection
from blemish.few_shot.trunk_graph import FEATURE_LAYERS, GraphParts, add_trunk
from blemish.imaging import open_image
from blemish.inference.backend import available_cores
from blemish.model_file import InputSpec, write_atomically
from blemish.preprocessing import prepare, reduction_for
from blemish.pretrained import MEAN, STD
from blemish.structures import Sample

BATCH = 16
POOLS = ("mean", "max", "std")
MIN_VARIANCE = 1e-10  # added, so that the standard deviation of a constant map has a gradient
MAX_CACHE_BYTES = 512 * 2**20
Features = NDArray[np.float32]
Progress = Callable[[str, int, int], None]  # what is done, the number of finished images, and of all


def input_spec(
    input_size: int, *, white_level: int = 65535, decode: Literal["full", "scaled"] = "full"
) -> InputSpec:
    """Return the input of the trunk: an image stretched to a square, normalized with mean and std of .5."""
    return InputSpec(
        name="image",
        size_hw=(input_size, input_size),
        decode=decode,
        mean=MEAN,
        std=STD,
        white_level=white_level,
    )


def add_pooling(parts: GraphParts, maps: Sequence[str]) -> str:
    """Append the mean, the maximum and the standard deviation over each feature map, concatenated to (b, d).

    Args:
        parts: the graph.
        maps: names of the maps, each (b, c, h, w).

    Returns:
        The name of the features: for each map `POOLS`, each (b, c).
    """
    pools = [value for name in maps for value in add_pools(parts, name)]
    pooled = [parts.add("Flatten", [value], f"{value}.flat", axis=1) for value in pools]
    return parts.add("Concat", pooled, "features", axis=1)


def add_pools(parts: GraphParts, name: str) -> tuple[str, ...]:
    """Append the pools of one map and return their names in the order of `POOLS`, each (b, c, 1, 1)."""
    mean = parts.add("GlobalAveragePool", [name], f"{name}.mean")
    peak = parts.add("GlobalMaxPool", [name], f"{name}.max")
    centered = parts.add("Sub", [name, mean], f"{name}.centered")
    squared = parts.add("Mul", [centered, centered], f"{name}.squared")
    variance = parts.add("GlobalAveragePool", [squared], f"{name}.variance")
    floor = parts.constant("variance.floor", np.float32(MIN_VARIANCE))
    safe = parts.add("Add", [variance, floor], f"{name}.variance.safe")
    return mean, peak, parts.add("Sqrt", [safe], f"{name}.std")


def add_projection(parts: GraphParts, features: str, projection: Projection) -> str:
    """Append the projection of features (b, d) to their place among the training images (b, k + 1).

    Returns:
        The name of the output; it equals `Projection.project`.
    """
    single = np.float32
    mean = parts.constant("familiarity.mean", projection.mean.astype(single))
    scale = parts.constant("familiarity.scale", projection.scale.astype(single))
    basis = parts.constant("familiarity.basis", projection.basis.astype(single))
    centered = parts.add("Sub", [features, mean], "familiarity.centered")
    scaled = parts.add("Mul", [centered, scale], "familiarity.scaled")
    along = parts.add("MatMul", [scaled, basis], "familiarity.along")
    lengths = []
    for name, value in (("all", scaled), ("along", along)):
        squared = parts.add("Mul", [value, value], f"familiarity.{name}.squared")
        axis = parts.constant("familiarity.axis", np.array([1], np.int64))
        lengths.append(parts.add("ReduceSum", [squared, axis], f"familiarity.{name}.length", keepdims=1))
    rest = parts.add("Sub", lengths, "familiarity.rest.raw")
    zero = parts.constant("familiarity.zero", single(0))
    positive = parts.add("Max", [rest, zero], "familiarity.rest")
    per_rest = parts.constant("familiarity.per_rest", single(projection.rest))
    root = parts.add(
        "Sqrt", [parts.add("Mul", [positive, per_rest], "familiarity.rest.scaled")], "familiarity.out"
    )
    directions = parts.constant("familiarity.directions", projection.directions.astype(single))
    inside = parts.add("Mul", [along, directions], "familiarity.in")
    return parts.add("Concat", [inside, root], OUTPUT, axis=1)


def feature_graph(trunk: str, state: dict[str, NDArray[Any]], input_size: int) -> bytes:
    """Return the graph from images (b, 3, s, s) to features (b, d)."""
    parts = GraphParts()
    maps = add_trunk(parts, trunk, state, "image", input_size)
    features = add_pooling(parts, maps)
    return parts.to_bytes({"image": ("batch", 3, input_size, input_size)}, {features: ("batch", "width")})


class FeatureExtractor:
    """Computes features, and reads those of images it has seen before from the user's cache folder.

    Args:
        trunk: "efficientnet-lite0", "efficientnet-lite1" or "efficientnet-lite2".
        state: the published tensors by name.
        spec: how an image becomes the input.
        threads: of ONNX Runtime; default: every available core.
        graph: from inputs (b, 3, s, s) to features (b, ...); default: `feature_graph`.
    """

    def __init__(
        self,
        trunk: str,
        state: dict[str, NDArray[Any]],
        spec: InputSpec,
        *,
        threads: int | None = None,
        graph: bytes | None = None,
    ) -> None:
        import onnxruntime

        self.spec = spec
        graph = graph or feature_graph(trunk, state, spec.size_hw[0])
        self.digest = hashlib.sha256(graph + spec.model_dump_json().encode()).hexdigest()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or available_cores()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def of_samples(
        self,
        samples: Sequence[Sample],
        pixel_hashes: NDArray[np.uint64],
        *,
        mirrored: bool = False,
        progress: Progress | None = None,
    ) -> Features:
        """Return the features of images, in order.

        Args:
            samples: the images.
            pixel_hashes: (n,) uint64 fingerprints of their pixels.
            mirrored: whether to mirror each image from left to right.
            progress: called with "computing features" and the number of finished images and of all.

        Returns:
            (n, d) float32.
        """
        kept = _FeatureCache(self.digest, mirrored=mirrored)
        rows: list[Features | None] = [kept.get(int(h)) for h in pixel_hashes]
        missing = [i for i, row in enumerate(rows) if row is None]
        for start in range(0, len(missing), BATCH):
            chosen = missing[start : start + BATCH]
            batch = np.stack(self.inputs([samples[i] for i in chosen]))
            made = self.of_batch(batch[..., ::-1] if mirrored else batch)
            for i, row in zip(chosen, made, strict=True):
                rows[i] = row
                kept.put(int(pixel_hashes[i]), row)
            if progress is not None:
                progress("computing features", min(start + BATCH, len(missing)), len(missing))
        kept.save()
        return np.stack([row for row in rows if row is not None])

    def inputs(self, samples: Sequence[Sample]) -> list[NDArray[np.float32]]:
        """Return the input of the trunk for each image, (3, s, s) float32."""
        return map_in_parallel(self._input, [sample.path for sample in samples])

    def of_batch(self, batch: NDArray[np.float32]) -> Features:
        """Return (b, d) float32 features of inputs (b, 3, s, s)."""
        features: Features = self._session.run(None, {"image": np.ascontiguousarray(batch)})[0]
        return features

    def _input(self, path: Path) -> NDArray[np.float32]:
        image = open_image(path, reduction=reduction_for((self.spec,)))
        array: NDArray[np.float32] = prepare(image, self.spec)[0]
        return array


class _FeatureCache:
    """Features of one graph in one file of the user's cache folder: hashes, and the rows in their order."""

    def __init__(self, digest: str, *, mirrored: bool) -> None:
        folder = cache_folder()
        name = f"features-{digest[:24]}{'-mirrored' if mirrored else ''}.npz"
        self._path = None if folder is None else folder / name
        self._rows: dict[int, Features] = {}
        self._changed = False
        if self._path is not None and self._path.is_file():
            try:
                with np.load(self._path, allow_pickle=False) as stored:
                    self._rows = dict(zip(map(int, stored["hashes"]), stored["features"], strict=True))
            except (OSError, ValueError, KeyError, EOFError):
                self._rows = {}  # damaged: computed again

    def get(self, pixel_hash: int) -> Features | None:
        """Return the features of an image, or None."""
        return self._rows.get(pixel_hash)

    def put(self, pixel_hash: int, row: Features) -> None:
        """Remember the features of an image."""
        self._rows[pixel_hash] = row
        self._changed = True

    def save(self) -> None:
        """Write the file; the oldest rows go first when it would exceed `MAX_CACHE_BYTES`."""
        if self._path is None or not self._changed or not self._rows:
            return
        import io

        width = next(iter(self._rows.values())).size
        items = list(self._rows.items())[-max(MAX_CACHE_BYTES // (4 * width + 8), 1) :]
        content = io.BytesIO()
        np.savez(
            content,
            hashes=np.array([h for h, _ in items], np.uint64),
            features=np.stack([row for _, row in items]).astype(np.float32),
        )
        try:
            write_atomically(self._path, content.getvalue())
        except OSError:
            return  # a cache that cannot be written only costs time


__all__ = [
    "FEATURE_LAYERS",
    "POOLS",
    "FeatureExtractor",
    "add_pooling",
    "add_pools",
    "add_projection",
    "feature_graph",
    "input_spec",
]
