"""Write the metadata of Blemish next to its source code, where it runs without being installed.

    python tools/write_metadata.py FOLDER

The container copies the source code instead of installing it. Python finds entry points (the plug-ins that
ship with Blemish) only in a `.dist-info` directory; this writes one with the entry points of
`pyproject.toml` into FOLDER, which has to be on `PYTHONPATH`. It needs nothing but Python.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def write_metadata(folder: Path) -> Path:
    """Write the `.dist-info` directory into `folder` and return its path."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    version_file = (ROOT / "src" / "blemish" / "_version.py").read_text("utf-8")
    version = re.findall(r'^__version__ = "([^"]+)"', version_file, re.MULTILINE)[0]
    lines = []
    for group, points in project.get("entry-points", {}).items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items()), ""]
    target = folder / f"{project['name']}-{version}.dist-info"
    target.mkdir(parents=True, exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n"
    (target / "METADATA").write_text(metadata, "utf-8")
    (target / "entry_points.txt").write_text("\n".join(lines), "utf-8")
    return target


if __name__ == "__main__":
    write_metadata(Path(sys.argv[1]))
