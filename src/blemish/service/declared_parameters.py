"""Query parameters and form fields that a route does not have: refused by name, never ignored."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request

from blemish.errors import nearest_name
from blemish.service.problem_details import Problem

_MAX_SHOWN = 40  # characters of a client's name in a message
# What other servers and command lines call our parameters.
_SYNONYMS = {
    "min_score": ("conf", "confidence", "conf_thres", "conf_threshold", "score", "threshold"),
    "explain": ("heatmap", "gradcam", "grad_cam", "explanation", "cam"),
    "label": ("class", "target", "class_name"),
    "model": ("mode", "model_name", "version"),
    "image": ("images", "img", "photo", "picture", "upload", "data"),
}


async def check_query(request: Request) -> None:
    """Refuse a request with a query parameter that its route does not declare, or that occurs twice.

    A dependency of every route, also of those that plug-ins add.

    Raises:
        Problem: `bad-parameter.unknown` or `bad-parameter.repeated`.
    """
    if not request.query_params:
        return
    declared = dict(_query_parameters(request.scope.get("route")))
    seen = set()
    for name, _ in request.query_params.multi_items():
        if name not in declared:
            raise unknown_problem(name, declared, place="query")
        if name in seen and not declared[name]:
            raise repeated_problem(name)
        seen.add(name)


def declared_names(request: Request) -> list[str]:
    """Return the names of the query parameters of the route that handles `request`."""
    return [name for name, _ in _query_parameters(request.scope.get("route"))]


def unknown_problem(
    name: str, known: Iterable[str], *, place: str, elsewhere: Iterable[str] = (), place_of_others: str = ""
) -> Problem:
    """Return the problem of a name that a route does not have.

    Args:
        name: the name that the client sent.
        known: the names that the route has.
        place: where it was: `query` or `form`.
        elsewhere: names that are known in another place.
        place_of_others: that place.
    """
    known = list(known)
    what = "query has a parameter" if place == "query" else "form has a field"
    detail = f"The {what} {shown_name(name)}, which is unknown here."
    if name in elsewhere:
        detail = f"The {what} {shown_name(name)}, which belongs into the {place_of_others}. Move it there."
    else:
        near = _nearest([*known, *elsewhere], name)
        if near is not None:
            belongs = f" in the {place_of_others}" if near not in known and place_of_others else ""
            detail += f" Did you mean {near!r}{belongs}?"
        names = ", ".join(known)
        detail += f" Known here: {names}." if names else f" There are none in the {place}."
    return Problem("bad-parameter.unknown", detail)


def repeated_problem(name: str) -> Problem:
    """Return the problem of a parameter or field that occurs twice."""
    return Problem("bad-parameter.repeated", f"{shown_name(name)} occurs twice. Send it once.")


def shown_name(name: str) -> str:
    """Return a client's name in quotation marks, without control characters, and shortened.

    Example:
        >>> print(shown_name("a" * 99))
        'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…'
    """
    printable = "".join(c if c.isprintable() and c not in "<>&'\\" else "?" for c in name[:_MAX_SHOWN])
    return f"'{printable}{'…' * (len(name) > _MAX_SHOWN)}'"


def _nearest(known: list[str], name: str) -> str | None:
    folded = name.casefold().replace("-", "_")
    for ours, others in _SYNONYMS.items():
        if ours in known and folded in others:
            return ours
    return nearest_name(folded, known)


def _query_parameters(route: Any) -> Iterator[tuple[str, bool]]:
    """Yield the name of each query parameter, and whether it may occur several times."""
    if isinstance(route, APIRoute):
        yield from _query_parameters_of(route.dependant)


def _query_parameters_of(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name, inner in annotation.model_fields.items():
                yield inner.alias or name, _is_sequence(inner.annotation)
        else:
            yield field.alias, _is_sequence(annotation)
    for inner_dependant in dependant.dependencies:
        yield from _query_parameters_of(inner_dependant)


def _is_sequence(annotation: Any) -> bool:
    origins = [typing.get_origin(annotation) or annotation]
    origins += [typing.get_origin(argument) or argument for argument in typing.get_args(annotation)]
    return any(origin in (list, set, tuple, frozenset) for origin in origins)
