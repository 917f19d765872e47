"""Fail if a page of the documentation site loads a script, style, font or image from another host.

python tools/check_site.py site
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=["']?(?:https?:)?//[^\s"'>]+"""
    r"""|<link\b(?![^>]*\brel=["']?canonical)[^>]*\bhref=["']?(?:https?:)?//[^\s"'>]+""",
    re.IGNORECASE,
)
STYLE = re.compile(r"""url\(\s*["']?(?:https?:)?//[^)]+|@import\s+["'](?:https?:)?//[^"']+""", re.IGNORECASE)


def external_assets(folder: Path) -> list[str]:
    """Return "file: tag" for everything that a browser would load from another host.

    Args:
        folder: of the built site.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        pattern = {".html": LOADED, ".css": STYLE}.get(path.suffix)
        if pattern is not None:
            text = path.read_text(encoding="utf-8")
            found += [
                f"{path.relative_to(folder)}: {match.group()[:120]}" for match in pattern.finditer(text)
            ]
    return found


def main() -> int:
    """Print the external assets and return the exit code."""
    found = external_assets(Path(sys.argv[1] if len(sys.argv) > 1 else "site"))
    print("\n".join(found) or "the site loads nothing from other hosts")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
