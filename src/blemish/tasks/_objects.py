"""What detection and segmentation share: any number of scored objects per image."""

from __future__ import annotations

from collections import Counter

from blemish.structures import Labels, Prediction


def synthetic_labels(damage: Labels, clean: tuple[str, str]) -> Labels:
    """Return the labels of a synthetic data set: those of the damage."""
    return damage


def describe(prediction: Prediction) -> str:
    """Return how many objects of each label reach its threshold, with the best score of each."""
    display_names = prediction.labels.display_names
    sure = prediction.filter_scores()
    if not len(sure):
        return "nothing found"
    counts = Counter(sure.label_index.tolist())
    best = {i: sure.scores[sure.label_index == i].max() for i in counts}
    sentence = ", ".join(
        f"{count} x {display_names[i]} (best {best[i]:.1%})"
        for i, count in sorted(counts.items(), key=lambda item: -best[item[0]])
    )
    empty = sum(mask.area == 0 for mask in sure.masks or ())
    return f"{sentence}; {empty} without an outline" if empty else sentence
