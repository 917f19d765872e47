"""Measure anomaly models on the demonstration's cells, learned from good cells only.

    python bench/anomaly_cells.py --seeds 0 1 2 --models patch-memory gaussian

Each seed draws the split of the demonstration. No label of a defect is used in the training; those of the
test split measure. Prints one JSON line per seed and model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from blemish.data import open_dataset, split_dataset
from blemish.demo import FRACTIONS, write_cells
from blemish.evaluation import evaluate
from blemish.few_shot.anomaly_trainer import train_anomaly


def main() -> None:
    """Train and evaluate each model with each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=["patch-memory", "gaussian"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = write_cells(Path(folder) / "cells")
        data = open_dataset(table, task="anomaly")
        for seed in options.seeds:
            cells = split_dataset(data, fractions=FRACTIONS, seed=seed, group_by="near-duplicates")
            for model in options.models:
                started = time.process_time()
                run = train_anomaly(
                    cells, output=Path(folder) / f"{model}-{seed}", model=model, seed=seed, threads=1
                )
                trained = time.process_time() - started
                report = evaluate(run.model_file, cells, split="test", thumbnails=False, threads=1)
                values = {n: m.to_dict() for n, m in report.metrics.items() if m.value is not None}
                facts = {
                    "seed": seed,
                    "model": model,
                    "images": report.images,
                    "train_cpu_seconds": round(trained, 1),
                    "file_bytes": run.model_file.stat().st_size,
                }
                print(json.dumps({**facts, "metrics": values}), flush=True)


if __name__ == "__main__":
    main()
