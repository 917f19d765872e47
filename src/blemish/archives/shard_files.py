"""Files of shards: rows as JSON Lines or Parquet, written beside their place, synced and renamed."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from blemish.archives.worker import Row
from blemish.errors import MissingExtra
from blemish.model_file import write_parts_atomically

ROWS_PER_GROUP = 1_000  # of a Parquet file; they are in memory until the group is complete


class ShardFormat(StrEnum):
    """The format of shards."""

    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass
class ShardContent:
    """What a shard file contains.

    Attributes:
        rows: number of rows.
        errors: number of rows with each error code.
        warnings: number of rows with a warning, and `first_warning`.
        first_warning: the first of them, or "".
        bytes: size of the file.
        sha256: digest of the file.
    """

    rows: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    warnings: int = 0
    first_warning: str = ""
    bytes: int = 0
    sha256: str = ""

    def count(self, row: Row) -> None:
        """Count one row."""
        self.rows += 1
        if row.error_code:
            self.errors[row.error_code] += 1
        if row.warning:
            self.warnings += 1
            self.first_warning = self.first_warning or row.warning


def write_shard(path: Path, rows: Iterable[Row], shard_format: ShardFormat) -> ShardContent:
    """Write the rows of a shard, completely or not at all; rows are consumed as they are written.

    Args:
        path: the file.
        rows: in order.
        shard_format: of the file.

    Raises:
        MissingExtra: Parquet, and pyarrow is not installed.
        StorageFull: the file cannot be written.
    """
    content, digest = ShardContent(), hashlib.sha256()

    def counted() -> Iterator[Row]:
        for row in rows:
            content.count(row)
            yield row

    def parts() -> Iterator[bytes]:
        encode = _parquet_parts if shard_format is ShardFormat.PARQUET else _jsonl_parts
        for part in encode(counted()):
            digest.update(part)
            content.bytes += len(part)
            yield part

    write_parts_atomically(path, parts())
    content.sha256 = digest.hexdigest()
    return content


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _jsonl_parts(rows: Iterable[Row]) -> Iterator[bytes]:
    for row in rows:
        yield row.document.encode("ascii") + b"\n"


def _parquet_parts(rows: Iterable[Row]) -> Iterator[bytes]:
    require_parquet()
    from pyarrow import parquet

    sink = _Sink()
    remaining = iter(rows)
    with parquet.ParquetWriter(sink, arrow_schema(), compression="zstd") as writer:
        while group := [row.document for row in itertools.islice(remaining, ROWS_PER_GROUP)]:
            writer.write_table(arrow_table(group))
            yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file for pyarrow that hands over what was written."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = 0

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = 0) -> int:
        if (offset, whence) != (0, 1):
            raise io.UnsupportedOperation("seek")
        return self._position

    def writable(self) -> bool:
        return True

    def take(self) -> bytes:
        """Return what was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def require_parquet() -> None:
    """Raise `MissingExtra` unless pyarrow is installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingExtra("parquet", "writing Parquet") from error


def arrow_schema() -> Any:
    """Return the columns of Parquet shards, a `pyarrow.Schema`; `docs/archives.md` describes them."""
    import pyarrow as pa

    label = pa.struct(
        [
            ("label", pa.string()),
            ("score", pa.float64()),
            ("threshold", pa.float64()),
            ("positive", pa.bool_()),
            ("reliable", pa.bool_()),
        ]
    )
    detection = pa.struct(
        [
            ("label", pa.string()),
            ("score", pa.float64()),
            ("positive", pa.bool_()),
            ("reliable", pa.bool_()),
            ("box_xyxy", pa.list_(pa.float64())),
            ("area", pa.int64()),
        ]
    )
    return pa.schema(
        [
            ("path", pa.string()),
            ("error_code", pa.string()),
            ("error_message", pa.string()),
            ("task", pa.string()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("positive_labels", pa.list_(pa.string())),
            ("labels", pa.list_(label)),
            ("detections", pa.list_(detection)),
            ("warning", pa.string()),
            ("model_digest", pa.string()),
            ("document", pa.string()),
        ]
    )


def arrow_table(documents: Iterable[str]) -> Any:
    """Return rows as a `pyarrow.Table` of `arrow_schema`.

    Args:
        documents: one line of JSON per row; the column `document` contains it whole.
    """
    import pyarrow as pa

    return pa.Table.from_pylist([_columns(document) for document in documents], schema=arrow_schema())


def _columns(document: str) -> dict[str, Any]:
    fields = json.loads(document)
    error = fields.get("error") or {}
    size_hw = fields.get("size_hw") or (None, None)
    labels = fields.get("labels")
    return {
        "path": _unicode(fields["path"]),
        "error_code": error.get("code"),
        "error_message": _unicode(error.get("message")),
        "task": fields.get("task"),
        "height": size_hw[0],
        "width": size_hw[1],
        "positive_labels": None if labels is None else [row["label"] for row in labels if row["positive"]],
        "labels": labels,
        "detections": fields.get("detections"),
        "warning": _unicode(fields.get("warning")),
        "model_digest": fields.get("model_digest"),
        "document": document,
    }


def _unicode(text: str | None) -> str | None:
    r"""Return text that Parquet can hold: bytes of a path that are not UTF-8 become `\udc..`."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()
