"""The recipes that come with Blemish, by name."""

from __future__ import annotations

from pathlib import Path

from blemish.errors import BadRecipe, suggestion

# In an installed package they lie inside it, in a checkout at its top.
_FOLDERS = (Path(__file__).parents[1] / "recipes", Path(__file__).parents[3] / "recipes")


def builtin_recipes() -> dict[str, Path]:
    """Every recipe that comes with Blemish, by name."""
    return {path.stem: path for folder in _FOLDERS for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: Path | str) -> Path:
    """The file of a recipe: a path as it is, or the name of one that comes with Blemish.

    Raises:
        BadRecipe: neither; the message offers the nearest name.

    Example:
        >>> find_recipe("solar-defective").name
        'solar-defective.yaml'
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = builtin_recipes()
    if str(name) in shipped:
        return shipped[str(name)]
    if path.suffix or len(path.parts) > 1:
        raise BadRecipe(f"{path}: no such recipe")
    raise BadRecipe(f"{name}: no such recipe{suggestion(str(name), shipped)}")
