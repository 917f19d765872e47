"""`Task`: what is asked of an image, and everything in Blemish that depends on it.

The tasks themselves are in `blemish.tasks`, one module each; a third-party package adds one through an
entry point in the group `blemish.tasks`. No other package branches on the name of a task: it asks the task
for a property (`task.has_masks`) or for a behavior (`task.hooks["report"]`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from blemish.registry import Registry

Hook = str | Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class TaskFields:
    """What a task consists of.

    Attributes:
        summary: one line: the ground truth and the prediction.
        ground_truth: what every labeled image must contain: exactly one label, any number of labels, nothing
            or the one label of everything that is not good, exactly one box, any number of boxes, or any
            number of masks (which contain boxes).
        min_labels: the smallest number of labels of a model.
        scorable_ground_truth: names of further tasks whose ground truth can measure a model of this task.
        primary_metric: chooses the best epoch and heads the report.
        validation_metrics: what every validation during training measures.
        leading_metrics: shown first in the report, after the primary metric.
        summary_metrics: shown on one screen by `info`, in this order.
        comparison_metrics: the columns of `compare`.
        label_metric: the metric of one label in `compare`, or "".
        losses: the losses a recipe may choose, the default first; empty if each network has its own.
        counted: what precision and recall count: "images" or "objects".
        default_format: the format in which a data set of this task is written by default.
        hub_tag: the pipeline tag of the Hugging Face Hub.
        unlabeled_format: the format that reads a folder of images without labels for this task; "" if images
            without labels are no data set.
        decision_rule: how a prediction becomes a decision, for a table of labels; "" for the label's
            threshold.
        torch_free_architectures: what the hook `train_command` trains: a summary by name, the default first.
        hooks: behaviors that live in other packages, by name: a callable, or "module:attribute", imported
            at the first use. Known names: `convert`, `synthesize`, `synthetic_labels`, `describe`,
            `check_sample`, `target_encoder`, `validate`, `report`, `abstention`, `decision_differences`,
            `decision_error`, `convert_labels`, `train_command` (see `blemish.tasks`).
    """

    summary: str
    ground_truth: Literal["one-label", "labels", "good-or-not", "one-box", "boxes", "masks"]
    min_labels: int = 1
    scorable_ground_truth: tuple[str, ...] = ()
    primary_metric: str
    validation_metrics: tuple[str, ...]
    leading_metrics: tuple[str, ...]
    summary_metrics: tuple[str, ...]
    comparison_metrics: tuple[str, ...]
    label_metric: str = ""
    losses: tuple[str, ...] = ()
    counted: Literal["images", "objects"]
    default_format: str
    hub_tag: str
    unlabeled_format: str = ""
    decision_rule: str = ""
    torch_free_architectures: Mapping[str, str] = field(default_factory=dict)
    hooks: Mapping[str, Hook] = field(default_factory=dict)


TASKS: Registry[Task] = Registry("tasks", noun="task", builtin="blemish.tasks")


class _TaskType(type):
    """Look up `Task.DETECTION` and iterate over all tasks, as an enumeration would."""

    def __getattr__(cls, name: str) -> Task:
        lower = name.lower()
        if name.isupper() and lower in TASKS:
            return TASKS.get(lower)
        raise AttributeError(f"type object 'Task' has no attribute {name!r}")

    def __iter__(cls) -> Iterator[Task]:
        return (task for _, task in TASKS.items())


class Task(str, metaclass=_TaskType):
    """One task, equal to its name and unique, so that `is` compares tasks.

    Attributes:
        fields: everything that depends on the task.

    Raises:
        UnknownName: no task has that name; the message offers the nearest.

    Example:
        >>> Task("detection").primary_metric
        'ap'
        >>> [task for task in Task if task.has_masks]
        ['segmentation']
    """

    fields: TaskFields

    def __new__(cls, name: str) -> Self:
        """Return the registered task of that name."""
        return name if isinstance(name, cls) else TASKS.get(str(name))  # type: ignore[return-value]

    @classmethod
    def define(cls, name: str, fields: TaskFields, *, module: str) -> Task:
        """Register a new task and return it.

        Args:
            name: lower case; what a recipe and `--task` take.
            fields: everything that depends on it.
            module: the defining module, usually `__name__`.

        Raises:
            DuplicateName: another module defines a task of that name.
        """
        task = str.__new__(cls, name)
        object.__setattr__(task, "fields", fields)
        TASKS.register(name, task, module=module)
        return task

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a task is constant: {name} cannot be set")

    def __reduce__(self) -> tuple[type[Task], tuple[str]]:
        return Task, (str.__str__(self),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __str__(self) -> str:
        return str.__str__(self)

    @property
    def is_image_level(self) -> bool:
        """Whether a prediction is a score per label for the whole image."""
        return self.fields.ground_truth in ("one-label", "labels", "good-or-not")

    @property
    def has_one_label(self) -> bool:
        """Whether the labels exclude each other: every image has exactly one (softmax)."""
        return self.fields.ground_truth == "one-label"

    @property
    def has_label_set(self) -> bool:
        """Whether every label of an image is decided on its own, at a threshold (sigmoid)."""
        return self.fields.ground_truth in ("labels", "good-or-not")

    @property
    def is_one_class(self) -> bool:
        """Whether models learn from good images only; their scores are distances, not probabilities."""
        return self.fields.ground_truth == "good-or-not"

    @property
    def has_boxes(self) -> bool:
        """Whether ground truths and predictions contain boxes."""
        return not self.is_image_level

    @property
    def has_one_box(self) -> bool:
        """Whether every image has exactly one box."""
        return self.fields.ground_truth == "one-box"

    @property
    def has_objects(self) -> bool:
        """Whether an image has any number of scored objects, with boxes or with masks."""
        return self.fields.ground_truth in ("boxes", "masks")

    @property
    def has_masks(self) -> bool:
        """Whether every object has a mask."""
        return self.fields.ground_truth == "masks"

    @property
    def primary_metric(self) -> str:
        """The metric that chooses the best epoch and heads the report."""
        return self.fields.primary_metric

    def can_score(self, ground_truth: Task) -> bool:
        """Return whether ground truth of another task can measure a model of this one."""
        return self is ground_truth or ground_truth in self.fields.scorable_ground_truth

    def hook(self, name: str) -> Callable[..., Any]:
        """Return one behavior of this task.

        Raises:
            KeyError: the task has no such behavior.
        """
        hook = self.fields.hooks[name]
        if callable(hook):
            return hook
        module, _, attribute = hook.partition(":")
        behavior: Callable[..., Any] = getattr(import_module(module), attribute)
        return behavior

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls, serialization=core_schema.to_string_ser_schema(when_used="json")
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "enum": [str(task) for task in cls], "title": "Task"}


def tasks_by_name() -> Mapping[str, Task]:
    """Return every registered task by name."""
    return MappingProxyType(dict(TASKS.items()))
