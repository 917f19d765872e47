"""Reports, their verification, and the export of reviewed labels."""

import csv
import io
import shutil
import subprocess

import pytest
import sqlalchemy as sa
from PIL import Image
from tests.inspections.conftest import Case, image_bytes

from blemish.data import open_dataset
from blemish.geometry import mask_to_array
from blemish.inference import load
from blemish.inspections.finding_records import NewFinding
from blemish.inspections.inspector import inspect_images, inspection_summary
from blemish.inspections.label_export import export_labels, reviewed_dataset
from blemish.inspections.report_content import DECISIONS, LIMITS, gather
from blemish.inspections.report_csv import safe_cell
from blemish.inspections.report_writer import verify_report, write_report
from blemish.inspections.severity import load_rules
from blemish.testing import raises

SQUARE = [[[10, 10], [30, 10], [30, 30], [10, 30]]]
HOLE = [[15, 15], [15, 20], [20, 20], [20, 15]]


@pytest.fixture
def case(sqlite_store):
    return Case(sqlite_store, images=3, rules=load_rules("vehicle"))


@pytest.mark.parametrize("kind", ["pdf", "html", "csv"])
def test_write_report_is_verified_until_it_is_changed(case, tmp_path, kind):
    pytest.importorskip("fpdf")
    report, data = write_report(
        case.store, case.inspection.id, kind, options={"company": "Müller", "claim": "47"}
    )
    path = tmp_path / f"r.{kind}"
    path.write_bytes(data)
    check = verify_report(case.store, path)
    assert check.unchanged and check.report_id == report.id and check.inspection_id == case.inspection.id
    assert case.store.reports.content(report) == data
    path.write_bytes(data + b" ")
    assert verify_report(case.store, path).reason == "unknown-file"


def test_verify_report_finds_a_broken_chain(case, tmp_path):
    (tmp_path / "r.csv").write_bytes(write_report(case.store, case.inspection.id, "csv")[1])
    with case.store.access.database.engine.begin() as connection:
        connection.execute(sa.text("DROP TRIGGER audit_event_no_update"))
        connection.execute(sa.text("UPDATE audit_event SET actor = 'other' WHERE sequence = 2"))
    assert verify_report(case.store, tmp_path / "r.csv").reason == "chain-broken"


def test_write_report_as_pdf_states_what_the_store_contains(case):
    pytest.importorskip("fpdf")
    case.store.reviews.decide(case.findings[0].id, "edit", changes={"label": "scratch"}, reviewer="Ada")
    _, data = write_report(case.store, case.inspection.id, "pdf")
    assert data.startswith(b"%PDF-") and data.count(b"/Type /Page\n") >= 4


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext (poppler-utils) is not installed")
def test_the_text_of_a_pdf_is_what_the_store_contains(case, tmp_path):
    pytest.importorskip("fpdf")
    store = case.store
    store.reviews.decide(case.findings[0].id, "edit", changes={"label": "scratch", "part": "left door"})
    store.reviews.decide(case.findings[1].id, "reject", reason="reflection", reviewer="Ada")
    report, data = write_report(
        store, case.inspection.id, "pdf", options={"company": "Müller", "claim": "47"}
    )
    (tmp_path / "r.pdf").write_bytes(data)
    command = ["pdftotext", "-layout", str(tmp_path / "r.pdf"), "-"]
    text = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    words = " ".join(text.split())
    summary = inspection_summary(store, case.inspection.id)
    facts = gather(store, case.inspection.id, {"claim": "47"}).facts()
    for name, value in facts:
        if name not in ("Report",):
            assert f"{name} {value}" in words, (name, words)
    assert DECISIONS[summary["decision"]] in words and "Müller" in words
    for finding, row in zip(case.findings, gather(store, case.inspection.id).rows(), strict=True):
        assert all(str(row[key]) in words for key in ("label", "part", "severity_level", "image", "state"))
        assert f"score {finding.score:.2f}" in words
    assert "was dent" in words and "reflection" in words
    squeezed = "".join(text.split())
    assert report.audit_hash in squeezed and case.run.model_digest in squeezed
    assert all(line in words for line in LIMITS)
    pages = text.count("Page ")
    assert f"Page {pages} of {pages}" in words


@pytest.mark.parametrize("kind", ["pdf", "html", "csv"])
def test_write_report_shows_the_heatmap_of_the_model_that_decided(sqlite_store, tmp_path, tiny, kind):
    pytest.importorskip("fpdf")
    for name, seed in (("cells", 0), ("other", 1)):
        tiny.write_scores_model(tmp_path / f"{name}.onnx", labels=("dented", "fine"), seed=seed)
    model, other = (load(tmp_path / f"{name}.onnx", backend="onnxruntime") for name in ("cells", "other"))
    asset = sqlite_store.assets.create("vehicle", "B-XY 12")
    inspection = sqlite_store.inspections.create(asset.id)
    image = sqlite_store.images.add(inspection.id, image_bytes(3), file_name="a.png")
    run = inspect_images(sqlite_store, inspection.id, model, model_name="cells.onnx")
    assert run.parameters["certificate"].startswith("none:")
    content = gather(sqlite_store, inspection.id, models=[model])
    assert content.heatmaps[image.id].drawn.size == (64, 48)
    assert model.digest[:16] in content.heatmaps[image.id].caption
    assert content.models() == [
        {
            "name": "cells.onnx",
            "task": "classification",
            "sha256": model.digest,
            "images": 1,
            "certificate": run.parameters["certificate"],
            "first_run": run.created_at[:19].replace("T", " "),
        }
    ]
    _, data = write_report(sqlite_store, inspection.id, kind, models=[model])
    if kind == "html":
        assert data.decode().count("data:image/jpeg;base64,") == 2
    if kind != "csv":
        with raises("bad-input.heatmap-model"):
            write_report(sqlite_store, inspection.id, kind, models=[other])


def test_write_report_as_html_escapes_text(case):
    case.store.reviews.decide(case.findings[0].id, "note", note="<script>alert(1)</script>")
    _, data = write_report(case.store, case.inspection.id, "html", options={"title": "<b>"})
    text = data.decode()
    assert "<script>" not in text and "&lt;script&gt;" in text and "<b>" not in text
    assert text.count("data:image/jpeg;base64,") == 3
    assert case.store.reports.of_inspection(case.inspection.id)[0].audit_hash in text


def test_write_report_as_csv_has_one_line_for_each_finding(case):
    changes = {"label": "=cmd|' /C calc'!A0"}
    case.store.reviews.decide(case.findings[0].id, "edit", changes=changes)
    _, data = write_report(case.store, case.inspection.id, "csv")
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    assert len(rows) == 3
    assert rows[0]["label"] == "'=cmd|' /C calc'!A0" and rows[0]["label_as_found"] == "dent"
    assert [float(rows[1][name]) for name in ("x1", "y1", "x2", "y2")] == case.findings[1].box_xyxy


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\t=1", "\r=1", "  =1", "\uff1d1"])
def test_safe_cell_stops_formulas(text):
    assert safe_cell(text)[0] == "'"


def test_write_report_refuses_unknown_formats_and_options(case):
    with raises("unknown-name.report-format", "pdf"):
        write_report(case.store, case.inspection.id, "docx")
    with raises("bad-input.report-option"):
        write_report(case.store, case.inspection.id, "csv", options={"price": "1"})


def test_export_labels_applies_the_reviews(case, tmp_path):
    store, (first, second, _) = case.store, case.findings
    store.reviews.decide(first.id, "edit", changes={"label": "scratch", "box_xyxy": [0, 0, 20, 20]})
    store.reviews.decide(second.id, "reject")
    store.reviews.add(
        case.inspection.id, NewFinding(image_id=second.image_id, label="rust", box_xyxy=[1, 2, 30, 40])
    )
    written, left_out = export_labels(store, [case.inspection.id], tmp_path / "coco", "coco")
    assert written.images == 2 and left_out == {"undecided findings": 1}
    dataset = open_dataset(tmp_path / "coco")
    found = {s.path.stem: s.ground_truth for s in dataset}
    one, two = (found[image.sha256] for image in case.images[:2])
    assert one.label_names == ("scratch",) and one.boxes_xyxy.tolist() == [[0, 0, 20, 20]]
    assert two.label_names == ("rust",)
    assert {s.group for s in dataset} == {"B-XY 12"}


def test_reviewed_dataset_has_masks_with_holes(case):
    for finding in case.findings:
        changes = {"polygons": [*SQUARE, HOLE]}
        case.store.reviews.decide(finding.id, "edit", changes=changes)
    dataset, _ = reviewed_dataset(case.store, [case.inspection.id])
    assert dataset.task == "segmentation"
    mask = mask_to_array(dataset[0].ground_truth.masks[0])
    assert mask.sum() == 20 * 20 - 5 * 5 and not mask[17, 17] and mask[12, 12]


def test_reviewed_dataset_of_undecided_findings_is_refused(case):
    with raises("bad-input.nothing-reviewed"):
        reviewed_dataset(case.store, [case.inspection.id])


def test_an_image_that_is_smaller_than_its_label_is_drawn(case, sqlite_store):
    from blemish.inspections.report_content import crop_finding, draw_findings, gather

    content = gather(case.store, case.inspection.id)
    assert draw_findings(case.store, content, case.images[0]).size == (64, 48)
    crop = crop_finding(case.store, case.images[0], case.findings[0])
    assert isinstance(crop, Image.Image) and crop.size == (240, 240)


def test_export_labels_names_an_unknown_format_before_undecided_findings(sqlite_store, tmp_path):
    asset = sqlite_store.assets.create("free", "X")
    inspection = sqlite_store.inspections.create(asset.id)
    with raises("unknown-name.writable-format"):
        export_labels(sqlite_store, [inspection.id], tmp_path / "labels", "nope")
    assert not (tmp_path / "labels").exists()
