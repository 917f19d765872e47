"""A Griffe extension for `make docs` that reads the section "Example:" as the section "Examples" of Griffe.

Griffe renders an unknown section as Markdown, in which the output `['a']` of an example is a broken link.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class DocstringSections(griffe.Extension):
    """Renames the sections of docstrings that Griffe does not know."""

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        """Rename the sections of one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
