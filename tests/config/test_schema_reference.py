"""`describe_schema`: every key of a recipe has a type, a default, a value and a meaning."""

from pydantic import BaseModel

from blemish.config.detector_options import YOLOOptions
from blemish.config.recipe import Recipe, read_recipe, section_in
from blemish.config.schema_reference import (
    REQUIRED,
    attribute_meanings,
    describe_options,
    describe_schema,
)


def sections(kind=Recipe):
    yield kind
    for field in kind.model_fields.values():
        inner = section_in(field.annotation)
        if inner is not None:
            yield from sections(inner)


def test_every_key_has_a_meaning_that_is_a_sentence():
    rows = [*describe_schema(), *(row for _, rows in describe_options() for row in rows)]
    for row in rows:
        assert row.meaning.endswith("."), row.key
        assert row.meaning[0].isupper() or row.meaning[0] == "`", row.key
        assert row.type, row.key


def test_every_documented_attribute_is_a_key():
    for kind in sections():
        assert set(attribute_meanings(kind)) == set(kind.model_fields), kind.__name__


def test_describe_schema_lists_every_key_of_a_recipe():
    def leaves(values, prefix=""):
        for name, value in values.items():
            yield prefix + name
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{name}.")

    recipe = read_recipe(
        settings=[
            "model.head={hidden: [4]}",
            "data.tiles.size=64",
            "augmentation.random_resized_crop={}",
        ]
    )
    keys = {row.key for row in describe_schema(recipe)}
    free = ("data.split.fractions.", "tune.space.")  # mappings, not sections
    found = set(leaves(recipe.model_dump(mode="json")))
    sections_only = {"model", "data", "data.split", "augmentation", "training", "training.optimizer", "tune"}
    sections_only |= {"training.schedule", "training.loss"}
    assert {key for key in found if not key.startswith(free)} - sections_only <= keys


def test_describe_schema_shows_the_values_of_a_recipe():
    recipe = read_recipe(settings=["training.patience=null", "training.epochs=3", "data.tiles.size=64"])
    rows = {row.key: row for row in describe_schema(recipe)}
    assert (rows["training.epochs"].value, rows["training.epochs"].default) == (3, 30)
    assert rows["training.epochs"].is_changed
    assert rows["training.patience"].value is None
    assert rows["training.patience"].is_changed
    assert rows["training.seed"].is_changed is False
    assert (rows["data.tiles.size"].value, rows["data.tiles.size"].default) == (64, REQUIRED)
    assert rows["data.tiles.overlap"].is_changed is False
    assert rows["model.head.norm"].is_changed is False  # its section is null


def test_describe_schema_names_types_and_ranges():
    types = {row.key: row.type for row in describe_schema()}
    assert types["training.epochs"] == "integer >= 1"
    assert types["training.gradient_clip_val"] == "number > 0 or null"
    assert types["training.optimizer.momentum"] == "number in [0, 1)"
    assert types["training.precision"] == "`fp32` or `bf16` or `fp16`"
    assert types["training.optimizer.betas"] == "2 x number in [0, 1)"
    assert types["training.loggers[].name"] == "text"
    assert types["model.head"] == "section or null"


def test_describe_options_shows_what_differs_from_every_detector():
    groups = dict(describe_options())
    defaults = {row.key: row.default for row in groups["YOLO"]}
    own = YOLOOptions()
    assert defaults == {
        "model.options.nms_iou": own.nms_iou,
        "model.options.max_detections": own.max_detections,
        "model.options.min_score": own.min_score,
        "model.options.class_channels": own.class_channels,
        "model.options.multi_label": own.multi_label,
    }


def test_attribute_meanings_joins_lines_and_stops_at_the_next_section():
    class Example(BaseModel):
        """An example.

        Attributes:
            first: One line
                and another: with a colon.
            second: Two.

        Example:
            third: no attribute.
        """

    assert attribute_meanings(Example) == {
        "first": "One line and another: with a colon.",
        "second": "Two.",
    }
