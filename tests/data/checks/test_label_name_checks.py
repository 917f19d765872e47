"""Checks of label names, and of labels with too few images."""

import shutil
import time

import numpy as np
from PIL import Image

from blemish.data.audit import check
from blemish.data.checks.label_names import check_similar_names
from blemish.structures import Dataset, Labels, Task


def test_labels_empty_and_repeated(plant):
    planted = plant("coco")
    planted.coco(lambda c: c["categories"].append({"id": 50, "name": " "}))
    assert set(check(planted.root).counts) == {"empty-label", "unused-label"}
    shutil.rmtree(planted.root)
    planted = plant("coco")
    planted.coco(lambda c: c["categories"].append({"id": 50, "name": "dent"}))
    assert set(check(planted.root).counts) == {"repeated-label"}


def test_labels_near_duplicates(plant):
    planted = plant("folders")
    label = next(p for p in sorted(planted.root.iterdir()) if p.is_dir())
    other = label.with_name(label.name + "s")
    other.mkdir()
    for path in sorted(label.iterdir())[:10]:
        path.rename(other / path.name)
    found = check(planted.root)
    assert "similar-labels" in set(found.counts)
    assert set(found.counts) <= {"similar-labels", "few-examples"}


def test_labels_unused_and_few_examples(plant):
    planted = plant("folders")
    (planted.root / "rust").mkdir()
    found = check(planted.root)
    assert set(found.counts) <= {"unused-label", "empty-label"}
    assert "rust" in found.findings[0].message

    extra = planted.root / "rust" / "r.png"
    Image.fromarray(np.random.default_rng(9).integers(0, 255, (64, 64, 3), np.uint8)).save(extra)
    found = check(planted.root)
    assert "few-examples" in set(found.counts)
    assert "1 image," in found.of("few-examples")[0].message


def test_labels_imbalance(draw, tmp_path):
    for i in range(250):
        draw(f"good/{i}.png", seed=i)
    for i in range(11):
        draw(f"bad/{i}.png", seed=1000 + i)
    found = check(tmp_path, duplicates=False)
    assert set(found.counts) == {"imbalance"}


def test_labels_few_examples_in_val(draw, tmp_path):
    for label in ("good", "bad"):
        for i in range(20):
            split = "val" if i < (8 if label == "good" else 2) else "train"
            draw(f"{split}/{label}/{label}{i}.png")
    found = check(tmp_path, duplicates=False)
    assert [(f.code, "in val" in f.message) for f in found] == [("few-examples", True)]


def test_labels_near_duplicates_of_many_names_is_fast(tmp_path):
    rng = np.random.default_rng(3)
    names = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 8)) for _ in range(3000)]
    names = [
        *dict.fromkeys(names),
        *map(str, range(20_000)),
        "front scratch",
        "front_scratches",
        "FrontScratch",
    ]
    dataset = Dataset(
        task=Task.MULTILABEL, labels=Labels(tuple(names), tuple(names)), samples=(), root=tmp_path
    )
    start = time.process_time()
    messages = [f.message for f in check_similar_names(dataset, None)]
    assert time.process_time() - start < 5  # comparing all pairs takes an hour
    assert len([s for s in messages if "cratch" in s]) == 2
