"""Run a tool of the environment .venv on any system: in bin on Linux and macOS, in Scripts on Windows.

python tools/venv_run.py ruff check --fix FILE...
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

VENV = Path(__file__).resolve().parents[1] / ".venv"


def tool_path(name: str, venv: Path = VENV) -> Path:
    """Return the path of an executable in the environment.

    Raises:
        SystemExit: the environment or the tool does not exist.
    """
    for path in (venv / "bin" / name, venv / "Scripts" / f"{name}.exe"):
        if path.is_file():
            return path
    raise SystemExit(f"{name} is not installed in {venv}; run: make check")


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    sys.exit(subprocess.run([tool_path(name), *arguments], check=False).returncode)
