import json
import re

import numpy as np
import pytest
from brightness import brightness_predictor, dataset_of
from PIL import Image

from blemish.data.image_hashes import detail_hash, perceptual_hash, pixel_hash
from blemish.data.synthetic import cells
from blemish.errors import BadInput, UnknownName, WrongTask
from blemish.evaluation import evaluate
from blemish.evaluation.train_overlap import find_leaks
from blemish.imaging import LoadedImage, open_image
from blemish.model_file import Fingerprints
from blemish.structures import Task

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
    return [stamp.kind for stamp in report.stamps]


def test_a_model_that_is_right_and_one_that_is_wrong_once(tmp_path):
    predictor = brightness_predictor(tmp_path / "model.onnx")
    report = evaluate(predictor, dataset_of(tmp_path / "a", LEVELS, RIGHT), intervals=False)
    assert report.value("accuracy") == 1
    assert report.worst == ()
    assert report.model["name"] == "by-eye"
    assert report.data["split"] == "test"
    wrong = evaluate(predictor, dataset_of(tmp_path / "b", LEVELS, [0, 0, 1, 1, 1, 1]), intervals=False)
    assert wrong.value("accuracy") == pytest.approx(5 / 6)
    assert wrong.worst[0].id == "002.png"
    picture = wrong.pictures["002.png"]
    assert picture.startswith(b"\xff\xd8")


def test_broken_images_are_listed_and_the_rest_is_scored(tmp_path):
    data = dataset_of(tmp_path / "a", LEVELS, RIGHT)
    data[1].path.write_bytes(b"no image")
    data[2].path.unlink()
    report = evaluate(brightness_predictor(tmp_path / "m"), data, output=tmp_path / "out")
    assert report.images == 4
    assert [name for name, _ in report.broken] == ["001.png", "002.png"]
    assert "2 images could not be read" in report.stamps[0].text
    assert "001.png" in (tmp_path / "out" / "report.html").read_text()
    for sample in data:
        sample.path.unlink(missing_ok=True)
    with pytest.raises(BadInput, match="none of 6 images could be read"):
        evaluate(brightness_predictor(tmp_path / "m"), data)


def test_images_the_model_learned_from_are_found_in_part(tmp_path):
    data = dataset_of(tmp_path / "a", LEVELS, RIGHT)
    copy = tmp_path / "copy.jpg"  # recompressed: other pixels, the same picture
    rng = np.random.default_rng(3)
    scene = Image.fromarray(rng.integers(0, 255, (24, 24, 3), np.uint8)).resize(
        (160, 160), Image.Resampling.BICUBIC
    )
    scene.save(copy, quality=60)
    scene.save(data[5].path)
    seen = prints_of([data[0].path, data[3].path, copy], split=0)
    predictor = brightness_predictor(tmp_path / "m", prints=seen)
    report = evaluate(predictor, data, intervals=False)
    assert report.leaks["train"] == ["000.png", "003.png"]
    assert report.leaks["near_train"] == ["005.png"]
    assert report.leaks["val"] == []
    assert kinds(report)[0] == "leak"
    assert (
        "2 of 6 images are among those the model learned from, and 1 more are near" in report.stamps[0].text
    )
    clean = evaluate(predictor, data.subset([1, 2, 4]), intervals=False)
    assert clean.leaks["train"] == []
    assert clean.leaks["compared"] == 3
    assert "leak" not in kinds(clean)


def test_images_that_chose_the_thresholds_stamp_the_report_as_tuned(tmp_path):
    data = dataset_of(tmp_path / "a", LEVELS, RIGHT, split="val")
    seen = prints_of([s.path for s in data], split=1)
    report = evaluate(brightness_predictor(tmp_path / "m", prints=seen), data, intervals=False)
    assert kinds(report) == ["tuned"]
    assert len(report.leaks["val"]) == 6
    by_name = brightness_predictor(tmp_path / "m", thresholds_tuned_on="val")
    assert kinds(evaluate(by_name, data, intervals=False)) == ["tuned"]


def test_near_hashes_differ_in_few_bits():
    word, coarse = np.array([1], np.uint64), np.array([0b1111], np.uint64)
    known = Fingerprints(word, coarse, np.array([[1, 2, 3, 4]], np.uint64), np.array([0], np.uint8))
    pixel, perceptual = np.array([7, 8, 9, 1], np.uint64), np.array([0b0001, 2**40 - 1, 0b0001, 0], np.uint64)
    detail = np.array([[1, 2, 3, 5], [1, 2, 3, 4], [2**30 - 1, 2, 3, 4], [0, 0, 0, 0]], np.uint64)
    leaks = find_leaks(["near", "far", "alike", "same"], pixel, perceptual, detail, known, max_bits=3)
    assert leaks.near_train == ("near",)
    assert leaks.train == ("same",)
    assert find_leaks([], pixel[:0], perceptual[:0], detail[:0], known).stamps() == ()


def test_a_copy_is_near_and_another_cell_of_the_same_kind_is_not():
    photos = [cell.image for cell in cells(60, seed=1, size=128)]
    prints = [(pixel_hash(p), perceptual_hash(p), detail_hash(p)) for p in photos]
    known = Fingerprints(
        *(np.array([p[i] for p in prints], np.uint64) for i in range(3)), np.zeros(60, np.uint8)
    )
    others = [cell.image for cell in cells(60, seed=2, size=128)]
    smaller = [LoadedImage(np.asarray(p.to_pil().resize((100, 100)))) for p in photos[:10]]
    asked = [(pixel_hash(p), perceptual_hash(p), detail_hash(p)) for p in [*smaller, *others]]
    ids = [f"copy{i}" for i in range(10)] + [f"other{i}" for i in range(60)]
    leaks = find_leaks(ids, *(np.array([a[i] for a in asked], np.uint64) for i in range(3)), known)
    assert set(leaks.near_train) >= {f"copy{i}" for i in range(10)}
    assert sum(name.startswith("other") for name in leaks.near_train) <= 1


def test_the_split_is_chosen_and_can_be_named(tmp_path):
    data = dataset_of(tmp_path / "a", LEVELS, RIGHT)
    data = data.with_splits({s.id: ("train", "val", "test")[i % 3] for i, s in enumerate(data)})
    predictor = brightness_predictor(tmp_path / "m")
    assert evaluate(predictor, data, intervals=False).data["split"] == "test"
    assert evaluate(predictor, data, split="train", intervals=False).images == 2
    assert evaluate(predictor, data, split="all", intervals=False).images == 6
    with pytest.raises(UnknownName, match=r"unknown split 'tset'.*did you mean 'test'"):
        evaluate(predictor, data, split="tset")


def test_a_set_without_splits_has_those_that_training_gave_it(tmp_path):
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
    with pytest.raises(UnknownName, match="unknown split 'val'"):
        evaluate(brightness_predictor(tmp_path / "forgetful"), data, split="val")


def test_images_without_ground_truth_are_left_out(tmp_path):
    predictor = brightness_predictor(tmp_path / "m")
    report = evaluate(predictor, dataset_of(tmp_path / "a", LEVELS, [0, 0, None, 1, 1, 1]), intervals=False)
    assert report.images == 5
    assert "1 images without a truth" in report.stamps[0].text
    with pytest.raises(BadInput, match="no image has a truth"):
        evaluate(predictor, dataset_of(tmp_path / "b", [9], [None]))


def test_data_of_another_task_or_with_other_labels_stop_before_any_work(tmp_path):
    predictor = brightness_predictor(tmp_path / "m")
    called = []
    data = dataset_of(tmp_path / "a", LEVELS, RIGHT, names=("dim", "bright"))
    with pytest.raises(BadInput, match="does not know the data's label 'dim'"):
        evaluate(predictor, data, progress=lambda *a: called.append(a))
    assert called == []
    report = evaluate(predictor, data, map_labels={"dim": "dark"}, progress=lambda *a: called.append(a))
    assert report.value("accuracy") == 1
    assert called[-1] == (6, 6)
    many = dataset_of(tmp_path / "b", LEVELS, RIGHT, task=Task.MULTILABEL)
    with pytest.raises(WrongTask, match="multilabel, and the model's task is classification"):
        evaluate(predictor, many)


def test_the_written_report_stands_alone_and_escapes_hostile_names(tmp_path):
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
    assert page.count("data:image/jpeg;base64,") == len(report.pictures) == 2
    assert page.count("<section") == page.count("</section>")
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["figures"]["macro_f1"] == report.figures["macro_f1"].to_dict()
    assert written["labels"][1]["label"] == hostile
