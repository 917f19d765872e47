"""Findings of several images become damages; inspections are compared."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from blemish.geometry import map_points
from blemish.imaging import open_image
from blemish.inspections.comparison import Side, compare_sides
from blemish.inspections.finding_groups import Group, merge_findings
from blemish.inspections.finding_records import NewFinding
from blemish.inspections.identifiers import new_id
from blemish.inspections.inspector import compare_inspections, inspection_summary, merge_inspection
from blemish.inspections.records import Finding, InspectionImage
from blemish.inspections.registration import find_features, register
from blemish.inspections.severity import load_rules
from blemish.testing import raises

SHIFT = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])


def make_image(view="", size_hw=(100, 100)):
    return InspectionImage(
        id=new_id(), created_at="", inspection_id="", sha256="", size_bytes=1, height=size_hw[0],
        width=size_hw[1], format="PNG", orientation=1, perceptual_hash="",
        file_name="", view=view, quality={},
    )  # fmt: skip


def make_finding(image, box, label="dent", part="", score=0.9, state="open", level=""):
    return Finding(
        id=new_id(), created_at="", inspection_id="", image_id=image.id, run_id=None, origin="model",
        label=label, score=score, box_xyxy=box, polygons=None, area_share=None, part=part,
        severity_scale="", severity_level=level, severity_rule="", measures={}, state=state,
        current_label=label, current=None, group_id=None, group_basis="", change="unknown", version=1,
    )  # fmt: skip


def test_merge_findings_by_geometry():
    a, b = make_image(), make_image()
    one, far = make_finding(a, [10, 10, 30, 30]), make_finding(a, [60, 60, 80, 80])
    same, other = make_finding(b, [21, 10, 41, 30]), make_finding(b, [21, 10, 41, 30], label="scratch")
    groups = merge_findings([one, far, same, other], [a, b], {(a.id, b.id): SHIFT})
    assert {(g.basis, g.finding_ids) for g in groups} == {
        ("geometry", (one.id, same.id)),
        ("alone", (far.id,)),
        ("alone", (other.id,)),
    }


def test_merge_findings_by_part_and_view_only_without_geometry():
    a, b, c = make_image("left"), make_image("left"), make_image("right")
    one, two = (make_finding(x, [10, 10, 30, 30], part="door") for x in (a, b))
    elsewhere = make_finding(c, [10, 10, 30, 30], part="door")
    groups = merge_findings([one, two, elsewhere], [a, b, c], {})
    assert [(g.basis, len(g.finding_ids)) for g in groups] == [("part-and-view", 2), ("alone", 1)]
    far = np.array([[1.0, 0, 50], [0, 1, 50], [0, 0, 1]])
    groups = merge_findings([one, two], [a, b], {(a.id, b.id): far})
    assert [g.basis for g in groups] == ["alone", "alone"]


def test_merge_findings_never_joins_two_of_one_image():
    a, b = make_image("left"), make_image("left")
    first, second = make_finding(a, [0, 0, 9, 9], part="door"), make_finding(a, [50, 50, 60, 60], part="door")
    third = make_finding(b, [0, 0, 9, 9], part="door", score=0.5)
    groups = merge_findings([first, second, third], [a, b], {})
    assert sorted(len(g.finding_ids) for g in groups) == [1, 2]
    assert merge_findings([make_finding(a, None), make_finding(b, None)], [a, b], {})[0].basis == "alone"


def test_merge_findings_leaves_out_what_is_rejected():
    a = make_image()
    assert merge_findings([make_finding(a, [0, 0, 9, 9], state="rejected")], [a], {}) == ()


def side(images, *findings):
    return Side([Group(f.id, "alone", (f.id,)) for f in findings], {f.id: f for f in findings}, images)


def test_compare_sides_by_geometry():
    old, new = make_image(), make_image()
    homographies = {(old.id, new.id): SHIFT, (new.id, old.id): np.linalg.inv(SHIFT)}
    same_old, same_new = make_finding(old, [10, 10, 30, 30]), make_finding(new, [20, 10, 40, 30])
    grown_old, grown_new = make_finding(old, [50, 50, 70, 70]), make_finding(new, [58, 48, 84, 75])
    gone, fresh = make_finding(old, [10, 70, 20, 80]), make_finding(new, [80, 5, 90, 15])
    outside = make_finding(new, [1, 1, 4, 4])  # the old image does not show this place
    hidden = make_finding(old, [95, 50, 99, 60])  # the new image does not show this place
    changes = compare_sides(
        side([old], same_old, grown_old, gone, hidden),
        side([new], same_new, grown_new, fresh, outside),
        homographies,
        None,
    )
    found = {(c.group_id or c.previous_group_id): (c.change, c.basis) for c in changes}
    assert found == {
        same_new.id: ("pre-existing", "geometry"),
        grown_new.id: ("worsened", "geometry"),
        fresh.id: ("new", "geometry"),
        outside.id: ("unknown", "no comparison image"),
        gone.id: ("repaired", "geometry"),
        hidden.id: ("unknown", "not visible"),
    }


def test_compare_sides_by_part_and_view_and_by_level():
    old, new, other = make_image("left"), make_image("left"), make_image("rear")
    before = make_finding(old, [0, 0, 9, 9], part="door", level="1")
    after = make_finding(new, [0, 0, 9, 9], part="door", level="2")
    fresh, unseen = make_finding(new, [0, 0, 9, 9], part="hood"), make_finding(other, [0, 0, 9, 9])
    changes = compare_sides(
        side([old], before), side([new, other], after, fresh, unseen), {}, load_rules("vehicle")
    )
    assert [(c.change, c.basis) for c in changes] == [
        ("worsened", "part-and-view"),
        ("new", "view"),
        ("unknown", "no comparison image"),
    ]


def textured(seed=0, size=(420, 320)):
    """Return a surface with texture, as large as the images of two views of it."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", size, (120, 120, 120))
    draw = ImageDraw.Draw(image)
    for _ in range(260):
        x, y, r = random.uniform(0, size[0]), random.uniform(0, size[1]), random.uniform(3, 16)
        color = tuple(int(v) for v in random.integers(0, 256, 3))
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)([x, y, x + r, y + r], fill=color)
    return image


def warp(image, matrix):
    """Return the image as seen under a homography (of its own pixels to those of the result)."""
    inverse = np.linalg.inv(matrix)
    inverse /= inverse[2, 2]
    return image.transform(
        image.size, Image.Transform.PERSPECTIVE, inverse.ravel()[:8], Image.Resampling.BICUBIC
    )


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


VIEW = np.array([[0.94, -0.16, 40.0], [0.15, 0.97, -12.0], [1.2e-4, -8e-5, 1.0]])


def test_register_recovers_a_homography_to_a_pixel_and_refuses_another_scene():
    pytest.importorskip("skimage")
    scene = textured()
    a, b, other = (find_features(open_image(png(x))) for x in (scene, warp(scene, VIEW), textured(9)))
    matrix = register(a, b)
    points = np.array([[60, 60], [300, 60], [300, 250], [60, 250], [180, 160.0]])
    assert np.abs(map_points(matrix, points) - map_points(VIEW, points)).max() < 1
    assert register(a, other) is None
    blank = find_features(open_image(png(Image.new("RGB", (64, 64)))))
    assert register(a, blank) is None


def test_merge_and_compare_stored_inspections(sqlite_store):
    pytest.importorskip("skimage")
    scene, store = textured(), sqlite_store
    asset = store.assets.create("vehicle", "B-XY 12")
    boxes = {"old": [100, 100, 140, 140], "moved": [200, 150, 240, 190], "fresh": [260, 80, 290, 110]}

    def mapped(box):
        corners = np.array([[box[0], box[1]], [box[2], box[1]], [box[2], box[3]], [box[0], box[3]]], float)
        points = map_points(VIEW, corners)
        return [*points.min(0), *points.max(0)]

    def inspect(pairs, previous=None):
        inspection = store.inspections.create(asset.id, previous_id=previous)
        for pixels, found in pairs:
            image = store.images.add(inspection.id, png(pixels))
            for box in found:
                new = NewFinding(image_id=image.id, label="dent", box_xyxy=box)
                store.reviews.add(inspection.id, new)
        merge_inspection(store, inspection.id)
        return inspection

    before = inspect([(scene, [boxes["old"], boxes["moved"]]), (warp(scene, VIEW), [mapped(boxes["old"])])])
    summary = inspection_summary(store, before.id)
    assert summary["counts"] == {"dent": 2} and summary["decision"] == "findings"
    assert sorted(d["basis"] for d in summary["damages"]) == ["alone", "geometry"]
    after = inspect([(warp(scene, VIEW), [mapped(boxes["old"]), mapped(boxes["fresh"])])], before.id)
    changes = compare_inspections(store, after.id)
    assert sorted(c.change for c in changes) == ["new", "pre-existing", "repaired"]
    stored = store.inspections.get(after.id).comparison
    assert len(stored["changes"]) == 3 and stored["registered_pairs"] == 2
    assert inspection_summary(store, after.id)["changes"] == {"new": 1, "pre-existing": 1}
    with raises("bad-input.no-previous"):
        compare_inspections(store, before.id)
