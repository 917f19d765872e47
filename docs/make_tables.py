"""Write the pages of docs/ that are made from the code: `make docs`. A test fails when one is out of date."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent


def pages() -> dict[Path, str]:
    """Return the text of every generated page by its file."""
    return {DOCS / "models.md": architectures_page(), DOCS / "recipe.md": recipe_page()}


def architectures_page() -> str:
    """Return the table of architectures: one row per architecture or family."""
    from blemish.models import families

    rows = [
        "# The architectures",
        "",
        "Made from the registry by `make docs`. `blemish models NAME --layers` says more of each.",
        "",
        "| name | tasks | what it is | input | license | needs |",
        "|---|---|---|---|---|---|",
    ]
    for family in families():
        found = family[0]
        cells = (
            ", ".join(f"`{member.name}`" for member in family),
            ", ".join(found.tasks),
            found.summary,
            ", ".join(sorted({" x ".join(map(str, member.input_size_hw)) for member in family})),
            found.license,
            f"`{found.extra}`" if found.extra else "",
        )
        rows.append(table_row(cells))
    return "\n".join(rows) + "\n"


def recipe_page() -> str:
    """Return the reference of recipe keys: one table per section, and one per group of architectures."""
    from blemish.config.key_names import PEER_KEYS
    from blemish.config.schema_reference import describe_options, describe_schema

    lines = [
        "# Recipe reference",
        "",
        "Made from the schema by `make docs`. `blemish config show RECIPE` prints the same keys with the values",
        "of a recipe, `blemish config list` lists the built-in recipes. A recipe is a YAML file; the command",
        "line sets single keys with `--set`, and later sources win:",
        "",
        "```",
        "blemish train --recipe solar-defective --data photos/ --set training.epochs=3",
        "```",
        "",
    ]
    rows = describe_schema()
    for title, prefix in (
        ("The run", ""),
        ("The network", "model."),
        ("The data", "data."),
        ("Augmentation", "augmentation."),
        ("Training", "training."),
    ):
        own = [row for row in rows if (row.key.startswith(prefix) if prefix else "." not in row.key)]
        lines += [f"## {title}", "", *key_table(own)]
    lines += ["## Options of built-in architectures", ""]
    for architectures, options in describe_options():
        lines += [f"### {architectures}", "", *key_table(options)]
    lines += ["## Names of other tools", "", "Blemish answers these keys with the name to write:", ""]
    lines += [table_row(("other name", "in a recipe")), "|---|---|"]
    lines += [
        table_row((f"`{name}`", target.removeprefix("; ") if target.startswith(";") else f"`{target}`"))
        for name, target in sorted(PEER_KEYS.items())
    ]
    return "\n".join(lines) + "\n"


def key_table(rows: Iterable[Any]) -> list[str]:
    """Return the lines of a table of recipe keys, followed by an empty line."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for row in rows:
        default = row.default if row.default == "required" else f"`{json.dumps(row.default)}`"
        lines.append(table_row((f"`{row.key}`", row.type, default, row.meaning)))
    return [*lines, ""]


def table_row(cells: Iterable[str]) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
