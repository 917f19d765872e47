"""blemish.data.synthetic: the same bytes for the same seed, visible damage, and data sets that read back."""

import hashlib
import itertools
from typing import Any

import numpy as np
import pytest

from blemish.data import open_dataset
from blemish.data.synthetic import (
    CELL_LABELS,
    LAYOUTS,
    PANEL_LABELS,
    VEHICLE_LABELS,
    cells,
    panels,
    save_image,
    vehicles,
    write_cells,
    write_panels,
    write_specimens,
    write_vehicles,
)
from blemish.geometry import mask_box, mask_from_polygons, mask_to_array
from blemish.imaging import open_image
from blemish.structures import Task
from blemish.testing import raises

TASKS = list(Task)


def digest(root):
    out = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            out.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return out.hexdigest()


@pytest.mark.parametrize("generator", [cells, panels, vehicles])
def test_specimen_depends_only_on_seed_and_number(generator):
    few, many = list(generator(5, 3)), list(generator(9, 3))
    for a, b in zip(few, many, strict=False):
        assert (a.id, a.group, a.ground_truth.label_names) == (b.id, b.group, b.ground_truth.label_names)
        assert np.array_equal(a.image.pixels, b.image.pixels)
    other = list(generator(5, 4))
    assert not any(np.array_equal(a.image.pixels, b.image.pixels) for a, b in zip(few, other, strict=True))
    assert len({s.image.pixels.tobytes() for s in many}) == len({s.id for s in many}) == 9


@pytest.mark.parametrize("generator", [cells, panels])
@pytest.mark.parametrize("task", TASKS)
def test_generators_support_every_task_and_every_label_occurs(generator, task):
    specimens = list(generator(24, task=task))
    labels = specimens[0].ground_truth.labels
    seen = set()
    for specimen in specimens:
        ground_truth = specimen.ground_truth
        assert ground_truth.task is task and ground_truth.labels == labels
        assert ground_truth.size_hw == specimen.image.size_hw == (128, 128)
        seen |= set(ground_truth.label_names)
        if task is Task.SEGMENTATION:
            for box, mask in zip(ground_truth.boxes_xyxy, ground_truth.masks, strict=True):
                assert mask.area >= 4 and np.array_equal(box, mask_box(mask))
        if task is Task.LOCALIZATION:
            assert len(ground_truth) == 1
    assert seen == set(labels.names)
    if task in (Task.MULTILABEL, Task.DETECTION, Task.SEGMENTATION):
        assert any(len(s.ground_truth) == 0 for s in specimens) and any(
            len(s.ground_truth) > 1 for s in specimens
        )


def test_flaw_masks_equal_their_polygons_and_do_not_overlap():
    for specimen in panels(30, 2):
        for flaw in specimen.flaws:
            again = mask_from_polygons(flaw.polygons, specimen.image.size_hw)
            assert np.array_equal(again.counts, flaw.mask.counts)
        for a, b in itertools.combinations(specimen.flaws, 2):
            assert not (mask_to_array(a.mask) & mask_to_array(b.mask)).any()


def test_damage_has_contrast_at_its_ground_truth():
    contrast: dict[Any, Any] = {}
    for specimen in itertools.chain(panels(40, 5), cells(40, 5, task=Task.SEGMENTATION)):
        gray = specimen.image.pixels.mean(2)
        for flaw in specimen.flaws:
            inside = mask_to_array(flaw.mask)
            y, x = np.nonzero(inside)
            ring = np.zeros_like(inside)
            ring[max(y.min() - 4, 0) : y.max() + 5, max(x.min() - 4, 0) : x.max() + 5] = True
            ring &= ~inside
            name = specimen.ground_truth.labels.names[flaw.label_index]
            spread = (
                np.abs(gray[inside] - np.median(gray[ring])).mean()
                - np.abs(gray[ring] - np.median(gray[ring])).mean()
            )
            contrast.setdefault(name, []).append(spread)
    assert set(contrast) == {*PANEL_LABELS.names, *CELL_LABELS.names}
    for name, values in contrast.items():
        assert np.median(values) > 6, name


def test_16_bit_cells_equal_8_bit_cells_up_to_rounding():
    for coarse, fine in zip(cells(4, 1), cells(4, 1, bits=16), strict=True):
        assert fine.image.pixels.dtype == np.uint16 and fine.image.pixels.max() > 20_000
        from_fine = fine.image.pixels / 60_000 * 255
        assert np.abs(from_fine - coarse.image.pixels[..., 0]).max() <= 0.51
        assert len(np.unique(fine.image.pixels)) > 1000


def test_cells_of_a_module_share_a_group():
    groups = [cell.group for cell in cells(12)]
    assert [len(list(run)) for _, run in itertools.groupby(groups)] == [4, 4, 4]
    assert len(set(groups)) == 3


def test_vehicles_alternate_between_six_labels():
    specimens = list(vehicles(12))
    assert [v.ground_truth.label_names[0] for v in specimens] == list(VEHICLE_LABELS.names) * 2
    assert VEHICLE_LABELS.display_name("F_Crushed") == "Front Crushed"


@pytest.mark.parametrize("size_hw", [(32, 32), (33, 90), (90, 33), (200, 300)])
def test_generators_support_other_sizes(size_hw):
    for specimen in itertools.chain(panels(8, size_hw=size_hw), vehicles(6, size_hw=size_hw)):
        assert specimen.image.size_hw == size_hw
    assert next(cells(1, size=size_hw[0])).image.size_hw == (size_hw[0],) * 2


def test_generators_reject_values_out_of_range():
    for call, reason, fact in (
        (lambda: next(cells(-1)), "count", -1),
        (lambda: next(cells(1, size=8)), "size", 8),
        (lambda: next(panels(1, size_hw=(31, 100))), "size", 31),
        (lambda: next(cells(1, bits=12)), "bits", 12),
    ):
        with raises(f"bad-input.{reason}", fact):
            call()


CASES = [
    (write_cells, {}),
    (write_cells, {"bits": 16, "suffix": ".tif"}),
    (write_cells, {"layout": "csv", "splits": {"train": 0.6, "val": 0.2, "test": 0.2}}),
    (write_panels, {}),
    (write_panels, {"splits": {"train": 0.5, "val": 0.5}, "suffix": ".bmp"}),
    (write_panels, {"layout": "multilabel-csv", "splits": {"train": 0.6, "test": 0.4}}),
    (write_panels, {"layout": "boxes-csv"}),
    (write_panels, {"layout": "boxes-csv", "task": "detection", "size_hw": (64, 96)}),
    (write_vehicles, {"suffix": ".webp"}),
]


@pytest.mark.parametrize(("write", "options"), CASES)
def test_write_gives_the_same_bytes_for_a_seed_and_reads_back(write, options, tmp_path):
    written = write(tmp_path / "a", 24, 7, **options)
    write(tmp_path / "b", 24, 7, **options)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    write(tmp_path / "c", 24, 8, **options)
    assert digest(tmp_path / "a") != digest(tmp_path / "c")

    read = open_dataset(tmp_path / "a")
    assert read.task is written.task and set(read.labels.names) == set(written.labels.names)
    expected = {
        s.path.resolve(): s
        for s in written
        if s.ground_truth.label_names or written.task is not Task.DETECTION
    }
    actual = {s.path.resolve(): s for s in read}
    assert set(actual) == set(expected)
    for path, sample in expected.items():
        assert sorted(actual[path].ground_truth.label_names) == sorted(sample.ground_truth.label_names)
        assert actual[path].split == sample.split
        if sample.ground_truth.boxes_xyxy is not None:
            assert np.array_equal(actual[path].ground_truth.boxes_xyxy, sample.ground_truth.boxes_xyxy)


@pytest.mark.parametrize(
    ("suffix", "bits"), [(".png", 8), (".bmp", 8), (".webp", 8), (".tif", 8), (".png", 16), (".tif", 16)]
)
def test_save_image_is_lossless(suffix, bits, tmp_path):
    for specimen in itertools.chain(cells(2, bits=bits), panels(2 if bits == 8 else 0)):
        path = tmp_path / f"{specimen.id}{suffix}"
        save_image(specimen.image, path)
        assert np.array_equal(open_image(path).pixels, specimen.image.pixels)


def test_save_image_rejects_16_bits_as_jpeg(tmp_path):
    with raises("bad-input.suffix", ".jpg", ".png", ".tif"):
        write_cells(tmp_path, 2, bits=16, suffix=".jpg")


def test_splits_keep_groups_together_and_are_not_empty(tmp_path):
    written = write_cells(tmp_path, 12, splits={"train": 0.9, "val": 0.05, "test": 0.05})
    assert set(written.splits) == {"train", "val", "test"}
    split_of: dict[Any, Any] = {}
    for sample in written:
        assert split_of.setdefault(sample.group, sample.split) == sample.split


def test_images_layout_returns_ground_truth_in_memory_only(tmp_path):
    written = write_panels(tmp_path, 5, layout="images")
    assert written.task is Task.SEGMENTATION
    assert all(s.path.is_file() and s.ground_truth.masks is not None for s in written)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images"]


def test_write_rejects_unsuitable_layouts(tmp_path):
    with raises("unknown-name.layout", "'folder'", "'folders'"):
        write_panels(tmp_path, 2, layout="folder")
    with raises("bad-input.layout-task", "folders", "classification", "detection"):
        write_panels(tmp_path, 2, layout="folders", task="detection")
    with raises("unknown-name.suffix", ".pnk", ".png"):
        write_panels(tmp_path, 2, suffix=".pnk")
    with raises("bad-input.count", 0):
        write_specimens([], tmp_path)
    assert list(tmp_path.iterdir()) == [] and set(LAYOUTS) >= {"folders", "csv"}


def test_write_names_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with raises("storage-full", tmp_path / "file"):
        write_panels(tmp_path / "file", 2)
