"""`RayEngine`: the shards of an archive on the workers of a Ray cluster."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Generator, Iterator
from typing import Any

from blemish.archives import Job, Row, Unit, Worker
from blemish.archives.shard_files import require_parquet
from blemish.ray.connection import cluster_errors, connect, ordered, worker_count, worker_job

ROWS_PER_BLOCK = 100  # that a worker returns at once


class RayEngine:
    """Predicts shards on a Ray cluster; each worker predicts whole shards.

    Attributes:
        job: the model and the options.
        workers: number of workers.
    """

    def __init__(self, worker: Worker, *, workers: int | None = None) -> None:
        """Connect to the cluster; see `connection.connect`.

        Args:
            worker: of this process; the workers of the cluster load the same model file.
            workers: number of workers. Default: as many as the cluster has processors for.

        Raises:
            EngineFailed: the cluster cannot be reached.
            MissingExtra: Ray is not installed.
        """
        require_parquet()
        self._ray = connect()
        self.job = worker_job(worker.job_with_digest())
        self.workers = worker_count(self._ray, worker.job, workers)

    def run(self, shards: Iterator[tuple[int, Iterator[Unit]]]) -> Generator[tuple[int, Iterator[Row]]]:
        """See `blemish.archives.Engine.run`.

        The list of sources goes to Ray's object store, one block per shard.

        Raises:
            EngineFailed: the cluster failed.
            NoNetwork: a store cannot be reached.
        """
        import pyarrow as pa

        ray = self._ray
        blocks = []
        for index, units in shards:
            lines = [unit.to_line() for unit in units]
            blocks.append(ray.put(pa.table({"shard": [index] * len(lines), "unit": lines})))
        if not blocks:
            return
        with cluster_errors(ray), ordered(ray):
            dataset = ray.data.from_arrow_refs(blocks).map_batches(
                ShardActor,
                fn_constructor_args=(self.job,),
                batch_size=None,  # one shard
                batch_format="pyarrow",
                num_cpus=self.job.threads,
                compute=ray.data.ActorPoolStrategy(size=min(self.workers, len(blocks))),
            )
            rows = self._rows(dataset)
            for index, group in itertools.groupby(rows, operator.itemgetter(0)):
                yield index, (row for _, row in group)

    def _rows(self, dataset: Any) -> Iterator[tuple[int, Row]]:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            columns = (table[name].to_pylist() for name in ("shard", *Row._fields))
            for index, *row in zip(*columns, strict=True):
                yield index, Row(*row)


class ShardActor:
    """Predicts the units of shards, in a process of the cluster."""

    def __init__(self, job: Job) -> None:
        self._worker = job.load()

    def __call__(self, table: Any) -> Iterator[Any]:
        """Yield the rows of a table with the columns `shard` and `unit`."""
        import pyarrow as pa

        if not len(table):
            return
        shard = table["shard"][0].as_py()
        rows = self._worker.predict(Unit.from_line(line) for line in table["unit"].to_pylist())
        while group := list(itertools.islice(rows, ROWS_PER_BLOCK)):
            columns = dict(zip(Row._fields, map(list, zip(*group, strict=True)), strict=True))
            yield pa.table({"shard": [shard] * len(group), **columns})
