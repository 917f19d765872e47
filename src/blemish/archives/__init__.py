"""Predictions of archives larger than one machine's memory: shards, a manifest, and runs that resume.

The sources are listed once, in order, into a file; each shard is a range of that list. A shard is written
completely or not at all, so that a run that was killed continues with the shards that are missing. See
`docs/archives.md`.
"""

from blemish.archives.manifest import MANIFEST_NAME, Manifest, ShardRecord
from blemish.archives.run import ArchiveProgress, ArchiveSummary, Engine, LocalEngine, predict_archive
from blemish.archives.shard_files import ShardFormat
from blemish.archives.source_list import Unit, UnitKind
from blemish.archives.worker import Job, Row, Worker

__all__ = [
    "MANIFEST_NAME",
    "ArchiveProgress",
    "ArchiveSummary",
    "Engine",
    "Job",
    "LocalEngine",
    "Manifest",
    "Row",
    "ShardFormat",
    "ShardRecord",
    "Unit",
    "UnitKind",
    "Worker",
    "predict_archive",
]
