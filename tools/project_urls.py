"""Add the project URLs of the repository that a release is built in to pyproject.toml.

    python tools/project_urls.py https://HOST/OWNER/NAME

The release workflow runs this before it builds, so that a package names the repository that it comes from,
also in a fork.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def with_urls(text: str, repository: str) -> str:
    """Return the text of a pyproject.toml with the table of project URLs.

    Args:
        text: the file without such a table.
        repository: the address of the repository.

    Raises:
        ValueError: the file has such a table already.
    """
    if "[project.urls]" in text:
        raise ValueError("pyproject.toml already has project URLs")
    base = repository.rstrip("/")
    urls = {
        "Repository": base,
        "Documentation": f"{base}/blob/main/docs/index.md",
        "Issues": f"{base}/issues",
        "Changelog": f"{base}/blob/main/CHANGELOG.md",
        "Security": f"{base}/blob/main/SECURITY.md",
    }
    lines = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    return f"{text.rstrip()}\n\n[project.urls]\n{lines}"


if __name__ == "__main__":
    PROJECT.write_text(with_urls(PROJECT.read_text(encoding="utf-8"), sys.argv[1]), encoding="utf-8")
