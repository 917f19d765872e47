"""`blemish models`: list the architectures that can be trained, or describe one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.commands.json_output import print_json
from blemish.errors import BadInput, install_command

if TYPE_CHECKING:
    from blemish.config.architectures import Architecture


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Architecture to describe.", show_default="list all of them"),
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Print a table of the stages of NAME.")] = False,
    task: Annotated[
        str | None,
        typer.Option(help="Task to build NAME for.", show_default="its first task"),
    ] = None,
    labels: Annotated[int, typer.Option(min=1, help="Number of labels to build NAME for.")] = 6,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the architectures that can be trained, or describe one.

    Examples:
        blemish models

        blemish models resnet18 --layers
    """
    from blemish.config import architectures as registry

    torch_free = _torch_free_rows()
    if name is None:
        rows = [_row(architecture) for architecture in registry.all_architectures()] + torch_free
    elif known := [row for row in torch_free if row["name"] == name]:
        if layers:
            raise BadInput(
                f"--layers: {name} is fitted without PyTorch and has no trained stages. Remove --layers.",
                reason="no-layers",
            )
        rows = known
    else:
        rows = [_describe(registry.describe(name), name, task=task, labels=labels, layers=layers)]
    if as_json:
        print_json({"architectures": rows} if name is None else rows[0], indent=2)
    elif name is None:
        _print_table(
            [["\n".join(a.name for a in f), "\n".join(f[0].tasks), f[0].summary] for f in registry.families()]
            + [[row["name"], *row["tasks"], row["summary"]] for row in torch_free],
            ("name", "tasks", "description"),
        )
    else:
        _print_description(rows[0])


def _row(architecture: Architecture) -> dict[str, Any]:
    return {
        "name": architecture.name,
        "tasks": [str(t) for t in architecture.tasks],
        "summary": architecture.summary,
        "license": architecture.license,
        "weights_license": architecture.weights_license,
        "input_size_hw": list(architecture.input_size_hw),
        "extra": architecture.extra,
    }


def _torch_free_rows() -> list[dict[str, Any]]:
    """Return the architectures that a task trains itself, without a network of PyTorch."""
    from blemish.task import Task

    return [
        {
            "name": name,
            "tasks": [str(task)],
            "summary": summary,
            "license": "Apache-2.0",
            "weights_license": "Apache-2.0",
            "input_size_hw": [224, 224],
            "extra": "few,pretrained",
        }
        for task in Task
        for name, summary in task.fields.torch_free_architectures.items()
    ]


def _describe(
    architecture: Architecture, name: str, *, task: str | None, labels: int, layers: bool
) -> dict[str, Any]:
    """Return the registry's row and the facts of the built network; this imports torch."""
    from blemish.data.load_dataset import to_task

    chosen = to_task(task) or architecture.tasks[0]  # before the slow import
    from blemish.models._build import create
    from blemish.models._layers import layer_table

    network = create(name, task=chosen, label_count=labels)
    parameters = sum(p.numel() for p in network.parameters())
    row = _row(architecture) | {
        "parameters": parameters,
        "parameters_below_head": parameters - sum(p.numel() for p in network.parameters_of("head")),
        "inputs": {spec.name: list(spec.size_hw) for spec in network.inputs},
        "stages": list(network.stages),
    }
    if layers:
        row["layers"] = [layer.to_dict() for layer in layer_table(network)]
    return row


def _print_description(row: dict[str, Any]) -> None:
    typer.echo(f"{row['name']}: {row['summary']}")
    typer.echo(f"  tasks       {', '.join(row['tasks'])}")
    if "parameters" in row:
        typer.echo(f"  parameters  {row['parameters']:,} ({row['parameters_below_head']:,} below the head)")
    inputs = row.get("inputs", {"image": row["input_size_hw"]})
    sizes = ", ".join(f"{n} {h} x {w}" for n, (h, w) in inputs.items())
    typer.echo(f"  input       {sizes} pixels")
    if "stages" in row:
        typer.echo(f"  stages      {', '.join(row['stages'])}")
    typer.echo(f"  license     {row['license']}; weights: {row['weights_license'] or 'none published'}")
    if row["extra"]:
        typer.echo(f"  requires    {install_command(row['extra'])}")
    if "layers" in row:
        typer.echo("")
        _print_table(
            [[x["stage"], x["modules"], x["output"], f"{x['parameters']:,}"] for x in row["layers"]],
            ("stage", "modules", "output", "parameters"),
        )


def _print_table(rows: list[list[str]], header: tuple[str, ...]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=box.SIMPLE_HEAD, show_lines=any("\n" in row[0] for row in rows))
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*row)
    Console().print(table)
