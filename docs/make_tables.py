"""Write docs/models.md from the registry: `make docs`. A test fails when the file is older than the code."""

from __future__ import annotations

from pathlib import Path

TARGET = Path(__file__).with_name("models.md")


def table() -> str:
    """The page: one row an architecture or family."""
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
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    TARGET.write_text(table(), encoding="utf-8")
