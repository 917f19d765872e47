"""Labels needed to reach a macro F1: images of `blemish data next` against random ones.

    python bench/label_selection.py DATA [--draws 10] [--target 0.78] [--step 20] [--max-labels 600]

DATA is a labeled data set for classification. A quarter of the images is held out, near-identical ones on one
side. Each draw begins with the same random images for every strategy; then a logistic regression on frozen
features of EfficientNet-Lite0 (as `train --few` has) is fitted, the strategy adds images, and so on. Prints
the mean number of labels at which the macro F1 on the held-out images first reaches the target, with its 95 %
interval (Student's t), the paired difference from random, and the macro F1 at fixed numbers of labels. A
draw that never reaches the target counts with the maximum.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from blemish.data import open_dataset, split_dataset
from blemish.data.image_hashes import hash_images
from blemish.few_shot.features import FeatureExtractor, input_spec
from blemish.few_shot.legacy_pth import read_legacy_pth
from blemish.inference.label_selection import choose_diverse
from blemish.pretrained import find_pretrained

T_95 = {3: 4.303, 5: 2.776, 10: 2.262, 20: 2.093}
STRATEGIES = ("random", "uncertain", "uncertain x diverse")
COMPONENTS = 32


def uncertainty_of(model, features):
    top = np.sort(model.predict_proba(features), axis=1)
    return 1 - (top[:, -1] - top[:, -2])


def choose(strategy, model, features, reduced, labeled, count, rng):
    left = np.setdiff1d(np.arange(len(features)), labeled)
    if strategy == "random":
        return rng.permutation(left)[:count]
    weights = uncertainty_of(model, features[left])
    if strategy == "uncertain":
        return left[np.argsort(-weights)[:count]]
    return left[choose_diverse(weights, reduced[left], count, reduced[labeled])[0]]


def run(strategy, start, train, test, given, seed):
    """Return the macro F1 after each step."""
    rng = np.random.default_rng(1000 + seed)
    labeled, scores = list(start), []
    while True:
        model = LogisticRegression(C=0.01, max_iter=500).fit(train[0][labeled], train[2][labeled])
        scores.append(f1_score(test[1], model.predict(test[0]), average="macro"))
        if len(labeled) + given.step > given.max_labels:
            return scores
        labeled += choose(strategy, model, train[0], train[1], labeled, given.step, rng).tolist()


def interval(values):
    return T_95.get(len(values), 1.96) * np.std(values, ddof=1) / math.sqrt(len(values))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--target", type=float, default=0.78)
    parser.add_argument("--step", type=int, default=20)
    parser.add_argument("--max-labels", type=int, default=600)
    parser.add_argument("--input-size", type=int, default=128)
    given = parser.parse_args()
    dataset = open_dataset(given.data)
    dataset = replace(dataset, samples=tuple(replace(s, split=None) for s in dataset))
    whole = split_dataset(dataset, fractions={"train": 0.75, "test": 0.25}, group_by="near-duplicates")
    weights = read_legacy_pth(find_pretrained("efficientnet-lite0")[0])
    extractor = FeatureExtractor("efficientnet-lite0", weights, input_spec(given.input_size))
    arrays = {}
    for split in ("train", "test"):
        samples = whole.of_split(split).samples
        arrays[split] = extractor.of_samples(samples, hash_images(samples).pixel).astype(np.float64)
        arrays[f"{split} labels"] = np.array([int(s.ground_truth.label_index[0]) for s in samples])
    mean, scale = arrays["train"].mean(0), arrays["train"].std(0) + 1e-9
    features, held_out = ((arrays[name] - mean) / scale for name in ("train", "test"))
    directions = np.linalg.svd(features, full_matrices=False)[2][:COMPONENTS]
    projected = features @ directions.T
    train = (features, projected / projected.std(0), arrays["train labels"])
    test = (held_out, arrays["test labels"])
    print(f"{len(features)} images to choose from, {len(held_out)} held out, {', '.join(whole.labels.names)}")
    needed, curves = {}, {}
    for strategy in STRATEGIES:
        rows = []
        for seed in range(given.draws):
            rng = np.random.default_rng(seed)
            start = rng.permutation(len(features))[: given.step]
            rows.append(run(strategy, start, train, test, given, seed))
        curves[strategy] = np.array(rows)
        reached = curves[strategy] >= given.target
        first = np.where(reached.any(1), reached.argmax(1) + 1, curves[strategy].shape[1])
        needed[strategy] = first * given.step
    print(
        f"| strategy | labels to macro F1 {given.target} | fewer than random | not reached "
        "| F1 at 100 | F1 at 300 |"
    )
    print("|---|---|---|---|---|---|")
    for strategy in STRATEGIES:
        labels, curve = needed[strategy], curves[strategy]
        fewer = needed["random"] - labels
        missed = int((~(curve >= given.target).any(1)).sum())
        at = [curve[:, count // given.step - 1].mean() for count in (100, 300)]
        print(
            f"| {strategy} | {labels.mean():.0f} ± {interval(labels):.0f} | {fewer.mean():.0f} ± "
            f"{interval(fewer):.0f} | {missed} of {given.draws} | {at[0]:.3f} | {at[1]:.3f} |"
        )


if __name__ == "__main__":
    main()
