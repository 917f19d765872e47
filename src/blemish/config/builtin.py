"""The built-in recipes and presets, by name.

A recipe is complete. A preset has the keys of the training and of the augmentation that suit an architecture,
or few images, whatever the network and the data are.
"""

from __future__ import annotations

from pathlib import Path

from blemish.errors import BadRecipe, suggestion

# An installed package contains them; in a checkout they are in the top folder.
_FOLDERS = (Path(__file__).parents[1] / "recipes", Path(__file__).parents[3] / "recipes")


def builtin_recipes() -> dict[str, Path]:
    """Return the file of every built-in recipe by its name."""
    return {path.stem: path for folder in _FOLDERS for path in sorted(folder.glob("*.yaml"))}


def builtin_presets() -> dict[str, Path]:
    """Return the file of every built-in preset by its name."""
    return {path.stem: path for folder in _FOLDERS for path in sorted((folder / "presets").glob("*.yaml"))}


def find_preset(name: Path | str | None) -> Path | None:
    """Return the file of the built-in preset of that name; None if there is none, or a file has the name."""
    return None if name is None or Path(name).is_file() else builtin_presets().get(str(name))


def find_recipe(name: Path | str) -> Path:
    """Return the file of a recipe.

    Args:
        name: a path, returned as it is, or the name of a built-in recipe or preset.

    Raises:
        BadRecipe: neither; the message offers the nearest name.

    Example:
        >>> find_recipe("solar-defective").name
        'solar-defective.yaml'
    """
    path = Path(name)
    if path.is_file():
        return path
    builtin = builtin_recipes() | builtin_presets()
    if str(name) in builtin:
        return builtin[str(name)]
    is_path = bool(path.suffix) or len(path.parts) > 1
    hint = ". Check the path" if is_path else suggestion(str(name), builtin)
    raise BadRecipe(f"{name}: there is no such recipe{hint}", reason="recipe-not-found")
