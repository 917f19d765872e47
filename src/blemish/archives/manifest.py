"""`Manifest`: what a run of shards is and which of them are complete, in `manifest.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from blemish.archives.shard_files import ShardContent, ShardFormat, digest_of
from blemish.archives.source_list import Listing
from blemish.errors import BadInput
from blemish.model_file import write_atomically

MANIFEST_NAME = "manifest.json"
FORMAT = 1
MAX_SHARDS = 10_000
UNITS_PER_SHARD = 1_000
MAX_DEFAULT_SHARDS = 1_000


@dataclass(frozen=True)
class ShardRecord:
    """One shard of a run.

    Attributes:
        file: its name in the folder.
        first: number of its first unit in the list of sources, from 0.
        units: number of its units.
        state: `pending` or `complete`.
        rows: of a complete shard.
        errors: number of rows with each error code, of a complete shard.
        bytes: size of the file, of a complete shard.
        sha256: digest of the file, of a complete shard.
    """

    file: str
    first: int
    units: int
    state: str = "pending"
    rows: int | None = None
    errors: dict[str, int] = field(default_factory=dict)
    bytes: int | None = None
    sha256: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the file was written."""
        return self.state == "complete"


@dataclass
class Manifest:
    """A run of shards.

    Attributes:
        options: the model and everything else that the rows depend on.
        sources: the digest and the number of units of the list of sources.
        shard_format: of the shards.
        shards: in the order of the sources.
    """

    options: dict[str, Any]
    sources: dict[str, Any]
    shard_format: ShardFormat
    shards: list[ShardRecord]

    @classmethod
    def plan(
        cls, options: Mapping[str, Any], listing: Listing, shards: int | None, shard_format: ShardFormat
    ) -> Manifest:
        """Return the manifest of a new run: contiguous ranges of units, equal in number but for one.

        Args:
            options: the model and everything else that the rows depend on.
            listing: the sources.
            shards: number of shards. Default: one per 1,000 images or one per tar file, whichever is more,
                at most 1,000.
            shard_format: of the shards.

        Raises:
            BadInput: more shards than units, or more than 10,000.
        """
        count = listing.count
        wanted = shards
        if wanted is None:
            wanted = min(max(-(-count // UNITS_PER_SHARD), listing.tars), MAX_DEFAULT_SHARDS)
        if not 1 <= wanted <= min(count, MAX_SHARDS):
            kinds = f"{count - listing.tars:,} images and {listing.tars:,} tar files"
            raise BadInput(
                f"shards: expected 1 to {min(count, MAX_SHARDS):,} for {kinds} (a tar file is never "
                f"divided), got {wanted:,}",
                reason="shards",
            )
        ends = [count * number // wanted for number in range(wanted + 1)]
        records = [
            ShardRecord(f"shard-{i:05d}-of-{wanted:05d}.{shard_format}", ends[i], ends[i + 1] - ends[i])
            for i in range(wanted)
        ]
        sources = {"units": count, "tars": listing.tars, "sha256": listing.digest, "file": listing.path.name}
        return cls(dict(options), sources, shard_format, records)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Return the manifest in a file.

        Raises:
            BadInput: it is no manifest of this version.
        """
        try:
            fields = json.loads(path.read_bytes())
            if fields["blemish_shards"] != FORMAT:
                raise ValueError(f"format {fields['blemish_shards']}")
            return cls(
                fields["options"],
                fields["sources"],
                ShardFormat(fields["format"]),
                [ShardRecord(**record) for record in fields["shards"]],
            )
        except (ValueError, LookupError, TypeError) as error:
            raise BadInput(
                f"{path}: expected the manifest of a run of shards in format {FORMAT}, got another file "
                f"({error}). Choose another folder.",
                reason="manifest",
            ) from None

    def write(self, path: Path) -> None:
        """Write the manifest atomically.

        Raises:
            StorageFull: it cannot be written.
        """
        fields = {
            "blemish_shards": FORMAT,
            "options": self.options,
            "sources": self.sources,
            "format": str(self.shard_format),
            "shards": [asdict(record) for record in self.shards],
        }
        write_atomically(path, json.dumps(fields, indent=1, allow_nan=False).encode() + b"\n")

    def pending(self) -> Iterator[tuple[int, ShardRecord]]:
        """Yield the shards that are missing, with their numbers."""
        return ((i, record) for i, record in enumerate(list(self.shards)) if not record.is_complete)

    def complete(self, index: int, content: ShardContent) -> None:
        """Record that the file of a shard was written."""
        self.shards[index] = replace(
            self.shards[index],
            state="complete",
            rows=content.rows,
            errors=dict(sorted(content.errors.items())),
            bytes=content.bytes,
            sha256=content.sha256,
        )

    def verify(self, folder: Path) -> list[str]:
        """Mark as pending the complete shards whose files are gone or have changed; return their names."""
        damaged = []
        for index, record in enumerate(self.shards):
            if not record.is_complete:
                continue
            path = folder / record.file
            if not path.is_file() or path.stat().st_size != record.bytes or digest_of(path) != record.sha256:
                damaged.append(record.file)
                self.shards[index] = ShardRecord(record.file, record.first, record.units)
        return damaged

    def differences(self, other: Manifest) -> list[str]:
        """Return what differs between two runs, by name, as text; empty if one can continue the other."""
        before = {**self.options, "format": str(self.shard_format), "shards": len(self.shards)}
        now = {**other.options, "format": str(other.shard_format), "shards": len(other.shards)}
        now = json.loads(json.dumps(now))
        return [
            f"{key.replace('_', ' ')}: {_shown(before.get(key))} before, {_shown(now.get(key))} now"
            for key in {**before, **now}
            if before.get(key) != now.get(key)
        ]


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)[:60]
