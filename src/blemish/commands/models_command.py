"""`blemish models`: the architectures that can be trained."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from blemish.errors import install_command


def models(
    name: Annotated[str | None, typer.Argument(help="One architecture; all of them where not given.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="A table of its stages.")] = False,
    task: Annotated[str | None, typer.Option(help="As built for this task; the first it answers.")] = None,
    labels: Annotated[int, typer.Option(min=1, help="As built for so many labels.")] = 6,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the registry, or say what one architecture is."""
    from blemish.models import _registry

    rows = (
        [_row(a) for a in _registry.architectures()]
        if name is None
        else [_one(name, task=task, labels=labels, layers=layers)]
    )
    if as_json:
        import json

        typer.echo(json.dumps(rows if name is None else rows[0], indent=2))
    elif name is None:
        families = _registry.families()
        _table(
            [["\n".join(a.name for a in f), "\n".join(f[0].tasks), f[0].summary] for f in families],
            ("name", "tasks", "what it is"),
        )
    else:
        _print_one(rows[0])


def _row(architecture: Any) -> dict[str, Any]:
    return {
        "name": architecture.name,
        "tasks": [str(t) for t in architecture.tasks],
        "summary": architecture.summary,
        "licence": architecture.licence,
        "weights_licence": architecture.weights_licence,
        "input_size_hw": list(architecture.input_size_hw),
        "extra": architecture.extra,
    }


def _one(name: str, *, task: str | None, labels: int, layers: bool) -> dict[str, Any]:
    from blemish.models import _registry
    from blemish.models._layers import layer_table

    found = _registry.describe(name)
    network = _registry.create(name, task=task or found.tasks[0], label_count=labels)
    parameters = sum(p.numel() for p in network.parameters())
    row = _row(found) | {
        "name": name,
        "parameters": parameters,
        "parameters_below_head": parameters - sum(p.numel() for p in network.parameters_of("head")),
        "inputs": {spec.name: list(spec.size_hw) for spec in network.inputs},
        "stages": list(network.stages),
    }
    if layers:
        row["layers"] = [layer.to_dict() for layer in layer_table(network)]
    return row


def _print_one(row: dict[str, Any]) -> None:
    typer.echo(f"{row['name']}: {row['summary']}")
    typer.echo(f"  tasks       {', '.join(row['tasks'])}")
    typer.echo(f"  parameters  {row['parameters']:,} ({row['parameters_below_head']:,} below the head)")
    sizes = ", ".join(f"{n} {h} x {w}" for n, (h, w) in row["inputs"].items())
    typer.echo(f"  input       {sizes} pixels")
    typer.echo(f"  stages      {', '.join(row['stages'])}")
    typer.echo(f"  licence     {row['licence']}; weights: {row['weights_licence'] or 'none published'}")
    if row["extra"]:
        typer.echo(f"  needs       {install_command(row['extra'])}")
    if "layers" in row:
        typer.echo("")
        _table(
            [[x["stage"], x["kind"], x["output"], f"{x['parameters']:,}"] for x in row["layers"]],
            ("stage", "made of", "output", "parameters"),
        )


def _table(rows: list[list[str]], header: tuple[str, ...]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=box.SIMPLE_HEAD, show_lines=any("\n" in row[0] for row in rows))
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*row)
    Console().print(table)
