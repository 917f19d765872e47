"""Validation figures of fine-tuning settings by mean over seeds, and those of one setting on the test split.

    python bench/fine_tuning.py DATA [--recipe fine-tune] [--seeds 0 1 2] [--test]
        [--setting "name: training.ema=0.99 training.epochs=12"] ...

DATA has the splits train, val and (with --test) test; `blemish data split` writes them. Without --setting,
the recipe itself is measured. Choose settings without --test; measure the chosen one with it, once.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from blemish.data import open_dataset
from blemish.evaluation import evaluate
from blemish.training import train

COLUMNS = ("log_loss", "macro_ap", "macro_f1")


def measure(given, settings, seed):
    """Return the metrics of one training, and its processor time in seconds."""
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = train(
            given.recipe,
            data=given.data,
            output=Path(folder) / "run",
            device="cpu",
            set=[*settings, f"training.seed={seed}", "training.workers=0", "training.tensorboard=false"],
        )
        seconds = time.process_time() - start
        if not given.test:
            return [run.metrics[name] for name in COLUMNS], seconds
        report = evaluate(run.model_file, open_dataset(given.data), split="test")
        parts = [f"{name} {report.metrics[name].value:.3f}" for name in COLUMNS]
        primary = report.metrics["macro_f1"]
        parts.append(f"macro F1 from {primary.low:.3f} to {primary.high:.3f}")
        parts += [f"{row.label} F1 {row.metrics['f1'].value:.3f}" for row in report.label_rows]
        print(f"seed {seed}: {', '.join(parts)}", flush=True)
        return [report.metrics[name].value for name in COLUMNS], seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="fine-tune")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--setting", action="append", default=[], metavar="NAME: KEY=VALUE ...")
    parser.add_argument("--test", action="store_true")
    given = parser.parse_args()
    print(f"| setting | {' | '.join(COLUMNS)} | CPU-seconds |\n|---|{'---|' * (len(COLUMNS) + 1)}")
    for setting in given.setting or ["the recipe:"]:
        name, _, keys = setting.partition(":")
        rows = [measure(given, keys.split(), seed) for seed in given.seeds]
        values = np.array([row for row, _ in rows])
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(values.mean(0), values.std(0), strict=True)]
        seconds = np.mean([seconds for _, seconds in rows])
        print(f"| {name} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
