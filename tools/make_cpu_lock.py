"""Write the requirements of a machine without NVIDIA GPU from `requirements/dev.txt`, for `make lock`.

PyPI's PyTorch for Linux is a CUDA build. `dev-cpu.txt` is the developers' set without it and without the
libraries that only it needs; `torch-cpu.txt` has the versions of PyTorch to install from another index,
without hashes: each build has its own.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

TORCH = ("torch", "torchvision")
_CUDA = re.compile(r"nvidia-|cuda-|triton$")


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the name and the lines of each entry of a file of requirements with hashes.

    A package may have several entries, each for other systems or versions of Python.
    """
    found = [block for block in re.split(r"(?m)^(?=[A-Za-z0-9])", text) if block.strip()]
    return [(re.split(r"[=\[ ]", block, maxsplit=1)[0], block) for block in found]


def without_cuda(text: str) -> tuple[str, str]:
    """Return the requirements without PyTorch and CUDA, and those of PyTorch by version alone."""
    found = blocks(text)
    rest = "".join(block for name, block in found if name not in TORCH and not _CUDA.match(name))
    torch = [block.split(" ", 1)[0] for name, block in found if name in TORCH]
    return rest, "".join(f"{line}\n" for line in torch)


def main(folder: Path) -> None:
    """Write both files."""
    rest, torch = without_cuda((folder / "dev.txt").read_text("utf-8"))
    (folder / "dev-cpu.txt").write_text(rest, "utf-8")
    (folder / "torch-cpu.txt").write_text(torch, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "requirements"))
