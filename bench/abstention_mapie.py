"""Compare the labels that `blemish.abstention` keeps with the prediction sets of MAPIE.

    python bench/abstention_mapie.py --mapie-python /path/to/venv/bin/python

MAPIE's split conformal classifier with the score 1 - p of the label (LAC) is calibrated on the images of one
label at a time, which gives one quantile per label.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

MAPIE = """
import sys
import mapie
import numpy as np
from mapie.classification import SplitConformalClassifier
from sklearn.base import BaseEstimator, ClassifierMixin


class Given(ClassifierMixin, BaseEstimator):
    def __init__(self, labels=2):
        self.labels = labels

    def fit(self, x, y):
        return self

    @property
    def classes_(self):
        return np.arange(self.labels)

    def predict_proba(self, x):
        return x

    def predict(self, x):
        return x.argmax(1)

    def __sklearn_is_fitted__(self):
        return True


data = np.load(sys.argv[1])
sets = []
for risk in data["risks"]:
    kept = np.zeros(data["new"].shape, bool)
    for label in range(data["new"].shape[1]):
        rows = data["actual"] == label
        conformal = SplitConformalClassifier(
            Given(data["new"].shape[1]), confidence_level=1 - float(risk), conformity_score="lac", prefit=True
        )
        conformal.conformalize(data["calibration"][rows], data["actual"][rows])
        kept[:, label] = conformal.predict_set(data["new"])[1][:, label, 0]
    sets.append(kept)
np.save(sys.argv[2], np.stack(sets))
print("mapie", mapie.__version__)
"""


def draw(rng: np.random.Generator, count: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (n, L) of an imperfect classifier of unbalanced labels, and the true labels."""
    shares = np.arange(1, labels + 1) / np.arange(1, labels + 1).sum()
    actual = rng.choice(labels, count, p=shares)
    logits = rng.normal(size=(count, labels)) + 1.5 * np.eye(labels)[actual]
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), actual


def main() -> None:
    """Print the number of differing memberships."""
    from blemish.abstention import possible_sides
    from blemish.model_file import LabelScores

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mapie-python", required=True, help="Python of an environment with mapie.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    (calibration, actual), (new, _) = draw(rng, 600, 4), draw(rng, 2000, 4)
    calibration, new = calibration.round(6), new.round(6)  # as a model file stores scores
    calibration[:, 0] = 1 - calibration[:, 1:].sum(1)
    new[:, 0] = 1 - new[:, 1:].sum(1)
    risks = np.array([0.03, 0.05, 0.1, 0.2])
    own = np.zeros((len(risks), *new.shape), bool)
    for label in range(new.shape[1]):
        scores = sorted(round(float(s), 6) for s in calibration[actual == label, label])
        known = LabelScores(present=tuple(scores))
        for i, risk in enumerate(risks):
            own[i, :, label] = [possible_sides(known, float(s), float(risk))[0] for s in new[:, label]]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "scores.npz"), Path(folder, "sets.npy")
        np.savez(given, calibration=calibration, actual=actual, new=new, risks=risks)
        subprocess.run([options.mapie_python, "-c", MAPIE, str(given), str(made)], check=True)
        theirs = np.load(made)
    for risk, a, b in zip(risks, own, theirs, strict=True):
        sizes = f"mean set size {a.sum(1).mean():.3f} (Blemish), {b.sum(1).mean():.3f} (MAPIE)"
        sys.stdout.write(f"risk {risk:g}: {int((a != b).sum())} of {a.size} memberships differ; {sizes}\n")


if __name__ == "__main__":
    main()
