"""`blemish inspections`: create, inspect, review, compare and report inspections in a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.commands.data_options import JsonOption
from blemish.commands.inspections_maintenance import backup, restore, verify
from blemish.commands.inspections_module import (
    CornersOption,
    GridOption,
    module,
)
from blemish.commands.inspections_options import DAMAGED, DatabaseOption, StoreOption, open_store
from blemish.commands.inspections_output import (
    findings_table,
    inspection_line,
    print_summary,
)
from blemish.commands.inspections_run import prepare_run
from blemish.commands.inspections_scale import scale
from blemish.commands.json_output import print_json
from blemish.commands.shared_options import BackendOption, BlurFacesOption, ThreadsOption
from blemish.errors import BadInput

if TYPE_CHECKING:
    from blemish.inspections.store import InspectionStore

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

InspectionArgument = Annotated[
    str, typer.Argument(metavar="INSPECTION", help="Id, its beginning, or its end.", show_default=False)
]
ReviewerOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", envvar="BLEMISH_REVIEWER", help="Who decides.", show_default="local"),
]


@app.command()
def create(
    asset: Annotated[
        str, typer.Argument(metavar="ASSET", help="License plate, serial number, ...", show_default=False)
    ],
    store: StoreOption,
    kind: Annotated[
        str, typer.Option(help="Kind of asset: vehicle, pv_module, structure, part or free.")
    ] = "free",
    phase: Annotated[str, typer.Option(help="before, after or periodic.")] = "periodic",
    view: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="View that a complete inspection has. Repeatable."),
    ] = None,
    severity: Annotated[
        str | None,
        typer.Option(metavar="RULES", help="Severity rules: vehicle, el-crack, structure, or a YAML file."),
    ] = None,
    previous: Annotated[
        str | None,
        typer.Option(metavar="INSPECTION", help="Earlier inspection of the asset, to compare with."),
    ] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create an inspection of an asset, and the store if it does not exist.

    Examples:
      blemish inspections create B-XY-12 --store claims/ --kind vehicle --severity vehicle --view front

      blemish inspections create B-XY-12 --store claims/ --kind vehicle --phase after --previous 01JD
    """
    with open_store(store, database, create=True) as opened:
        from blemish.inspections.severity import load_rules

        rules = None if severity is None else load_rules(severity)
        before = None if previous is None else opened.inspections.find(previous).id
        known = opened.assets.find(kind, asset) or opened.assets.create(kind, asset)
        made = opened.inspections.create(
            known.id, phase=phase, previous_id=before, required_views=view or (), severity=rules
        )
        if as_json:
            print_json({"asset": known.to_dict(), "inspection": made.to_dict()}, indent=2)
        else:
            typer.echo(made.id)


@app.command()
def add(
    inspection: InspectionArgument,
    store: StoreOption,
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE", help="Image files.", show_default=False)
    ] = None,
    view: Annotated[str, typer.Option(metavar="NAME", help="View that these images show.")] = "",
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", "-m", metavar="FILE", help="Model file to run on the new images.", show_default=False
        ),
    ] = None,
    parts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Model file that finds the parts of the asset.")
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Lowest score of a finding.", show_default="threshold of the label"),
    ] = None,
    normal: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="Label that is no damage. Repeatable.")
    ] = None,
    mm_per_pixel: Annotated[
        float | None,
        typer.Option(metavar="MM", help="Size of a pixel on the surface: outlines get widths and lengths."),
    ] = None,
    mm_error: Annotated[
        float, typer.Option(metavar="SHARE", help="Relative standard error of --mm-per-pixel.")
    ] = 0.02,
    grid: GridOption = None,
    corners: CornersOption = None,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add images to an inspection, and run a model on the images that it has not seen.

    Images that the inspection has already, or that cannot be used, are reported and left out; then the exit
    code is 1. With `--grid`, the images show whole solar modules, and the model judges each cell; `--grid
    auto` counts the cells.

    Examples:
      blemish inspections add 01JD front/*.jpg --store claims/ --view front

      blemish inspections add 01JD module.png --store el/ --model cells.onnx --grid 6x10 --normal functional

      blemish inspections add 01JD --store claims/ --model cars.onnx --parts parts.onnx
    """
    if not images and model is None:
        raise BadInput("expected images, or --model FILE", reason="nothing-to-add")
    with open_store(store, database) as opened:
        found = opened.inspections.find(inspection)
        run_model = prepare_run(
            model,
            parts=parts,
            min_score=min_score,
            normal=normal or (),
            mm_per_pixel=mm_per_pixel,
            mm_error=mm_error,
            grid=grid,
            corners=corners,
            backend=backend,
            threads=threads,
        )
        added, refused = [], []
        for path in images or ():
            try:
                added.append(opened.images.add(found.id, path, view=view))
            except BadInput as error:
                refused.append({"path": path.as_posix(), "code": error.code, "message": str(error)})
                typer.echo(f"blemish: {error}", err=True)
        run = None
        if run_model is not None and (added or not images):
            run, failed = run_model(opened, found.id)
            names = {image.id: image.file_name for image in opened.images.of_inspection(found.id)}
            for image_id, reason in failed.items():
                refused.append({"path": names[image_id], "code": reason.code, "message": str(reason)})
                typer.echo(f"blemish: {names[image_id]}: {reason}", err=True)
        count = 0 if run is None else sum(f.run_id == run.id for f in opened.findings.of_inspection(found.id))
        if as_json:
            fields = {
                "inspection_id": found.id,
                "images": [image.to_dict() for image in added],
                "refused": refused,
            }
            print_json({**fields, "run": None if run is None else run.to_dict(), "findings": count}, indent=2)
        else:
            typer.echo(f"added {len(added)} images" + ("" if run is None else f", {count} findings"))
        if refused:
            raise typer.Exit(DAMAGED)


@app.command()
def show(
    inspection: InspectionArgument,
    store: StoreOption,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the decision, the damages and the coverage of an inspection.

    Example:
      blemish inspections show 01JD --store claims/
    """
    with open_store(store, database) as opened:
        from blemish.inspections.inspector import inspection_summary
        from blemish.inspections.records import to_dicts

        found = opened.inspections.find(inspection)
        summary = inspection_summary(opened, found.id)
        asset = opened.assets.get(found.asset_id)
        findings = opened.findings.of_inspection(found.id)
        images = opened.images.of_inspection(found.id)
        if as_json:
            fields = {"asset": asset.to_dict(), "inspection": found.to_dict(), "summary": summary}
            lists = {"images": to_dicts(images), "findings": to_dicts(findings)}
            reviews = to_dicts(opened.reviews.of_inspection(found.id))
            print_json({**fields, **lists, "reviews": reviews}, indent=2)
            return
        typer.echo(f"{asset.kind} {asset.reference}: {found.id} ({found.phase}, {found.status})")
        print_summary(summary)
        for line in findings_table(findings, images):
            typer.echo(line)


@app.command(name="list")
def list_inspections(
    store: StoreOption,
    needs_review: Annotated[
        bool, typer.Option("--needs-review", help="Only those that need a review.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Number of inspections.")] = 50,
    cursor: Annotated[
        str | None, typer.Option(help="next_cursor of an earlier answer.", show_default=False)
    ] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List inspections: those that need a review first, then the newest first.

    Example:
      blemish inspections list --store claims/ --needs-review
    """
    with open_store(store, database) as opened:
        page = opened.inspections.list(
            needs_review=True if needs_review else None, limit=limit, cursor=cursor
        )
        assets = {item.asset_id: opened.assets.get(item.asset_id) for item in page.items}
        if as_json:
            rows = [{**i.to_dict(), "asset": assets[i.asset_id].to_dict()} for i in page.items]
            print_json({"inspections": rows, "next_cursor": page.next_cursor}, indent=2)
            return
        for item in page.items:
            typer.echo(inspection_line(item, assets[item.asset_id]))
        if page.next_cursor is not None:
            typer.echo(f"more: --cursor {page.next_cursor}")


@app.command()
def review(
    finding: Annotated[str, typer.Argument(metavar="FINDING", help="Id of a finding.", show_default=False)],
    action: Annotated[
        str,
        typer.Argument(metavar="ACTION", help="accept, reject, edit, contest or note.", show_default=False),
    ],
    store: StoreOption,
    label: Annotated[str | None, typer.Option(help="With edit: the right label.")] = None,
    box: Annotated[
        str | None, typer.Option(metavar="X1,Y1,X2,Y2", help="With edit: the right box, in pixels.")
    ] = None,
    part: Annotated[str | None, typer.Option(help="With edit: the right part.")] = None,
    level: Annotated[str | None, typer.Option(help="With edit: the right severity level.")] = None,
    reason: Annotated[str, typer.Option(help="Short reason, such as reflection.")] = "",
    note: Annotated[str, typer.Option(help="Free text.")] = "",
    reviewer: ReviewerOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store a decision about a finding; what the model found stays as it was.

    Examples:
      blemish inspections review 01JDFINDING reject --store claims/ --reason reflection

      blemish inspections review 01JDFINDING edit --store claims/ --label scratch --reviewer Ada
    """
    changes: dict[str, Any] = {"label": label, "part": part, "severity_level": level}
    changes = {name: value for name, value in changes.items() if value is not None}
    if box is not None:
        try:
            changes["box_xyxy"] = [float(value) for value in box.split(",")]
        except ValueError as error:
            raise BadInput(f"--box: expected X1,Y1,X2,Y2, got {box!r}", reason="outline") from error
    with open_store(store, database) as opened:
        made = opened.reviews.decide(
            finding.upper(), action, changes=changes or None, reason=reason, note=note, reviewer=reviewer
        )
        if as_json:
            print_json(
                {"review": made.to_dict(), "finding": opened.findings.get(finding.upper()).to_dict()},
                indent=2,
            )
        else:
            typer.echo(f"{made.action}: {made.finding_id}")


@app.command()
def compare(
    inspection: InspectionArgument,
    store: StoreOption,
    previous: Annotated[
        str | None,
        typer.Option(
            metavar="INSPECTION", help="Earlier inspection.", show_default="that of create --previous"
        ),
    ] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare with an earlier inspection: new, pre-existing, worsened, repaired or unknown damage.

    Example:
      blemish inspections compare 01JD --store claims/
    """
    with open_store(store, database) as opened:
        from blemish.inspections.inspector import compare_inspections

        found = opened.inspections.find(inspection)
        before = None if previous is None else opened.inspections.find(previous).id
        changes = compare_inspections(opened, found.id, before)
        if as_json:
            print_json({"comparison": opened.inspections.get(found.id).comparison}, indent=2)
            return
        for change in changes:
            typer.echo(f"{change.change:13} {change.label} ({change.basis})")
        if not changes:
            typer.echo("no damage in either inspection")


@app.command()
def export(
    inspections: Annotated[
        list[str], typer.Argument(metavar="INSPECTION", help="Ids, or all.", show_default=False)
    ],
    to: Annotated[
        str, typer.Option(metavar="FORMAT", help="coco, yolo, voc, csv or folders.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="New or empty folder.", show_default=False)
    ],
    store: StoreOption,
    task: Annotated[
        str | None, typer.Option(help="Task of the labels.", show_default="by the findings")
    ] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write reviewed inspections as labeled images, to train with.

    Images with an undecided finding are left out and counted.

    Example:
      blemish inspections export all --store claims/ --to coco --output labels/
    """
    with open_store(store, database) as opened:
        from blemish.commands.data_output import print_written
        from blemish.inspections.label_export import export_labels

        ids = (
            _all_ids(opened)
            if inspections == ["all"]
            else [opened.inspections.find(i).id for i in inspections]
        )
        written, left_out = export_labels(opened, ids, output, to, task=task)
        if as_json:
            print_json({**written.to_dict(), "left_out": left_out}, indent=2)
            return
        print_written(written)
        for reason, count in left_out.items():
            typer.echo(f"left out: {count} images ({reason})")


def _all_ids(store: InspectionStore) -> list[str]:
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = store.inspections.list(limit=500, cursor=cursor)
        ids += [item.id for item in page.items]
        if (cursor := page.next_cursor) is None:
            return sorted(ids)


@app.command()
def report(
    inspection: InspectionArgument,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="File: .pdf, .html or .csv.", show_default=False),
    ],
    store: StoreOption,
    company: Annotated[str, typer.Option(help="Name on the cover.")] = "",
    claim: Annotated[str, typer.Option(help="Claim number.")] = "",
    title: Annotated[str, typer.Option(help="Title.", show_default="Inspection report")] = "",
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="FILE",
            help="Model file that decided, for heatmaps beside the images. Repeatable.",
            show_default=False,
        ),
    ] = None,
    logo: Annotated[Path | None, typer.Option(metavar="FILE", help="Image for the cover of a PDF.")] = None,
    font: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TrueType font of a PDF.", show_default="found on the system"),
    ] = None,
    blur_faces: BlurFacesOption = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a report with findings, images, reviews and the head of the audit chain.

    Example:
      blemish inspections report 01JD --store claims/ --output report.pdf --company Example --claim 4711
    """
    from blemish.model_file import write_atomically

    with open_store(store, database) as opened:
        from blemish.inspections.report_writer import write_report

        options = {"company": company, "claim": claim, "title": title}
        given = {name: value for name, value in options.items() if value}
        found = opened.inspections.find(inspection)
        blur = None
        if blur_faces:
            from blemish.face_blur import open_blur

            blur = open_blur()
        suffix = output.suffix.lstrip(".").casefold()
        models = []
        if model:
            from blemish.inference import load

            models = [load(file) for file in model]
        made, data = write_report(
            opened, found.id, suffix, options=given, logo=logo, font=font, models=models, blur=blur
        )
        write_atomically(output, data)
        if as_json:
            print_json({"report": made.to_dict(), "path": output.as_posix()}, indent=2)
        else:
            typer.echo(f"{output}")


@app.command(name="verify-report")
def verify_report_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A report.", show_default=False)],
    store: StoreOption,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that a file is a report of the store, unchanged; the exit code is 1 if it is not.

    Example:
      blemish inspections verify-report report.pdf --store claims/
    """
    with open_store(store, database) as opened:
        from blemish.inspections.report_writer import verify_report

        check = verify_report(opened, file)
        if as_json:
            print_json(check.to_dict(), indent=2)
        elif check.unchanged:
            typer.echo(f"unchanged: written {check.created_at} for inspection {check.inspection_id}")
        else:
            typer.echo(f"not verified: {check.reason}")
        if not check.unchanged:
            raise typer.Exit(DAMAGED)


for command in (module, scale, verify, backup, restore):
    app.command()(command)
