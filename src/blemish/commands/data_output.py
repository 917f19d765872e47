"""Print the results of `blemish data`: findings, statistics and written data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import typer

from blemish.commands.json_output import print_json

if TYPE_CHECKING:
    from blemish.data.findings import Finding, Findings
    from blemish.data.statistics import Statistics
    from blemish.data.write_dataset import WrittenDataset

MAX_SHOWN_PER_CODE = 5
MAX_LABELS_IN_CO_OCCURRENCE = 12
COLORS = {"error": "red", "warning": "yellow", "note": "blue"}


def print_checks(only: Iterable[str], skip: Iterable[str], *, as_json: bool) -> None:
    """Print the ids and descriptions of checks.

    Args:
        only: see `select_checks`.
        skip: see `select_checks`.
        as_json: whether to print JSON.
    """
    from blemish.data.checks import select_checks

    checks = select_checks(only, skip)
    if as_json:
        rows = [{"id": c.id, "codes": list(c.codes), "description": c.description} for c in checks]
        print_json({"checks": rows}, indent=2)
        return
    width = max(len(c.id) for c in checks) if checks else 0
    for entry in checks:
        typer.echo(f"{entry.id:{width}}  {entry.description}")


def report_written(written: WrittenDataset, *, as_json: bool) -> None:
    """Print the result of writing a data set, as text or as JSON."""
    if as_json:
        print_json(written.to_dict(), indent=2)
    else:
        print_written(written)


def print_written(written: WrittenDataset) -> None:
    """Print where a data set was written and what was lost; damage goes to standard error."""
    typer.echo(f"wrote {written.images} images as {written.format} to {written.root}")
    for loss in written.losses:
        typer.echo(f"lost in the conversion: {loss.sentence()}")
    if written.damaged:
        from blemish.data.write_context import name_some

        typer.echo(
            f"warning: {len(written.damaged)} images are damaged and were copied unchanged:"
            f" {name_some(written.damaged)}; run blemish data check to see the damage",
            err=True,
        )


def print_findings(findings: Findings, *, show_all: bool) -> None:
    """Print findings by severity and code; the reader's notes go to standard error.

    Args:
        findings: the result of the checks.
        show_all: whether to print all findings of a code, or only the first few.
    """
    for sentence in findings.notes:
        typer.echo(f"note: {sentence}", err=True)
    by_code: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        by_code.setdefault((str(finding.severity), finding.code, finding.check), []).append(finding)
    for (severity, code, check_id), group in by_code.items():
        by = f", check {check_id}" if check_id else ""
        typer.secho(f"{severity}: {code} ({len(group)}){by}", fg=COLORS[severity], bold=True)
        shown = group if show_all else group[:MAX_SHOWN_PER_CODE]
        for finding in shown:
            typer.echo(f"  {finding.sentence()}")
        if len(group) > len(shown):
            typer.echo(f"  and {len(group) - len(shown)} more; add --all to see them")
    if not findings.findings:
        typer.echo(f"{_count(findings.images, 'image')}: no findings")
    else:
        counts = ", ".join(f"{_count(sum(f.severity == s for f in findings), str(s))}" for s in COLORS)
        typer.echo(f"{_count(findings.images, 'image')}: {counts}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_statistics(stats: Statistics) -> None:
    """Print statistics as tables: the whole data set, the labels, and label co-occurrence."""
    from rich.console import Console

    from blemish.data.statistics import summary_lines

    console = Console()
    console.print(_table(("", ""), summary_lines(stats)))
    splits = list(stats.splits)
    rows = [
        (x.display_name, str(x.images), str(x.objects), *(str(x.by_split[s]) for s in splits))
        for x in stats.labels
    ]
    console.print(_table(("label", "images", "objects", *splits), rows, right=range(1, 3 + len(splits))))
    if 1 < len(stats.labels) <= MAX_LABELS_IN_CO_OCCURRENCE:
        names = [x.display_name for x in stats.labels]
        counts = [(n, *(str(v) for v in row)) for n, row in zip(names, stats.co_occurrence, strict=True)]
        console.print(_table(("images with both", *names), counts, right=range(1, 1 + len(names))))


def _table(header: Iterable[str], rows: Iterable[Iterable[str]], right: Iterable[int] = ()) -> Any:
    from rich.markup import escape  # a label may be called [/bold]
    from rich.table import Table

    table = Table(show_header=any(header), box=None, pad_edge=False)
    numbers = set(right)
    justify: Callable[[int], Any] = lambda i: "right" if i in numbers else "left"  # noqa: E731
    for position, name in enumerate(header):
        table.add_column(escape(name), justify=justify(position))
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table
