"""Size, duration and packages of a fresh environment of `make demo`, or of any requirements file.

    python bench/install_cost.py [--requirements requirements/demo.txt] [--keep DIR]

Makes a virtual environment, installs the pinned packages with their hashes and then Blemish, and prints
megabytes on disk (as `du -sm` counts: whole blocks) as installed and with the bytecode of every module, wall
and processor time without that bytecode, the number of packages and whether PyTorch is one of them. uv
installs if the running environment has it, otherwise pip.
Packages come from the installer's cache if it has them: `--no-cache` downloads all of them.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def megabytes(folder):
    """Return the space that the files of a folder take on disk; a file with several names counts once."""
    blocks = {}
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            status = os.lstat(Path(parent) / name)
            blocks[status.st_dev, status.st_ino] = getattr(status, "st_blocks", status.st_size // 512) * 512
    return sum(blocks.values()) / 2**20


def install(environment, requirements, *, no_cache):
    """Make the environment and install the requirements and Blemish."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    command = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
    target = ["--python", str(python)]
    more = ["--no-cache" if uv else "--no-cache-dir"] if no_cache else []
    steps = (["--require-hashes", "-r", str(requirements)], ["--no-deps", str(ROOT)])
    for step in steps:
        words = ["install", *target] if uv else [*target, "install"]
        done = subprocess.run([*command, *words, "--quiet", *more, *step], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} {' '.join(step)}: {done.stderr[-2000:]}")
    return python


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requirements", type=Path, default=ROOT / "requirements/demo.txt")
    parser.add_argument("--no-cache", action="store_true", help="download every package")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make the environment there and keep it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = (given.keep or Path(folder) / "environment").absolute()
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        python = install(environment, given.requirements.absolute(), no_cache=given.no_cache)
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        size = megabytes(environment)
        subprocess.run([str(python), "-m", "compileall", "-q", "-j", "0", environment], check=False)
        listing = (
            "import importlib.metadata as m, importlib.util as u; "
            "print(len(list(m.distributions())), 'absent' if u.find_spec('torch') is None else 'installed')"
        )
        found = subprocess.run([str(python), "-c", listing], check=True, capture_output=True, text=True)
        packages, torch = found.stdout.split()
        sizes = f"{size:.0f} MB | {megabytes(environment):.0f} MB"
        print("| requirements | size | with bytecode | wall time | processor time | packages | PyTorch |")
        print(f"|{'---|' * 7}")
        name = given.requirements.name
        print(f"| {name} | {sizes} | {seconds:.1f} s | {cpu:.1f} s | {packages} | {torch} |")


if __name__ == "__main__":
    main()
