"""`blemish predict --output-shards`: predictions of an archive in shards."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import closing

import typer

from blemish.archives import ArchiveProgress, ArchiveSummary, Engine, Job, ShardFormat, predict_archive
from blemish.commands.json_output import print_json
from blemish.commands.shard_options import EngineName, ShardFileFormat
from blemish.errors import BadInput

PARTLY_FAILED = 1
ALL_FAILED = 2
SECONDS_BETWEEN_LINES = 10.0  # of a log file; a terminal gets them more often
SECONDS_BETWEEN_UPDATES = 0.2


def predict_shards(
    job: Job,
    sources: Sequence[str],
    folder: str,
    *,
    shards: int | None,
    shard_format: ShardFileFormat,
    engine: EngineName,
    workers: int | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Predict an archive, show the progress, and print what is in the folder at the end.

    Exit code 0: all images succeeded; 1: some failed; 2: all failed.

    Args:
        job: the model and the options.
        sources: what the user named.
        folder: of the shards.
        shards: number of shards.
        shard_format: of the shards.
        engine: what predicts.
        workers: number of workers of a Ray cluster.
        resume: whether to continue the run in the folder.
        as_json: whether the summary is JSON.
    """
    if workers is not None and engine is not EngineName.RAY:
        raise BadInput("--workers: expected --engine ray", reason="workers")
    worker = job.load()
    for warning in worker.predictor.warnings:
        typer.echo(f"blemish: {warning}", err=True)
    chosen: Engine | None = None
    if engine is EngineName.RAY:
        from blemish.ray import RayEngine

        chosen = RayEngine(worker, workers=workers)
    with closing(_ProgressLine()) as progress:
        try:
            summary = predict_archive(
                worker,
                sources,
                folder,
                shards=shards,
                shard_format=ShardFormat(shard_format),
                resume=resume,
                engine=chosen,
                stdin=sys.stdin,
                on_progress=progress,
            )
        except KeyboardInterrupt:
            progress.close()
            typer.echo("blemish: continue this run with --resume", err=True)
            raise
    _report(summary, as_json=as_json)
    if summary.failed:
        raise typer.Exit(PARTLY_FAILED if summary.failed < summary.rows else ALL_FAILED)


def _report(summary: ArchiveSummary, *, as_json: bool) -> None:
    for name in summary.damaged_shards:
        typer.echo(f"blemish: warning: {name} was gone or had changed, and was written again", err=True)
    if summary.warnings:
        count = "1 image" if summary.warnings == 1 else f"{summary.warnings:,} images"
        typer.echo(
            f"blemish: warning: {count} may look nearly black to the model. {summary.first_warning}. Name "
            "the value of white with --white-level.",
            err=True,
        )
    if as_json:
        print_json(summary.to_dict())
        return
    images = "1 image" if summary.rows == 1 else f"{summary.rows:,} images"
    shards = "1 shard" if summary.shards == 1 else f"{summary.shards:,} shards"
    reused = f", {summary.reused_shards:,} of them from an earlier run" if summary.reused_shards else ""
    failed = "none failed"
    if summary.failed:
        codes = ", ".join(f"{count:,} {code}" for code, count in summary.errors.items())
        failed = f"{summary.failed:,} failed ({codes})"
    sys.stdout.write(f"{images} in {shards}{reused}; {failed}: {summary.folder}\n")


class _ProgressLine:
    """Shows the progress on standard error: one line that is rewritten on a terminal, else some lines."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._shown_at = time.monotonic()
        self._is_open = False

    def __call__(self, progress: ArchiveProgress) -> None:
        """Show the progress, unless that was done a moment ago."""
        now = time.monotonic()
        pause = SECONDS_BETWEEN_UPDATES if self._is_terminal else SECONDS_BETWEEN_LINES
        if now - self._shown_at < pause:
            return
        self._shown_at = now
        text = progress_text(progress)
        if self._is_terminal:
            typer.echo(f"\r{text:<100}", err=True, nl=False)
            self._is_open = True
        else:
            typer.echo(text, err=True)

    def close(self) -> None:
        """End the line."""
        if self._is_open:
            typer.echo("", err=True)
            self._is_open = False


def progress_text(progress: ArchiveProgress) -> str:
    """Return the progress as one line.

    Example:
        >>> progress_text(ArchiveProgress(2, 16, 250, 2000, 250, 1, 95.0))
        'images 250, 1 failed; files 250 of 2,000; shards 2 of 16; about 2 min left'
    """
    failed = f", {progress.failed:,} failed" if progress.failed else ""
    left = "" if progress.seconds_left is None else f"; about {_duration(progress.seconds_left)} left"
    return (
        f"images {progress.rows:,}{failed}; files {progress.units:,} of {progress.total_units:,}; "
        f"shards {progress.shards:,} of {progress.total_shards:,}{left}"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
