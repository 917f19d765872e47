"""Remove information about the exporting machine and its source files from a graph."""

from __future__ import annotations

from typing import Any


def make_anonymous(graph: Any) -> None:
    """Remove source paths, stack traces and module names from a graph."""
    graph.doc_string = ""
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    make_anonymous(inner)
