"""CPU-seconds and wall time of whole processes of `blemish demo`, one after the other, and their ratio.

    python bench/demo_cost.py --seeds 0 1 2 [--before PYTHON SOURCE]

Each demo runs in a process of its own, with an empty cache folder and an empty output folder. `--before`
names the interpreter and the source folder of an older checkout, whose demo runs first, once, with its
defaults. Prints a table; the ratio is the mean of the seeds divided by the demo of the older checkout.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"


def run_demo(python, source, arguments):
    """Run one demo; return CPU-seconds, wall seconds, and macro F1 and macro AUROC on its test split."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "PYTHONPATH": str(source),
            "XDG_CACHE_HOME": f"{folder}/cache",
            "BLEMISH_CACHE": f"{folder}/cache",
        }
        command = [str(python), "-m", "blemish", "demo", "--output", f"{folder}/demo", *arguments]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {done.stderr[-2000:]}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        report = json.loads(Path(folder, "demo/report/report.json").read_text(encoding="utf-8"))
        metrics = report.get("metrics") or report["figures"]  # the older report's name
        return cpu, seconds, *(metrics[name]["value"] for name in ("macro_f1", "macro_auroc"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--before", type=Path, nargs=2, metavar=("PYTHON", "SOURCE"))
    given = parser.parse_args()
    print("| demo | CPU s | wall s | macro F1 | macro AUROC |\n|---|---|---|---|---|", flush=True)
    earlier = None
    if given.before:
        earlier = run_demo(*given.before, [])
        print_row("before", earlier)
    rows = []
    for seed in given.seeds:
        rows.append(run_demo(sys.executable, SOURCE, ["--seed", str(seed)]))
        print_row(f"seed {seed}", rows[-1])
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    print_row("mean", mean)
    if earlier:
        print(f"\nCPU-seconds of the demo divided by those of the older checkout: {mean[0] / earlier[0]:.3f}")


def print_row(name, row):
    cpu, seconds, f1, auroc = row
    print(f"| {name} | {cpu:.1f} | {seconds:.1f} | {f1:.3f} | {auroc:.3f} |", flush=True)


if __name__ == "__main__":
    main()
