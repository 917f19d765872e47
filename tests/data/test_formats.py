"""What a format can hold survives writing and reading; what it cannot is named."""

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
from blemish.data.polygon_masks import PolygonMask
from blemish.data.write_dataset import write_dataset
from blemish.errors import BadInput, UnknownName, WrongTask
from blemish.geometry import mask_box, mask_from_array, mask_iou
from blemish.structures import Dataset, GroundTruth, Sample, Task

SIZES_HW = ((16, 24), (20, 20), (31, 9), (12, 40))
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

names = st.text(st.characters(categories=("Ll", "Lu"), include_characters="éß"), min_size=2, max_size=8)
share = st.integers(0, 80).map(lambda v: v / 80)


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
    """A data set of `task` on the four images, by their numbers."""
    reserved = {"label", "labels", "index", "image", "file", "path", "group", "split", "set", "name", "class"}
    labels = draw(
        st.lists(names, min_size=2, max_size=4, unique_by=str.casefold).filter(
            lambda n: not reserved & {x.casefold() for x in n}
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
        if masks == "pixels":  # each in a band of rows of its own: painted masks cannot overlap
            array = np.zeros(size_hw, bool)
            band = slice(row * size_hw[0] // count, (row + 1) * size_hw[0] // count)
            array[band] = (
                draw(st.integers(1, 2**30)) >> np.arange(array[band].size).reshape(array[band].shape) % 30 & 1
            )
            array[band.start, 0] = True
            regions.append(mask_from_array(array))
            boxes.append(mask_box(regions[-1]))
        else:
            points = np.array(draw(st.lists(st.tuples(share, share), min_size=1, max_size=4)))
            points = np.concatenate([points, [[0.9, 0.1], [0.2, 0.95]]]) * scale  # never without area
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


def there_and_back(dataset, kind):
    with tempfile.TemporaryDirectory() as folder:
        written = write_dataset(dataset, Path(folder) / "out", kind)
        found = open_dataset(Path(folder) / "out", task=dataset.task, minimum_labels=1)
        assert found.format == kind
        for sample in found:  # what is read lazily must be read while the folder is there
            for mask in (sample.ground_truth.masks or ()) if sample.ground_truth else ():
                assert mask.counts.size
    return written, {s.path.name: s for s in found}, found


def same_objects(before, after, *, flags=(), exact_masks=False, atol=1e-9):
    assert after.label_names == before.label_names
    np.testing.assert_allclose(after.boxes_xyxy, before.boxes_xyxy, atol=atol)
    for flag in flags:
        left, right = getattr(before, flag), getattr(after, flag)
        assert (right if right.size else np.zeros(len(before), bool)).tolist() == left.tolist()
    if before.masks is not None:
        for one, two in zip(before.masks, after.masks, strict=True):
            if exact_masks:
                assert one.counts.tolist() == two.counts.tolist()
            elif isinstance(one, PolygonMask):
                for p, q in zip(one.polygons, two.polygons, strict=True):
                    np.testing.assert_allclose(p, q, atol=atol)


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_coco_loses_nothing(images, task, data):
    dataset = on_disk(data.draw(sets(task)), images)
    written, after, found = there_and_back(dataset, "coco")
    assert written.losses == ()
    assert found.labels.names == dataset.labels.names
    for sample in dataset:
        assert after[sample.path.name].split == sample.split
        assert after[sample.path.name].size_hw == sample.size_hw
        same_objects(sample.ground_truth, after[sample.path.name].ground_truth, flags=FLAGS)


@QUICK
@given(data=st.data())
def test_coco_keeps_pixels_and_holes(images, data):
    dataset = on_disk(data.draw(sets(Task.SEGMENTATION, "pixels")), images)
    _, after, _ = there_and_back(dataset, "coco")
    for sample in dataset:
        same_objects(sample.ground_truth, after[sample.path.name].ground_truth, flags=FLAGS, exact_masks=True)


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_yolo_keeps_labels_boxes_and_outlines(images, task, data):
    dataset = on_disk(data.draw(sets(task)), images)
    written, after, found = there_and_back(dataset, "yolo")
    assert found.labels.names == dataset.labels.names
    for sample in dataset:
        assert after[sample.path.name].split == sample.split
        same_objects(sample.ground_truth, after[sample.path.name].ground_truth, atol=1e-6)
    said = {x.what: set(x.samples) for x in written.losses}
    for flag in FLAGS:
        lost = {s.id for s in dataset if getattr(s.ground_truth, flag).any()}
        assert said.get(f"which objects are {flag} is not kept", set()) == lost


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_voc_keeps_boxes_pixels_and_its_flags(images, task, data):
    dataset = on_disk(data.draw(sets(task, "pixels")), images)
    if not any(len(s.ground_truth) for s in dataset):
        return
    written, after, _ = there_and_back(dataset, "voc")
    for sample in dataset:
        assert after[sample.path.name].split == sample.split
        same_objects(
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
def test_tables_keep_labels_and_boxes(images, task, data):
    dataset = on_disk(data.draw(sets(task)), images)
    if not any(len(s.ground_truth) for s in dataset):
        return
    written, after, found = there_and_back(dataset, "csv")
    for sample in dataset:
        twin = after[sample.path.name]
        assert twin.split == sample.split
        if task is Task.DETECTION:
            same_objects(sample.ground_truth, twin.ground_truth)
        else:
            assert set(twin.ground_truth.label_names) == set(sample.ground_truth.label_names)
    if not any("label" in x.what for x in written.losses):
        assert found.labels.names == dataset.labels.names


@QUICK
@given(data=st.data())
def test_folders_keep_labels_and_splits(images, data):
    dataset = on_disk(data.draw(sets(Task.CLASSIFICATION)), images)
    written, after, found = there_and_back(dataset, "folders")
    for sample in dataset:
        assert after[sample.path.name].ground_truth.label_names == sample.ground_truth.label_names
        assert after[sample.path.name].split == sample.split
    assert set(found.labels.names) == set(dataset.labels.names)
    assert all("order of the labels" in x.what for x in written.losses)


def segmented(images, *masks):
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


def test_yolo_names_the_image_whose_holes_it_fills(images):
    ring = np.zeros(SIZES_HW[0], bool)
    ring[2:12, 3:20] = True
    ring[5:8, 8:12] = False
    written, after, _ = there_and_back(segmented(images, mask_from_array(ring)), "yolo")
    assert [x.samples for x in written.losses if "holes" in x.what] == [("a.png",)]
    filled = ring.copy()
    filled[5:8, 8:12] = True
    assert after["photo0.png"].ground_truth.masks[0].area == filled.sum()


def test_yolo_joins_the_parts_of_one_mask(images):
    parts = np.zeros(SIZES_HW[0], bool)
    parts[1:5, 1:6] = parts[9:14, 12:22] = True
    mask = mask_from_array(parts)
    written, after, _ = there_and_back(segmented(images, mask), "yolo")
    assert [x.samples for x in written.losses if "one part" in x.what] == [("a.png",)]
    assert mask_iou([after["photo0.png"].ground_truth.masks[0]], [mask])[0, 0] > 0.95


def test_voc_names_the_image_whose_objects_overlap(images):
    low, high = np.zeros(SIZES_HW[0], bool), np.zeros(SIZES_HW[0], bool)
    low[:10], high[8:] = True, True
    written, _, _ = there_and_back(segmented(images, mask_from_array(low), mask_from_array(high)), "voc")
    assert [x.samples for x in written.losses if "overlap" in x.what] == [("a.png",)]


def test_what_an_image_level_set_brings_survives_in_a_table(images):
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
    written, after, found = there_and_back(dataset, "csv")
    assert written.losses == ()
    assert found.labels == labels
    assert [(s.group, s.columns) for s in after.values()] == [(s.group, s.columns) for s in samples]


def test_two_images_of_one_name_get_two(draw, tmp_path):
    for name in ("a/1.png", "b/1.png", "b/1.jpg"):
        draw(f"set/{name}")
    dataset = open_dataset(tmp_path / "set")
    write_dataset(dataset, tmp_path / "out", "csv")
    found = open_dataset(tmp_path / "out")
    assert len(found) == 3
    before = {s.path.read_bytes(): s.ground_truth.label_names for s in dataset}
    assert {s.path.read_bytes(): s.ground_truth.label_names for s in found} == before


@pytest.mark.parametrize(
    ("kind", "task", "error"),
    [
        ("yolo", Task.CLASSIFICATION, WrongTask),
        ("coco", Task.MULTILABEL, WrongTask),
        ("folders", Task.MULTILABEL, WrongTask),
        ("ymca", Task.CLASSIFICATION, UnknownName),
    ],
)
def test_a_format_refuses_what_it_cannot_hold(draw, tmp_path, kind, task, error):
    draw("set/a/1.png")
    draw("set/b/2.png")
    dataset = as_task(open_dataset(tmp_path / "set"), task)
    with pytest.raises(error):
        write_dataset(dataset, tmp_path / "out", kind)


def test_nothing_is_written_over(draw, tmp_path):
    draw("set/a/1.png")
    draw("set/b/2.png")
    with pytest.raises(BadInput, match="not empty"):
        write_dataset(open_dataset(tmp_path / "set"), tmp_path / "set", "csv")


HELD_FLAGS = {"coco": {*FLAGS}, "voc": {"difficult", "truncated"}, "yolo": set(), "csv": set()}


def through(dataset, first, second):
    """The set after it was written as one format, read, written as another and read again; what was lost."""
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
@pytest.mark.parametrize("second", HELD_FLAGS)
@pytest.mark.parametrize("first", HELD_FLAGS)
def test_boxes_survive_every_pair_of_formats(images, first, second, data):
    dataset = on_disk(data.draw(sets(Task.DETECTION)), images)
    if not any(len(s.ground_truth) for s in dataset):
        return
    losses, after = through(dataset, first, second)
    flags = HELD_FLAGS[first] & HELD_FLAGS[second]
    for sample in dataset:
        assert after[sample.path.name].split == sample.split
        same_objects(sample.ground_truth, after[sample.path.name].ground_truth, flags=flags, atol=1e-6)
    for flag in {*FLAGS} - flags:
        told = any(flag in x.what for x in losses)
        assert told == any(getattr(s.ground_truth, flag).any() for s in dataset)


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
def test_masks_survive_between_formats_that_hold_them(images, first, second, masks, data):
    dataset = on_disk(data.draw(sets(Task.SEGMENTATION, masks)), images)
    if not any(len(s.ground_truth) for s in dataset):
        return
    _, after = through(dataset, first, second)
    for sample in dataset:
        same_objects(
            sample.ground_truth,
            after[sample.path.name].ground_truth,
            exact_masks=masks == "pixels",
            atol=1e-6,
        )


@settings(QUICK, max_examples=12)
@given(data=st.data())
@pytest.mark.parametrize(("first", "second"), [("folders", "csv"), ("csv", "folders")])
def test_labels_survive_between_folders_and_tables(images, first, second, data):
    dataset = on_disk(data.draw(sets(Task.CLASSIFICATION)), images)
    _, after = through(dataset, first, second)
    for sample in dataset:
        assert after[sample.path.name].ground_truth.label_names == sample.ground_truth.label_names
        assert after[sample.path.name].split == sample.split


def test_yolo_names_the_box_that_its_outline_does_not_fill(images):
    outline = PolygonMask(SIZES_HW[0], (np.array([[2.0, 2], [10, 2], [10, 10]]),))
    dataset = segmented(images, outline)
    ground_truth = replace(
        dataset[0].ground_truth, boxes_xyxy=np.array([[0.0, 0, 20, 12]]), areas=np.array([99.0])
    )
    dataset = replace(dataset, samples=(replace(dataset[0], ground_truth=ground_truth),))
    written, after, _ = there_and_back(dataset, "yolo")
    assert {x.what.split()[0]: x.samples for x in written.losses if "data.yaml" not in x.what} == {
        "a": ("a.png",),
        "the": (),
    }
    np.testing.assert_allclose(after["photo0.png"].ground_truth.boxes_xyxy, [[2, 2, 10, 10]], atol=1e-6)


def test_a_refused_conversion_leaves_no_folder(images, tmp_path):
    dataset = segmented(images, mask_from_array(np.ones(SIZES_HW[0], bool)))
    with pytest.raises(WrongTask):
        write_dataset(dataset, tmp_path / "out", "folders")
    assert not (tmp_path / "out").exists()
