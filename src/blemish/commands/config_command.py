"""`blemish config`: list the built-in recipes, and print every key of a recipe."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.commands.json_output import print_json

if TYPE_CHECKING:
    from blemish.config.recipe import Recipe
    from blemish.config.schema_reference import SchemaRow

app = typer.Typer(no_args_is_help=True, help="List the built-in recipes, and print every key of a recipe.")
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def show(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="A recipe file, the name of a built-in recipe, or a run's folder.",
            show_default="the default of every key",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print every key of a recipe with its value, type, default and meaning.

    A star marks values that differ from the default.

    Examples:
      blemish config show solar-defective

      blemish config show runs/cars --json
    """
    from blemish.config.schema_reference import describe_schema

    rows = describe_schema(_read(recipe))
    if as_json:
        print_json({"recipe": recipe, "keys": [dataclasses.asdict(row) for row in rows]}, indent=2)
        return
    for row in rows:
        typer.echo(_describe(row))


@app.command("list")
def list_recipes(as_json: JsonOption = False) -> None:
    """List the built-in recipes with their task and architecture, and the presets.

    A preset sets keys of the training and the augmentation only: a recipe names it by its key `preset`. A
    preset that is based on another one suits only the architectures of that one.
    """
    from blemish.config.builtin import builtin_presets, builtin_recipes
    from blemish.config.recipe import read_recipe

    found = []
    for name, path in builtin_recipes().items():
        recipe = read_recipe(path)
        task = None if recipe.task is None else str(recipe.task)
        found.append({"name": name, "task": task, "model": recipe.model.name, "path": path.as_posix()})
    presets = []
    for name, path in builtin_presets().items():
        base = read_recipe(path).preset
        presets.append({"name": name, "base": None if base == "none" else base, "path": path.as_posix()})
    if as_json:
        print_json({"recipes": found, "presets": presets}, indent=2)
        return
    width = max((len(str(row["name"])) for row in found), default=0)
    for row in found:
        typer.echo(f"{row['name']:{width}}  {row['task'] or 'any task':14}  {row['model']}")
    for row in presets:
        suits = "any" if row["base"] is None else f"architectures with the preset {row['base']}"
        typer.echo(f"{row['name']:{width}}  {'preset':14}  {suits}")


def _read(recipe: str | None) -> Recipe:
    from blemish.config.builtin import find_preset
    from blemish.config.recipe import read_recipe, read_run_recipe

    if recipe is not None and Path(recipe).is_dir():
        return read_run_recipe(Path(recipe))
    # The file of a preset shows its own keys, for any architecture.
    return read_recipe(find_preset(recipe) or recipe)


def _describe(row: SchemaRow) -> str:
    """Return two lines: key, value, type and default; then the meaning."""
    default = row.default if row.default == "required" else f"default {json.dumps(row.default)}"
    value = json.dumps(row.value, ensure_ascii=False)
    return (
        f"{'*' if row.is_changed else ' '} {row.key}: {value}  ({row.type.replace('`', '')}; {default})\n"
        f"      {row.meaning.replace('`', '')}"
    )
