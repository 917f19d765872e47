import json
import re

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.brightness import brightness_predictor, dataset_of

from blemish.data.image_hashes import detail_hash, perceptual_hash, pixel_hash
from blemish.data.synthetic import cells
from blemish.evaluation import evaluate
from blemish.evaluation.train_overlap import find_train_overlap
from blemish.imaging import LoadedImage, open_image
from blemish.model_file import Fingerprints
from blemish.structures import Task
from blemish.testing import raises

LEVELS = [20, 40, 60, 200, 220, 240]
RIGHT = [0, 0, 0, 1, 1, 1]


def prints_of(paths, split):
    photos = [open_image(p) for p in paths]
    return Fingerprints(
        np.array([pixel_hash(p) for p in photos], np.uint64),
        np.array([perceptual_hash(p) for p in photos], np.uint64),
        np.array([detail_hash(p) for p in photos], np.uint64),
        np.full(len(photos), split, np.uint8),
    )


def kinds(report):
    return [warning.kind for warning in report.warnings]


def test_evaluate_a_correct_model_and_one_with_an_error(tmp_path):
    predictor = brightness_predictor(tmp_path / "model.onnx")
    report = evaluate(predictor, dataset_of(tmp_path / "a", LEVELS, RIGHT), intervals=False)
    assert report.value("accuracy") == 1
    assert report.top_errors == ()
    assert report.model["name"] == "brightness-rule"
    assert report.data["split"] == "test"
    wrong = evaluate(predictor, dataset_of(tmp_path / "b", LEVELS, [0, 0, 1, 1, 1, 1]), intervals=False)
    assert wrong.value("accuracy") == pytest.approx(5 / 6)
    assert wrong.top_errors[0].id == "002.png"
    thumbnail = wrong.thumbnails["002.png"]
    assert thumbnail.startswith(b"\xff\xd8")


def test_evaluate_lists_unreadable_images_and_evaluates_the_others(tmp_path):
    data = dataset_of(tmp_path / "a", LEVELS, RIGHT)
    data[1].path.write_bytes(b"no image")
    data[2].path.unlink()
    report = evaluate(brightness_predictor(tmp_path / "m"), data, output=tmp_path / "out")
    assert report.images == 4
    assert [name for name, _ in report.unreadable] == ["001.png", "002.png"]
    assert report.warnings[0].kind == "unreadable" and "2 images" in report.warnings[0].text
    assert "001.png" in (tmp_path / "out" / "report.html").read_text()
    for sample in data:
        sample.path.unlink(missing_ok=True)
    with raises("bad-input.nothing-to-evaluate", 6, "000.png"):
        evaluate(brightness_predictor(tmp_path / "m"), data)


def test_evaluate_warns_of_training_images(tmp_path):
    data = dataset_of(tmp_path / "a", LEVELS, RIGHT)
    copy = tmp_path / "copy.jpg"  # recompressed: other pixels, nearly the same image
    rng = np.random.default_rng(3)
    scene = Image.fromarray(rng.integers(0, 255, (24, 24, 3), np.uint8)).resize(
        (160, 160), Image.Resampling.BICUBIC
    )
    scene.save(copy, quality=60)
    scene.save(data[5].path)
    seen = prints_of([data[0].path, data[3].path, copy], split=0)
    predictor = brightness_predictor(tmp_path / "m", prints=seen)
    report = evaluate(predictor, data, intervals=False)
    assert report.train_overlap["train"] == ["000.png", "003.png"]
    assert report.train_overlap["near_train"] == ["005.png"]
    assert report.train_overlap["val"] == []
    assert kinds(report)[0] == "data-leakage"
    assert "2 of 6 images" in report.warnings[0].text and "1 more" in report.warnings[0].text
    clean = evaluate(predictor, data.subset([1, 2, 4]), intervals=False)
    assert clean.train_overlap["train"] == []
    assert clean.train_overlap["fingerprints"] == 3
    assert "data-leakage" not in kinds(clean)


def test_evaluate_warns_of_images_on_which_thresholds_were_chosen(tmp_path):
    data = dataset_of(tmp_path / "a", LEVELS, RIGHT, split="val")
    seen = prints_of([s.path for s in data], split=1)
    report = evaluate(brightness_predictor(tmp_path / "m", prints=seen), data, intervals=False)
    assert kinds(report) == ["optimistic-bias"]
    assert len(report.train_overlap["val"]) == 6
    by_name = brightness_predictor(tmp_path / "m", thresholds_tuned_on="val")
    assert kinds(evaluate(by_name, data, intervals=False)) == ["optimistic-bias"]


def test_find_train_overlap_by_hash_distance():
    word, coarse = np.array([1], np.uint64), np.array([0b1111], np.uint64)
    known = Fingerprints(word, coarse, np.array([[1, 2, 3, 4]], np.uint64), np.array([0], np.uint8))
    pixel, perceptual = np.array([7, 8, 9, 1], np.uint64), np.array([0b0001, 2**40 - 1, 0b0001, 0], np.uint64)
    detail = np.array([[1, 2, 3, 5], [1, 2, 3, 4], [2**30 - 1, 2, 3, 4], [0, 0, 0, 0]], np.uint64)
    train_overlap = find_train_overlap(
        ["near", "far", "alike", "same"], pixel, perceptual, detail, known, max_bits=3
    )
    assert train_overlap.near_train == ("near",)
    assert train_overlap.train == ("same",)
    assert find_train_overlap([], pixel[:0], perceptual[:0], detail[:0], known).warnings() == ()


def words_of(prints):
    """Return the pixel, perceptual and detail hashes as three arrays."""
    pixel, perceptual, detail = zip(*prints, strict=True)
    return np.array(pixel, np.uint64), np.array(perceptual, np.uint64), np.array(detail, np.uint64)


def test_find_train_overlap_finds_copies_and_not_similar_cells():
    photos = [cell.image for cell in cells(60, seed=1, size=128)]
    prints = [(pixel_hash(p), perceptual_hash(p), detail_hash(p)) for p in photos]
    pixel, perceptual, detail = words_of(prints)
    known = Fingerprints(pixel, perceptual, detail, np.zeros(60, np.uint8))
    others = [cell.image for cell in cells(60, seed=2, size=128)]
    smaller = [LoadedImage(np.asarray(p.to_pil().resize((100, 100)))) for p in photos[:10]]
    asked = [(pixel_hash(p), perceptual_hash(p), detail_hash(p)) for p in [*smaller, *others]]
    ids = [f"copy{i}" for i in range(10)] + [f"other{i}" for i in range(60)]
    pixel, perceptual, detail = words_of(asked)
    train_overlap = find_train_overlap(ids, pixel, perceptual, detail, known)
    assert set(train_overlap.near_train) >= {f"copy{i}" for i in range(10)}
    assert sum(name.startswith("other") for name in train_overlap.near_train) <= 1


def test_evaluate_split_default_and_by_name(tmp_path):
    data = dataset_of(tmp_path / "a", LEVELS, RIGHT)
    data = data.with_splits({s.id: ("train", "val", "test")[i % 3] for i, s in enumerate(data)})
    predictor = brightness_predictor(tmp_path / "m")
    assert evaluate(predictor, data, intervals=False).data["split"] == "test"
    assert evaluate(predictor, data, split="train", intervals=False).images == 2
    assert evaluate(predictor, data, split="all", intervals=False).images == 6
    with raises("unknown-name.split", "'tset'", "'test'"):
        evaluate(predictor, data, split="tset")


def test_evaluate_splits_of_training_in_a_data_set_without_splits(tmp_path):
    data = dataset_of(tmp_path / "a", LEVELS, RIGHT, split=None)
    seen = prints_of([s.path for s in data][:5], split=0)
    seen.split[3:] = 1
    predictor = brightness_predictor(tmp_path / "m", prints=seen)
    by_split = {
        name: evaluate(predictor, data, split=name, intervals=False) for name in ("train", "val", "test")
    }
    assert {name: report.images for name, report in by_split.items()} == {
        "train": 3,
        "val": 2,
        "test": 1,
    }
    assert by_split["val"].data["split"] == "val"
    assert kinds(by_split["test"]) == []
    with raises("unknown-name.split", "'val'"):
        evaluate(brightness_predictor(tmp_path / "forgetful"), data, split="val")


def test_evaluate_leaves_out_images_without_ground_truth(tmp_path):
    predictor = brightness_predictor(tmp_path / "m")
    report = evaluate(predictor, dataset_of(tmp_path / "a", LEVELS, [0, 0, None, 1, 1, 1]), intervals=False)
    assert report.images == 5
    assert report.warnings[0].kind == "note" and "1 image" in report.warnings[0].text
    with raises("bad-input.nothing-to-evaluate", tmp_path / "b"):
        evaluate(predictor, dataset_of(tmp_path / "b", [9], [None]))


def test_evaluate_rejects_other_tasks_and_labels_before_it_predicts(tmp_path):
    predictor = brightness_predictor(tmp_path / "m")
    called = []
    data = dataset_of(tmp_path / "a", LEVELS, RIGHT, names=("dim", "bright"))
    with raises("bad-input.label-not-in-model", "'dim'"):
        evaluate(predictor, data, progress=lambda *a: called.append(a))
    assert called == []
    report = evaluate(predictor, data, label_map={"dim": "dark"}, progress=lambda *a: called.append(a))
    assert report.value("accuracy") == 1
    assert called[-1] == (6, 6)
    many = dataset_of(tmp_path / "b", LEVELS, RIGHT, task=Task.MULTILABEL)
    with raises("wrong-task", "multilabel", "classification"):
        evaluate(predictor, many)


def test_save_report_page_is_self_contained_and_escapes_names(tmp_path):
    hostile = '<script>alert("x")</script>'
    names = ("dark", hostile)
    data = dataset_of(tmp_path / "a", LEVELS, [0, 0, 1, 1, 1, 0], names=names)
    predictor = brightness_predictor(tmp_path / "m", names=names)
    report = evaluate(predictor, data, output=tmp_path / "out", resamples=50)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page.lower()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "url(" not in page and "@import" not in page
    assert page.count("data:image/jpeg;base64,") == len(report.thumbnails) == 2
    assert page.count("<section") == page.count("</section>")
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["schema_version"] == 1
    assert written["metrics"]["macro_f1"] == report.metrics["macro_f1"].to_dict()
    assert written["labels"][1]["label"] == hostile


def test_evaluate_warns_of_unused_bits_and_passed_over_images(tmp_path):
    data = dataset_of(tmp_path / "a", LEVELS, RIGHT)
    Image.fromarray(np.full((16, 16), 4000, np.uint16)).save(data.samples[-1].path)
    (data.root / "x.heic").write_bytes(b"unread")
    texts = [w.text for w in evaluate(brightness_predictor(tmp_path / "m"), data, intervals=False).warnings]
    assert any("1 image may look nearly black" in t and data.samples[-1].id in t for t in texts)
    assert any("1 HEIC (x.heic)" in t for t in texts)
