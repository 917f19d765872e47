"""The recipe: everything a training run depends on, typed; read without torch.

A recipe comes from a YAML file, from command-line options and from `--set key=value`; later sources win. Keys
that no source sets have the default of their section. The run's folder contains the resolved recipe.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from blemish.config.builtin import builtin_presets, find_preset, find_recipe
from blemish.config.fields import UNUSED, Config
from blemish.config.key_names import PEER_KEYS, renamed_keys_in, translate_run_recipe
from blemish.config.schema import AugmentationConfig, DataConfig, ModelConfig
from blemish.config.training_schema import TrainingConfig
from blemish.config.tune_schema import TuneConfig
from blemish.errors import BadInput, BadRecipe, UnknownName, suggestion
from blemish.structures import Task

RECIPE_NAME, MODEL_NAME = "recipe.yaml", "model.onnx"  # in a run's folder
_UNION_MEMBERS = ("function-", "constrained-", "literal", "int", "tuple", "dict")  # pydantic's names


class Recipe(Config):
    """Everything a training run depends on.

    Attributes:
        schema_version: Version of the key names; Blemish writes it into a run's recipe. Leave it out.
        name: Name of the run and of its model. Empty for the architecture's name.
        preset: Preset whose values are the defaults of this recipe: a name from `blemish config list`, `auto`
            for the architecture's own, or `none`. Without a recipe it is `auto`.
        task: Task. Null for the task of the data.
        model: Network.
        data: Labeled images.
        augmentation: Random changes of training images.
        training: Training loop.
        tune: Search of `blemish tune` for better values of other keys.

    Example:
        >>> Recipe.of({"model": {"name": "resnet50"}, "training": {"epochs": 3}}).training.epochs
        3
    """

    schema_version: Literal[2] = 2
    name: str = ""
    preset: str = "none"
    task: Task | None = None
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()
    tune: TuneConfig = TuneConfig()

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str = "recipe") -> Self:
        """Return a validated recipe.

        Args:
            values: nested mappings, as YAML gives them.
            where: the source that an error names.

        Raises:
            BadRecipe: an unknown or renamed key, or an invalid value.
        """
        values = _with_preset(values, where)
        for old, new in renamed_keys_in(values):
            raise BadRecipe(f"{where}: {old!r} was renamed. Write {new}", reason="renamed-key")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _as_bad_recipe(error, cls, where) from None

    def changed(self, settings: Mapping[str, Any]) -> Self:
        """Return this recipe with some dotted keys replaced: `{"training.epochs": 3}`.

        Keys that describe a replaced value, such as the batch size that a learning rate is meant for, are
        dropped unless they are in `settings` too.

        Raises:
            BadRecipe: an unknown key, an invalid value, or another preset: its values lie below those of the
                recipe's source, which is no longer known ("bad-recipe.preset-of-a-recipe").
        """
        if settings.get("preset", self.preset) != self.preset:
            raise BadRecipe(
                f"preset: a recipe that was read keeps its own, {self.preset}. Write the key in its file, or "
                "give it to read_recipe",
                reason="preset-of-a-recipe",
            )
        values = self.model_dump(mode="json", exclude_unset=True)  # keys left out stay left out
        for key in settings:
            _drop_dependent(values, key, type(self))
        for key, value in settings.items():
            _set_key(values, key, value)
        return type(self).of(values)

    def to_yaml(self) -> str:
        """Return the resolved recipe, with every key, as YAML."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        return text


def read_recipe(
    path: Path | str | None = None,
    *,
    settings: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return the recipe of a file, of options and of settings; later ones win.

    Args:
        path: a YAML file, or the name of a built-in recipe or preset; None for the architecture's preset, or
            the defaults of all keys if it has none. A recipe's name is kept unless another source names
            another architecture: the run then has the architecture's name.
        settings: `key=value` each, with dotted keys and YAML values.
        overrides: values by dotted key; None values are ignored.

    Raises:
        BadRecipe: the file is unreadable, a key is unknown, or a value is invalid.

    Example:
        >>> read_recipe(settings=["training.epochs=3"]).training.epochs
        3
    """
    values: dict[str, Any] = {"preset": "auto"}
    where = "recipe" if path is None else str(path)
    if find_preset(path) is not None:
        values = {"preset": str(path)}
    elif path is not None:
        values = _read_yaml(find_recipe(path))
    own_model = _model_name(values)
    for key, value in (overrides or {}).items():
        if value is not None:
            _set_key(values, key, value)
    for key, value in parse_settings(settings):
        _set_key(values, key, value)
    is_named = "name" in (overrides or {}) or any(key == "name" for key, _ in parse_settings(settings))
    if own_model is not None and _model_name(values) != own_model and not is_named:
        values.pop("name", None)
    return Recipe.of(values, where)


def read_run_recipe(folder: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe that a run saved, also if an earlier version wrote it.

    Args:
        folder: the run.
        overrides: values by dotted key; None values are ignored.

    Raises:
        BadInput: the folder contains no recipe.yaml.
        BadRecipe: the file is damaged.

    Warns:
        RenamedKeyWarning: the file uses key names of an earlier version.
    """
    path = folder / RECIPE_NAME
    if not path.is_file():
        raise BadInput(
            f"{folder}: not a run: it contains no {RECIPE_NAME}. Give the folder of a run",
            reason="not-a-run",
        )
    values = translate_run_recipe(_read_yaml(path), str(path))
    if isinstance(data := values.get("data"), dict):
        data.setdefault("decode", "full")  # of versions before the key existed
    for key, value in (overrides or {}).items():
        if value is not None:
            _set_key(values, key, value)
    return Recipe.of(values, str(path))


def _model_name(values: Mapping[str, Any]) -> str | None:
    model = values.get("model")
    return model.get("name") if isinstance(model, Mapping) else None


def _with_preset(values: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return the values of a recipe above those of its preset, whose name replaces `auto`.

    Raises:
        BadRecipe: there is no such preset ("bad-recipe.unknown-preset"), or it is based on one of other
            architectures ("bad-recipe.unsuitable-preset").
    """
    chosen = values.get("preset", "none")
    if chosen == "auto":
        chosen = _preset_of(values) or "none"
        values = {**values, "preset": chosen}
    if chosen == "none" or not isinstance(chosen, str):
        return values
    presets = builtin_presets()
    if chosen not in presets:
        hint = suggestion(chosen, (*presets, "auto", "none"))
        raise BadRecipe(f"{where}: preset: there is no preset {chosen!r}{hint}", reason="unknown-preset")
    preset = {"preset": "none", **_read_yaml(presets[chosen])}
    base = preset["preset"]
    if base != "none" and _preset_of(values) not in (base, None):
        model = _model_name(values) or ModelConfig().name
        raise BadRecipe(
            f"{where}: preset: {chosen} is for architectures with the preset {base}; got {model}. Write "
            "preset: auto, or choose another architecture",
            reason="unsuitable-preset",
        )
    below = dict(_with_preset({**preset, "model": values.get("model", {})}, where))
    del below["model"]  # which a preset does not set
    return {**_merged(below, values, Recipe), "preset": chosen}


def _preset_of(values: Mapping[str, Any]) -> str | None:
    """Return the preset of a recipe's architecture, or `none`; None for a name that is refused later."""
    from blemish.config.architectures import describe

    model = values.get("model", {})
    name = model.get("name", ModelConfig().name) if isinstance(model, Mapping) else None
    if not isinstance(name, str):
        return None
    try:
        return describe(name).preset or "none"
    except UnknownName:
        return None


def _merged(below: Mapping[str, Any], above: Mapping[str, Any], section: type[Config]) -> dict[str, Any]:
    """Return the values of `above`, and those of `below` for keys that it lacks, section by section.

    Of a section that chooses another method by its `name`, nothing of `below` is kept; nor are
    alternatives of keys that are set, and keys that hold for other values.
    """
    if any(key in above for key in section.alternatives):
        below = {key: value for key, value in below.items() if key not in section.alternatives}
    changed = [key for key, others in section.dependent.items() if any(other in above for other in others)]
    below = {key: value for key, value in below.items() if key not in changed}
    merged = {**below, **above}
    for key, inner in below.items():
        other, field = above.get(key), section.model_fields.get(key)
        deeper = section_in(field.annotation) if field else None
        if (
            deeper is not None
            and issubclass(deeper, Config)
            and isinstance(inner, Mapping)
            and isinstance(other, Mapping)
        ):
            is_other = "name" in inner and other.get("name", inner["name"]) != inner["name"]
            merged[key] = dict(other) if is_other else _merged(inner, other, deeper)
    return merged


def parse_settings(settings: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each `key=value`; values are YAML.

    Raises:
        BadRecipe: not `key=value`, or a value that is not YAML.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise BadRecipe(
                f"--set {setting}: expected key=value, such as training.epochs=10", reason="invalid-setting"
            )
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise BadRecipe(
                f"--set {setting}: the value is not valid YAML. Quote it", reason="invalid-setting"
            ) from None
        yield key.strip(), value


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecipe(f"{path}: the recipe cannot be read ({error})", reason="unreadable-file") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "syntax error"
        raise BadRecipe(f"{path}{line}: not valid YAML: {problem}", reason="invalid-yaml") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadRecipe(
            f"{path}: expected lines of `key: value`, such as `name: my-run`", reason="invalid-yaml"
        )
    return values


def _set_key(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key in nested dictionaries; a section replaces a plain value on its way."""
    *sections, last = dotted.split(".")
    for name in sections:
        inner = values.get(name)
        if not isinstance(inner, dict):
            inner = values[name] = {}
        values = inner
    values[last] = value


def _drop_dependent(values: dict[str, Any], dotted: str, section: type[Config]) -> None:
    """Remove the keys that describe the value of a dotted key from nested dictionaries."""
    *sections, last = dotted.split(".")
    for name in sections:
        inner, field = values.get(name), section.model_fields.get(name)
        deeper = section_in(field.annotation) if field else None
        if not isinstance(inner, dict) or deeper is None or not issubclass(deeper, Config):
            return
        values, section = inner, deeper
    for key, others in section.dependent.items():
        if last in others:
            values.pop(key, None)


def _as_bad_recipe(error: ValidationError, recipe: type[BaseModel], where: str) -> BadRecipe:
    """Return the error about the first wrong key: what is wrong, and what to write instead."""
    errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = errors[0]
    keys = [str(x) for x in first["loc"]]
    if first["type"] == "extra_forbidden":
        section = _section_at(recipe, keys[:-1])
        known = list(section.model_fields) if section else []
        return BadRecipe(
            f"{where}: unknown key {'.'.join(keys)!r}{_hint(keys[-1], known)}", reason="unknown-key"
        )
    place = ".".join(k for k in keys if not k.startswith(_UNION_MEMBERS)) or "recipe"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if first["type"] == UNUSED:
        return BadRecipe(f"{where}: {place}: {message}", reason="unused-key")
    value = first.get("input")
    for other in errors:  # `auto` beside a number has an error of its own for the same key
        if other["type"] == "literal_error" and first["loc"][:-1] == other["loc"][:-1] and other is not first:
            message += f", or {other['ctx']['expected']}"
    got = "" if isinstance(value, dict) or repr(value) in message else f", got {value!r}"
    if first["type"] == "model_type":  # a plain value in place of a section
        section = _section_at(recipe, keys)
        main = next((name for name in ("name", "path") if section and name in section.model_fields), "")
        message, got = f"expected a section of keys{got}", f". Write {place}.{main}" if main else ""
    return BadRecipe(f"{where}: {place}: {message}{got}", reason="invalid-value")


def _hint(name: str, known: Sequence[str]) -> str:
    """Return what to write in place of an unknown key: our name for another tool's key, or the nearest."""
    peer = PEER_KEYS.get(name)
    if peer is None:
        return suggestion(name, known)
    return peer if peer.startswith(";") else f"; write {peer}"


def _section_at(section: type[BaseModel], keys: Sequence[str]) -> type[BaseModel] | None:
    """Return the section of a recipe that the path `keys` leads to."""
    at: type[BaseModel] | None = section
    for key in keys:
        if at is None:
            return None
        if key not in at.model_fields:
            continue  # the index of a list entry, or pydantic's name for a member of a union
        at = section_in(at.model_fields[key].annotation)
    return at


def section_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section class in the type of a field, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, tuple, list):
        return next((m for m in map(section_in, get_args(annotation)) if m), None)
    return None
