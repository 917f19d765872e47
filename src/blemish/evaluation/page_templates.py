"""The environment of the templates of HTML pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blemish.errors import MissingExtra

if TYPE_CHECKING:
    import jinja2


def template_environment() -> jinja2.Environment:
    """Return the jinja2 environment of the templates in this package; it escapes every text.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("eval", "the HTML report") from error
    return jinja2.Environment(
        loader=jinja2.PackageLoader("blemish.evaluation", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
