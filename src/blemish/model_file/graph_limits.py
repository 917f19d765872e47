"""Refuse graphs that refer to other files, or whose outputs cannot be what the contract states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from blemish.errors import BadModelFile
from blemish.model_file.contract import Contract
from blemish.model_file.protobuf import GRAPH_FIELD, WireField, iter_fields

MAX_GRAPH_NESTING = 100
FUNCTIONS_FIELD, TRAINING_FIELD = 25, 20  # of ModelProto
# Fields of onnx.proto that contain messages with tensors, by the message they are in.
_CHILDREN: Mapping[str, Mapping[int, str]] = {
    "model": {GRAPH_FIELD: "graph", FUNCTIONS_FIELD: "function", TRAINING_FIELD: "training"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # of TensorProto
GRAPH_OUTPUT = 12  # of GraphProto
FLOAT_TYPES = frozenset({0, 1, 10, 11, 16})  # undefined, float, float16, double, bfloat16
TYPE_NAMES = {2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64", 8: "text", 9: "boolean"}
INTEGER_ROLES = frozenset({"labels"})
FLOAT_ROLES = frozenset({"scores", "boxes", "box", "candidates", "logits", "masks", "mask", "prototypes"})


def check_external_data(view: memoryview, fields: list[WireField], path: Path) -> None:
    """Raise `BadModelFile` if a tensor of the model is in another file.

    A model file contains its weights. A runtime that follows a reference reads any file of this machine.

    Args:
        view: the content of the file.
        fields: its top-level fields.
        path: the file, for the message.
    """
    model = _CHILDREN["model"]
    pending = [(f.body, f.end, model[f.number], 1) for f in fields if f.number in model]
    while pending:
        start, end, kind, depth = pending.pop()
        if depth > MAX_GRAPH_NESTING:
            raise BadModelFile(
                f"{path}: the graph is nested in more than {MAX_GRAPH_NESTING} levels. Export it again.",
                reason="nesting",
            )
        if kind == "tensor":
            _check_tensor(view, start, end, path)
            continue
        children = _CHILDREN[kind]
        for field in iter_fields(view, path, start, end):
            child = children.get(field.number)
            if child is not None:
                pending.append((field.body, field.end, child, depth + 1))


def check_outputs(view: memoryview, fields: list[WireField], contract: Contract, path: Path) -> None:
    """Raise `BadModelFile` if an output of the graph is not a tensor of the kind that its role needs.

    Args:
        view: the content of the file.
        fields: its top-level fields.
        contract: names the outputs and their roles.
        path: the file, for the message.
    """
    roles = {spec.name: spec.role for spec in contract.outputs}
    for graph in (f for f in fields if f.number == GRAPH_FIELD):
        for field in iter_fields(view, path, graph.body, graph.end):
            if field.number != GRAPH_OUTPUT:
                continue
            name, kind, element = _output_type(view, field, path)
            role = roles.get(name)
            if role is None:
                continue
            if kind not in (None, 1):
                raise _bad_output(path, name, role, "a sequence, map or optional value")
            is_text = element == 8
            if is_text or (role in FLOAT_ROLES - INTEGER_ROLES and element not in FLOAT_TYPES):
                raise _bad_output(path, name, role, TYPE_NAMES.get(element, f"element type {element}"))


def _check_tensor(view: memoryview, start: int, end: int, path: Path) -> None:
    for field in iter_fields(view, path, start, end):
        is_external = field.number == DATA_LOCATION and bytes(view[field.body : field.end]) != b"\0"
        if is_external or field.number == EXTERNAL_DATA:
            raise BadModelFile(
                f"{path}: weights are in another file (external data); a model file contains its weights. "
                "Export the model again in one file.",
                reason="external-data",
            )


def _output_type(view: memoryview, info: WireField, path: Path) -> tuple[str, int | None, int]:
    """Return name, field of the type (1 for a tensor) and element type of a ValueInfoProto."""
    name, kind, element = "", None, 0
    for field in iter_fields(view, path, info.body, info.end):
        if field.number == 1:
            name = bytes(view[field.body : field.end]).decode("utf-8", "replace")
        elif field.number == 2:
            for value in iter_fields(view, path, field.body, field.end):
                if value.number in (1, 4, 5, 8, 9):
                    kind = value.number
                if value.number == 1:
                    for part in iter_fields(view, path, value.body, value.end):
                        if part.number == 1 and part.end > part.body:
                            element = view[part.body]
    return name, kind, element


def _bad_output(path: Path, name: str, role: str, got: str) -> BadModelFile:
    return BadModelFile(
        f"{path}: output {name[:80]!r} of role {role!r}: expected a tensor of floating-point numbers, "
        f"got {got}. Export the model again.",
        reason="output-type",
    )
