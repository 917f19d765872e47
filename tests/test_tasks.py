"""The task table."""

import copy
import inspect
import pickle

import pytest
from pydantic import BaseModel

from blemish.errors import DuplicateName
from blemish.task import TASKS, Task, TaskFields
from blemish.testing import raises

NAMES = {"classification", "multilabel", "localization", "detection", "segmentation"}


class _Model(BaseModel):
    task: Task


def test_task_unknown_name_offers_the_nearest():
    with raises("unknown-name.task", "detektion", "detection"):
        Task("detektion")


def test_task_is_unique_after_pickle_copy_and_validation():
    for task in Task:
        assert pickle.loads(pickle.dumps(task)) is task
        assert copy.deepcopy(task) is task
        loaded = _Model.model_validate_json(_Model(task=task).model_dump_json())
        assert loaded.task is task
        assert type(_Model(task=task).model_dump(mode="json")["task"]) is str


def test_task_attribute_and_iteration():
    assert set(Task) >= NAMES
    assert Task.SEGMENTATION is Task("segmentation")
    with pytest.raises(AttributeError):
        Task.SEGMENTATIONS  # noqa: B018
    with pytest.raises(AttributeError):
        Task.DETECTION.fields = None


@pytest.mark.parametrize("name", sorted(NAMES))
def test_task_fields_are_complete(name):
    task = Task(name)
    fields = task.fields
    assert fields.primary_metric in fields.validation_metrics
    assert fields.primary_metric in fields.summary_metrics
    for hook in fields.hooks:
        assert callable(task.hook(hook)), hook
    assert {"convert", "synthesize", "synthetic_labels", "describe", "report"} <= set(fields.hooks)


def test_define_adds_a_task_that_every_lookup_sees():
    fields = Task.DETECTION.fields
    try:
        made = Task.define("counting", fields, module=__name__)
        assert Task("counting") is made and made in list(Task)
        with pytest.raises(DuplicateName):
            Task.define("counting", fields, module="another")
    finally:
        TASKS.unregister("counting")


@pytest.mark.parametrize(
    "kind, properties",
    [
        ("one-label", "is_image_level has_one_label"),
        ("labels", "is_image_level has_label_set"),
        ("one-box", "has_boxes has_one_box"),
        ("boxes", "has_boxes has_objects"),
        ("masks", "has_boxes has_objects has_masks"),
    ],
)
def test_properties_follow_from_the_ground_truth(kind, properties):
    (task,) = (t for t in Task if t.fields.ground_truth == kind)
    names = [
        "is_image_level",
        "has_one_label",
        "has_label_set",
        "has_boxes",
        "has_one_box",
        "has_objects",
        "has_masks",
    ]
    assert {n for n in names if getattr(task, n)} == set(properties.split())


def test_can_score_masks_with_a_detector():
    assert Task.DETECTION.can_score(Task.SEGMENTATION) and Task.DETECTION.can_score(Task.DETECTION)
    assert not Task.SEGMENTATION.can_score(Task.DETECTION)


def test_fields_are_keyword_only():
    kinds = {field.kind for field in inspect.signature(TaskFields).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
