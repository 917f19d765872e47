"""Data sets that are written and read again are equal, except for what the format reports as lost."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from blemish.data import as_task, open_dataset
from blemish.data.display_names import labels_with_display_names
from blemish.data.folder_names import layout_names
from blemish.data.polygon_masks import PolygonMask
from blemish.data.split_names import SPLIT_NAMES
from blemish.data.write_context import WINDOWS_DEVICES
from blemish.data.write_dataset import write_dataset
from blemish.geometry import mask_box, mask_from_array, mask_iou
from blemish.structures import Dataset, GroundTruth, Sample, Task
from blemish.testing import raises

SIZES_HW = ((16, 24), (20, 20), (31, 9), (12, 40))
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

names = st.text(st.characters(categories=("Ll", "Lu"), include_characters="éß"), min_size=2, max_size=8)
fraction = st.integers(0, 80).map(lambda v: v / 80)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    out = []
    for i, (height, width) in enumerate(SIZES_HW):
        path = root / f"photo{i}.png"
        Image.fromarray(np.full((height, width, 3), 40 * i, np.uint8)).save(path)
        out.append((path, (height, width)))
    return out


@st.composite
def sets(draw, task, masks="outlines"):
    """A data set of `task` on the four images, with their numbers as ids."""
    reserved = {"label", "labels", "index", "image", "file", "path", "group", "split", "set", "name", "class"}
    reserved |= {*SPLIT_NAMES} | {
        device.casefold() for device in WINDOWS_DEVICES
    }  # not possible as folders of labels
    labels = draw(
        st.lists(names, min_size=2, max_size=4, unique_by=str.casefold).filter(
            lambda n: not reserved & {x.casefold() for x in n} and not layout_names(n)
        )
    )
    labels = labels_with_display_names(labels)
    splits = draw(st.booleans())
    samples = []
    for number, size_hw in enumerate(SIZES_HW):
        split = draw(st.sampled_from(["train", "val", "test"])) if splits else None
        ground_truth = draw(ground_truths(task, labels, size_hw, masks))
        samples.append(
            Sample(id=str(number), path=Path(), size_hw=size_hw, split=split, ground_truth=ground_truth)
        )
    return Dataset(task=task, labels=labels, samples=tuple(samples), root=Path())


@st.composite
def ground_truths(draw, task, labels, size_hw, masks):
    one = st.integers(0, len(labels) - 1)
    if task is Task.CLASSIFICATION:
        return GroundTruth(task=task, labels=labels, label_index=np.array([draw(one)]), size_hw=size_hw)
    if task is Task.MULTILABEL:
        return GroundTruth(
            task=task, labels=labels, label_index=np.array(sorted(draw(st.sets(one)))), size_hw=size_hw
        )
    count = draw(st.integers(0, 3))
    scale = np.array([size_hw[1], size_hw[0]])
    boxes, regions = [], []
    for row in range(count):
        if masks == "pixels":  # each in separate rows, because index masks cannot overlap
            array = np.zeros(size_hw, bool)
            band = slice(row * size_hw[0] // count, (row + 1) * size_hw[0] // count)
            array[band] = (
                draw(st.integers(1, 2**30)) >> np.arange(array[band].size).reshape(array[band].shape) % 30 & 1
            )
            array[band.start, 0] = True
            regions.append(mask_from_array(array))
            boxes.append(mask_box(regions[-1]))
        else:
            points = np.array(draw(st.lists(st.tuples(fraction, fraction), min_size=1, max_size=4)))
            points = np.concatenate([points, [[0.9, 0.1], [0.2, 0.95]]]) * scale  # never zero area
            boxes.append(np.concatenate([points.min(0), points.max(0)]))
            regions.append(PolygonMask(size_hw, (points,)))
    flags = {f: np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool) for f in FLAGS}
    return GroundTruth(
        task=task,
        labels=labels,
        size_hw=size_hw,
        label_index=np.array([draw(one) for _ in range(count)], np.int64),
        boxes_xyxy=np.array(boxes).reshape(-1, 4),
        masks=tuple(regions) if task is Task.SEGMENTATION else None,
        **flags,
    )


FLAGS = ("crowd", "difficult", "truncated")


def on_disk(dataset, images):
    samples = (replace(s, path=p, id=p.name) for s, (p, _) in zip(dataset.samples, images, strict=True))
    return replace(dataset, samples=tuple(samples), root=images[0][0].parent)


def write_and_read(dataset, kind):
    with tempfile.TemporaryDirectory() as folder:
        written = write_dataset(dataset, Path(folder) / "out", kind)
        found = open_dataset(Path(folder) / "out", task=dataset.task, minimum_labels=1)
        assert found.format == kind
        for sample in found:  # masks are read lazily, so read them while the folder exists
            for mask in (sample.ground_truth.masks or ()) if sample.ground_truth else ():
                assert mask.counts.size
    return written, {s.path.name: s for s in found}, found


def assert_same_objects(expected, actual, *, flags=(), exact_masks=False, atol=1e-9):
    assert actual.label_names == expected.label_names
    np.testing.assert_allclose(actual.boxes_xyxy, expected.boxes_xyxy, atol=atol)
    for flag in flags:
        left, right = getattr(expected, flag), getattr(actual, flag)
        assert (right if right.size else np.zeros(len(expected), bool)).tolist() == left.tolist()
    if expected.masks is not None:
        for one, two in zip(expected.masks, actual.masks, strict=True):
            if exact_masks:
                assert one.counts.tolist() == two.counts.tolist()
            elif isinstance(one, PolygonMask):
                for p, q in zip(one.polygons, two.polygons, strict=True):
                    np.testing.assert_allclose(p, q, atol=atol)


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_coco_round_trip_is_exact(images, task, data):
    dataset = on_disk(data.draw(sets(task)), images)
    written, after, found = write_and_read(dataset, "coco")
    assert written.losses == ()
    assert found.labels.names == dataset.labels.names
    for sample in dataset:
        assert after[sample.path.name].split == sample.split
        assert after[sample.path.name].size_hw == sample.size_hw
        assert_same_objects(sample.ground_truth, after[sample.path.name].ground_truth, flags=FLAGS)


@QUICK
@given(data=st.data())
def test_coco_round_trip_keeps_pixels_and_holes(images, data):
    dataset = on_disk(data.draw(sets(Task.SEGMENTATION, "pixels")), images)
    _, after, _ = write_and_read(dataset, "coco")
    for sample in dataset:
        assert_same_objects(
            sample.ground_truth, after[sample.path.name].ground_truth, flags=FLAGS, exact_masks=True
        )


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_yolo_round_trip_keeps_labels_boxes_and_polygons(images, task, data):
    dataset = on_disk(data.draw(sets(task)), images)
    written, after, found = write_and_read(dataset, "yolo")
    assert found.labels.names == dataset.labels.names
    for sample in dataset:
        assert after[sample.path.name].split == sample.split
        assert_same_objects(sample.ground_truth, after[sample.path.name].ground_truth, atol=1e-6)
    losses = {x.what: set(x.samples) for x in written.losses}
    for flag in FLAGS:
        lost = {s.id for s in dataset if getattr(s.ground_truth, flag).any()}
        assert losses.get(f"which objects are {flag} is not kept", set()) == lost


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_voc_round_trip_keeps_boxes_pixels_and_flags(images, task, data):
    dataset = on_disk(data.draw(sets(task, "pixels")), images)
    if not any(len(s.ground_truth) for s in dataset):
        return
    written, after, _ = write_and_read(dataset, "voc")
    for sample in dataset:
        assert after[sample.path.name].split == sample.split
        assert_same_objects(
            sample.ground_truth,
            after[sample.path.name].ground_truth,
            flags=("difficult", "truncated"),
            exact_masks=True,
        )
    lost = {s.id for s in dataset if s.ground_truth.crowd.any()}
    assert {i for x in written.losses if "crowd" in x.what for i in x.samples} == lost


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("task", [Task.CLASSIFICATION, Task.MULTILABEL, Task.DETECTION])
def test_table_round_trip_keeps_labels_and_boxes(images, task, data):
    dataset = on_disk(data.draw(sets(task)), images)
    if not any(len(s.ground_truth) for s in dataset):
        return
    written, after, found = write_and_read(dataset, "csv")
    for sample in dataset:
        actual = after[sample.path.name]
        assert actual.split == sample.split
        if task is Task.DETECTION:
            assert_same_objects(sample.ground_truth, actual.ground_truth)
        else:
            assert set(actual.ground_truth.label_names) == set(sample.ground_truth.label_names)
    if not any("label" in x.what for x in written.losses):
        assert found.labels.names == dataset.labels.names


@QUICK
@given(data=st.data())
def test_folders_round_trip_keeps_labels_and_splits(images, data):
    dataset = on_disk(data.draw(sets(Task.CLASSIFICATION)), images)
    written, after, found = write_and_read(dataset, "folders")
    for sample in dataset:
        assert after[sample.path.name].ground_truth.label_names == sample.ground_truth.label_names
        assert after[sample.path.name].split == sample.split
    assert set(found.labels.names) == set(dataset.labels.names)
    assert all(x.code == "label-order" for x in written.losses)


def segmentation_set(images, *masks):
    labels = labels_with_display_names(["crack", "dent"])
    path, size_hw = images[0]
    ground_truth = GroundTruth(
        task=Task.SEGMENTATION,
        labels=labels,
        label_index=np.zeros(len(masks), np.int64),
        boxes_xyxy=np.array([mask_box(m) for m in masks]),
        masks=masks,
        size_hw=size_hw,
    )
    sample = Sample(id="a.png", path=path, size_hw=size_hw, ground_truth=ground_truth)
    return Dataset(task=Task.SEGMENTATION, labels=labels, samples=(sample,), root=path.parent)


def test_yolo_reports_images_with_filled_holes(images):
    ring = np.zeros(SIZES_HW[0], bool)
    ring[2:12, 3:20] = True
    ring[5:8, 8:12] = False
    written, after, _ = write_and_read(segmentation_set(images, mask_from_array(ring)), "yolo")
    assert [x.samples for x in written.losses if x.code == "holes"] == [("a.png",)]
    filled = ring.copy()
    filled[5:8, 8:12] = True
    assert after["photo0.png"].ground_truth.masks[0].area == filled.sum()


def test_yolo_joins_the_parts_of_a_mask(images):
    parts = np.zeros(SIZES_HW[0], bool)
    parts[1:5, 1:6] = parts[9:14, 12:22] = True
    mask = mask_from_array(parts)
    written, after, _ = write_and_read(segmentation_set(images, mask), "yolo")
    assert [x.samples for x in written.losses if x.code == "parts"] == [("a.png",)]
    assert mask_iou([after["photo0.png"].ground_truth.masks[0]], [mask])[0, 0] > 0.95


def test_voc_reports_images_with_overlapping_objects(images):
    low, high = np.zeros(SIZES_HW[0], bool), np.zeros(SIZES_HW[0], bool)
    low[:10], high[8:] = True, True
    written, _, _ = write_and_read(
        segmentation_set(images, mask_from_array(low), mask_from_array(high)), "voc"
    )
    assert [x.samples for x in written.losses if x.code == "overlap"] == [("a.png",)]


def test_table_round_trip_keeps_groups_and_columns(images):
    labels = labels_with_display_names(["crack", "inactive"])
    samples = tuple(
        Sample(
            id=p.name,
            path=p,
            group=f"g{i // 2}",
            columns={"serial": f"s{i}", "operator": "Ann"},
            ground_truth=GroundTruth(task=Task.MULTILABEL, labels=labels, label_index=np.arange(i % 3)),
        )
        for i, (p, _) in enumerate(images)
    )
    dataset = Dataset(task=Task.MULTILABEL, labels=labels, samples=samples, root=Path())
    written, after, found = write_and_read(dataset, "csv")
    assert written.losses == ()
    assert found.labels == labels
    assert [(s.group, s.columns) for s in after.values()] == [(s.group, s.columns) for s in samples]


def test_images_with_the_same_name_get_unique_names(draw, tmp_path):
    for name in ("a/1.png", "b/1.png", "b/1.jpg"):
        draw(f"set/{name}")
    dataset = open_dataset(tmp_path / "set")
    write_dataset(dataset, tmp_path / "out", "csv")
    found = open_dataset(tmp_path / "out")
    assert len(found) == 3
    before = {s.path.read_bytes(): s.ground_truth.label_names for s in dataset}
    assert {s.path.read_bytes(): s.ground_truth.label_names for s in found} == before


@pytest.mark.parametrize(
    ("kind", "task", "code"),
    [
        ("yolo", Task.CLASSIFICATION, "wrong-task.format"),
        ("coco", Task.MULTILABEL, "wrong-task.format"),
        ("folders", Task.MULTILABEL, "wrong-task.format"),
        ("ymca", Task.CLASSIFICATION, "unknown-name.writable-format"),
    ],
)
def test_write_rejects_tasks_without_a_place_in_the_format(draw, tmp_path, kind, task, code):
    draw("set/a/1.png")
    draw("set/b/2.png")
    dataset = as_task(open_dataset(tmp_path / "set"), task)
    with raises(code, kind):
        write_dataset(dataset, tmp_path / "out", kind)


def test_write_rejects_a_folder_that_is_not_empty(draw, tmp_path):
    draw("set/a/1.png")
    draw("set/b/2.png")
    with raises("bad-input.output-not-empty", tmp_path / "set"):
        write_dataset(open_dataset(tmp_path / "set"), tmp_path / "set", "csv")
    with raises("bad-input.output-is-a-file", tmp_path / "set/a/1.png"):
        write_dataset(open_dataset(tmp_path / "set"), tmp_path / "set/a/1.png", "csv")


KEPT_FLAGS = {"coco": {*FLAGS}, "voc": {"difficult", "truncated"}, "yolo": set(), "csv": set()}


def convert_twice(dataset, first, second):
    """Return the losses and the samples after writing one format, reading, and writing another."""
    with tempfile.TemporaryDirectory() as folder:
        one = write_dataset(dataset, Path(folder) / "one", first)
        between = open_dataset(Path(folder) / "one", task=dataset.task, minimum_labels=1)
        two = write_dataset(between, Path(folder) / "two", second)
        found = open_dataset(Path(folder) / "two", task=dataset.task, minimum_labels=1)
        for sample in found:
            for mask in sample.ground_truth.masks or ():
                assert mask.counts.size
    return [*one.losses, *two.losses], {s.path.name: s for s in found}


@settings(QUICK, max_examples=12)
@given(data=st.data())
@pytest.mark.parametrize("second", KEPT_FLAGS)
@pytest.mark.parametrize("first", KEPT_FLAGS)
def test_boxes_are_kept_by_every_pair_of_formats(images, first, second, data):
    dataset = on_disk(data.draw(sets(Task.DETECTION)), images)
    if not any(len(s.ground_truth) for s in dataset):
        return
    losses, after = convert_twice(dataset, first, second)
    flags = KEPT_FLAGS[first] & KEPT_FLAGS[second]
    for sample in dataset:
        assert after[sample.path.name].split == sample.split
        assert_same_objects(sample.ground_truth, after[sample.path.name].ground_truth, flags=flags, atol=1e-6)
    for flag in {*FLAGS} - flags:
        is_reported = any(flag in x.what for x in losses)
        assert is_reported == any(getattr(s.ground_truth, flag).any() for s in dataset)


@settings(QUICK, max_examples=12)
@given(data=st.data())
@pytest.mark.parametrize(
    ("first", "second", "masks"),
    [
        ("coco", "yolo", "outlines"),
        ("yolo", "coco", "outlines"),
        ("coco", "voc", "pixels"),
        ("voc", "coco", "pixels"),
    ],
)
def test_masks_are_kept_between_formats_with_masks(images, first, second, masks, data):
    dataset = on_disk(data.draw(sets(Task.SEGMENTATION, masks)), images)
    if not any(len(s.ground_truth) for s in dataset):
        return
    _, after = convert_twice(dataset, first, second)
    for sample in dataset:
        assert_same_objects(
            sample.ground_truth,
            after[sample.path.name].ground_truth,
            exact_masks=masks == "pixels",
            atol=1e-6,
        )


@settings(QUICK, max_examples=12)
@given(data=st.data())
@pytest.mark.parametrize(("first", "second"), [("folders", "csv"), ("csv", "folders")])
def test_labels_are_kept_between_folders_and_tables(images, first, second, data):
    dataset = on_disk(data.draw(sets(Task.CLASSIFICATION)), images)
    _, after = convert_twice(dataset, first, second)
    for sample in dataset:
        assert after[sample.path.name].ground_truth.label_names == sample.ground_truth.label_names
        assert after[sample.path.name].split == sample.split


def test_yolo_reports_a_box_that_is_not_that_of_its_polygon(images):
    outline = PolygonMask(SIZES_HW[0], (np.array([[2.0, 2], [10, 2], [10, 10]]),))
    dataset = segmentation_set(images, outline)
    ground_truth = replace(
        dataset[0].ground_truth, boxes_xyxy=np.array([[0.0, 0, 20, 12]]), areas=np.array([99.0])
    )
    dataset = replace(dataset, samples=(replace(dataset[0], ground_truth=ground_truth),))
    written, after, _ = write_and_read(dataset, "yolo")
    assert {x.what.split()[0]: x.samples for x in written.losses if "data.yaml" not in x.what} == {
        "a": ("a.png",),
        "the": (),
    }
    np.testing.assert_allclose(after["photo0.png"].ground_truth.boxes_xyxy, [[2, 2, 10, 10]], atol=1e-6)


def test_rejected_conversion_leaves_no_folder(images, tmp_path):
    dataset = segmentation_set(images, mask_from_array(np.ones(SIZES_HW[0], bool)))
    with raises("wrong-task.format", "folders"):
        write_dataset(dataset, tmp_path / "out", "folders")
    assert not (tmp_path / "out").exists()
