"""`predict`: predictions of the images in a dataset of Ray Data."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from blemish.archives import Job
from blemish.archives.shard_files import arrow_table, require_parquet
from blemish.archives.worker import image_input
from blemish.errors import BadInput, UnknownName
from blemish.inference import ImageInput
from blemish.ray.connection import import_ray, worker_count, worker_job

PIXEL_COLUMNS = ("bytes", "image")


def predict(
    dataset: Any,
    model: Path | str,
    *,
    workers: int | tuple[int, int] | None = None,
    rows_per_batch: int = 64,
    **options: Any,
) -> Any:
    """Return a dataset with the predictions of the images in a dataset, computed when it is consumed.

    Args:
        dataset: a `ray.data.Dataset` with a column `path` of paths and URLs, and optionally a column `bytes`
            with the files (`ray.data.read_binary_files(..., include_paths=True)`) or `image` with the pixels,
            (h, w, 3) uint8 in RGB (`ray.data.read_images(..., include_paths=True, mode="RGB")`).
        model: the model file, under the same path on every machine, or its address on a hub.
        workers: number of workers, or the smallest and the largest number. Default: 1 to as many as the
            cluster has processors for.
        rows_per_batch: rows that a worker gets at once.
        options: fields of `blemish.archives.Job`, such as `min_score=0.3`, `threads=4` or `tiling`.

    Returns:
        A `ray.data.Dataset` with the columns of Parquet shards (`path`, `error_code`, `labels`,
        `detections`, `document` and others; see `docs/archives.md`), and the other columns of the dataset.
        An image that cannot be used has a row with its error.

    Raises:
        BadInput: the dataset has no column `path`.
        BadModelFile: see `blemish.load`.
        MissingExtra: Ray is not installed.
        UnknownName: there is no such option.
    """
    ray = import_ray()
    require_parquet()
    known = [field.name for field in fields(Job) if field.name not in ("model", "digest")]
    for name in options:
        if name not in known:
            raise UnknownName("option", name, known, where="blemish.ray.predict")
    job = worker_job(Job(model=str(model), **options).load().job_with_digest())
    schema = dataset.schema()
    columns = [] if schema is None else list(schema.names)
    if "path" not in columns:
        raise BadInput(
            f"dataset: expected a column 'path', got {', '.join(columns) or 'no columns'}. Read it with "
            "include_paths=True.",
            reason="columns",
        )
    least, most = workers if isinstance(workers, tuple) else (workers or 1, worker_count(ray, job, workers))
    return dataset.map_batches(
        DatasetActor,
        fn_constructor_args=(job,),
        batch_size=rows_per_batch,
        batch_format="pyarrow",
        num_cpus=job.threads,
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
    )


class DatasetActor:
    """Predicts the images of tables, in a process of the cluster."""

    def __init__(self, job: Job) -> None:
        self._worker = job.load()

    def __call__(self, table: Any) -> Any:
        """Return the predictions of a table."""
        inputs = (_input(row) for row in _rows(table))
        result = arrow_table(row.document for row in self._worker.predict_inputs(inputs))
        for name in table.column_names:
            if name not in result.column_names and name not in PIXEL_COLUMNS:
                result = result.append_column(name, table[name])
        return result


def _rows(table: Any) -> Any:
    pixels = next((name for name in PIXEL_COLUMNS if name in table.column_names), None)
    paths = table["path"].to_pylist()
    if pixels is None:
        return ((path, None) for path in paths)
    column = table[pixels].combine_chunks()
    if pixels == "image" and hasattr(column, "to_numpy_ndarray"):  # images of one size
        return zip(paths, column.to_numpy_ndarray(), strict=True)
    return zip(paths, (value.as_py() for value in column), strict=True)


def _input(row: tuple[str, Any]) -> ImageInput:
    path, content = row
    return image_input(path) if content is None else ImageInput.from_address(path, content)
