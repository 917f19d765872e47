"""merge_datasets and read_label_map."""

from dataclasses import replace

import numpy as np
import pytest

from blemish.data import open_dataset
from blemish.data.merge import merge_datasets, read_label_map
from blemish.data.synthetic.generate import synthesize
from blemish.testing import raises


def test_merge_datasets_matches_labels_by_name(draw, tmp_path):
    for name in ("one/dent/1.png", "one/fine/2.png", "two/dents/1.png", "two/rust/3.png", "two/fine/2.png"):
        draw(name)
    one, two = open_dataset(tmp_path / "one"), open_dataset(tmp_path / "two")
    merged = merge_datasets([one, two], {"dents": "dent"})
    assert merged.labels.names == ("dent", "fine", "rust")
    assert [(s.id, s.ground_truth.label_names[0]) for s in merged] == [
        ("one/dent/1.png", "dent"),
        ("one/fine/2.png", "fine"),
        ("two/dents/1.png", "dent"),
        ("two/fine/2.png", "fine"),
        ("two/rust/3.png", "rust"),
    ]
    with raises("unknown-name.label", "'rusty'", "'rust'"):
        merge_datasets([one, two], {"rusty": "dent"})
    with raises("bad-input.only-label", "two/rust"):
        merge_datasets([one, two], {"rust": None})


def test_merge_datasets_drops_objects_with_their_masks(tmp_path):
    for name, seed in (("one", 1), ("two", 2)):
        synthesize(
            "panels", tmp_path / name, task="segmentation", format="coco", count=12, size=64, seed=seed
        )
    one, two = (open_dataset(tmp_path / n) for n in ("one", "two"))
    merged = merge_datasets([one, two], {"dent": None, "chip": "scratch"})
    assert merged.labels.names == ("scratch",)
    for before, after in zip([*one, *two], merged, strict=True):
        kept = [i for i, n in enumerate(before.ground_truth.label_names) if n != "dent"]
        np.testing.assert_array_equal(after.ground_truth.boxes_xyxy, before.ground_truth.boxes_xyxy[kept])
        assert [m.area for m in after.ground_truth.masks] == [before.ground_truth.masks[i].area for i in kept]


def test_merge_datasets_refuses_different_tasks_and_one_dataset(draw, tmp_path, labeled):
    draw("folders/x/1.png")
    draw("folders/y/2.png")
    with raises("wrong-task.merge", "classification", "multilabel"):
        merge_datasets([open_dataset(tmp_path / "folders"), open_dataset(labeled)])
    with raises("bad-input.number-of-datasets", "1"):
        merge_datasets([open_dataset(labeled)])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("- a\n- b\n", "bad-input.label-map"),
        ("a: [", "bad-input.label-map"),
        (None, "bad-input.unreadable-file"),
    ],
)
def test_read_label_map_invalid_files(tmp_path, text, code):
    path = tmp_path / "map.yaml"
    if text is not None:
        path.write_text(text)
    with raises(code, "map.yaml"):
        read_label_map(path)


def test_merge_datasets_notes_groups_kept_apart(draw, tmp_path):
    for label in ("dent", "rust"):
        draw(f"set/{label}/{label}.png")
    dataset = open_dataset(tmp_path / "set")
    one = replace(dataset, samples=tuple(replace(s, group="car1") for s in dataset))
    assert "'car1'" in merge_datasets([one, one]).notes[-1]
    assert "merged" in merge_datasets([dataset, dataset]).notes[-1]
