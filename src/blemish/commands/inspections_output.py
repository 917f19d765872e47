"""Print inspections, their decision and their findings as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from blemish.inspections.records import Asset, Finding, Inspection, InspectionImage


def inspection_line(inspection: Inspection, asset: Asset) -> str:
    """Return one line about an inspection."""
    state = f"{inspection.open_findings} open" if inspection.open_findings else ""
    if inspection.needs_review and not state:
        state = "not inspected"
    return (
        f"{inspection.id}  {inspection.created_at[:16].replace('T', ' ')}  {asset.kind} {asset.reference}  "
        f"{inspection.phase}  {inspection.status}  {state}"
    ).rstrip()


def print_summary(summary: dict[str, Any]) -> None:
    """Print the decision about an inspection."""
    typer.echo(f"decision: {summary['decision']}")
    counts = ", ".join(f"{count} {label}" for label, count in summary["counts"].items())
    typer.echo(f"damages: {counts or 'none'}")
    if summary["severity_scale"]:
        typer.echo(
            f"worst severity: {summary['worst_severity'] or 'no rule applies'} ({summary['severity_scale']})"
        )
    coverage = summary["coverage"]
    if coverage["required"]:
        missing = f"; missing: {', '.join(coverage['missing'])}" if coverage["missing"] else ""
        typer.echo(f"coverage: {len(coverage['present'])} of {len(coverage['required'])} views{missing}")
    if summary["not_inspected"]:
        typer.echo(f"images without a prediction: {len(summary['not_inspected'])}")
    for image_id, problems in summary["image_problems"].items():
        typer.echo(f"image {image_id}: {', '.join(problems)}")


def findings_table(findings: Sequence[Finding], images: Sequence[InspectionImage]) -> Iterator[str]:
    """Yield one line for each finding."""
    names = {image.id: image.file_name or image.id for image in images}
    for finding in findings:
        values = finding.effective()
        score = "      " if finding.score is None else f"{finding.score:6.3f}"
        facts = [
            values["label"],
            values["part"],
            values["severity_level"] and f"level {values['severity_level']}",
        ]
        if finding.change != "unknown":
            facts.append(finding.change)
        text = ", ".join(filter(None, facts))
        yield f"{finding.id}  {finding.state:9} {score}  {text}  {names[finding.image_id]}"
