"""The downloads: JSON, PNG, COCO and the report."""

import hashlib
import json
import re

import numpy as np
from playwright.sync_api import expect


def download(page, key):
    with page.expect_download() as started:
        page.locator(f"[data-key={key}]").click()
    return started.value


def test_save_json_and_png(visit, tools):
    page = visit()
    page.set_input_files("#files", [tools.file("my car.png")])
    tools.settled(page, 1)
    saved = download(page, "save-json")
    assert saved.suggested_filename == "my_car.json"
    answer = json.loads(saved.path().read_text(encoding="utf-8"))
    assert answer["sha256"] == hashlib.sha256(tools.damaged()).hexdigest()
    assert [d["label"] for d in answer["detections"]] == ["dent", "scratch", "lamp"]

    image = tools.downloaded_image(download(page, "save-png"))
    assert image.shape == (480, 640, 3)
    background = np.full(3, 120)
    x1, _, _, y2 = tools.rectangles["red"]
    assert abs(image[y2 + 30, x1 + 100] - background).max() < 12  # outside, untouched
    assert abs(image[y2 - 1 : y2 + 1, x1 + 100] - image[y2 + 30, x1 + 100]).max() > 40  # the outline


def test_save_coco_with_a_hole(visit, tools):
    from pycocotools import mask as coco_mask

    page = visit()
    page.set_input_files("#files", [tools.file("one.png"), tools.file("two.png")])
    tools.settled(page, 2)
    dataset = json.loads(download(page, "save-coco-all").path().read_text(encoding="utf-8"))
    assert [image["file_name"] for image in dataset["images"]] == ["one.png", "two.png"]
    assert [c["name"] for c in dataset["categories"]] == ["dent", "scratch", "lamp"]
    assert len(dataset["annotations"]) == 4
    dent, scratch = dataset["annotations"][:2]
    x1, y1, x2, y2 = tools.rectangles["red"]
    assert dent["bbox"] == [x1, y1, x2 - x1, y2 - y1]
    for annotation in (dent, scratch):
        code = annotation["segmentation"]
        runs = coco_mask.frPyObjects(code, 480, 640)
        area = float(np.sum(coco_mask.area(runs)))
        assert abs(area - annotation["area"]) <= 0.02 * annotation["area"]
    assert isinstance(scratch["segmentation"], dict)  # polygons would lose the hole
    assert scratch["area"] < 0.95 * scratch["bbox"][2] * scratch["bbox"][3]


def report_of(page, chromium, path, key="save-report"):
    """Return the report, opened offline; the caller closes its context."""
    download(page, key).save_as(path)
    context = chromium.new_context(offline=True)
    report = context.new_page()
    report.goto(path.as_uri())
    return report


def test_report_of_a_classifier_contains_the_heatmap(visit, tools, chromium, tmp_path):
    page = visit()
    page.locator("#model").select_option("classifier")
    page.set_input_files(
        "#files", [tools.file("one.png", tools.damaged(["green"])), tools.file("grey.png", tools.damaged([]))]
    )
    tools.settled(page, 2)
    report = report_of(page, chromium, tmp_path / "report.html", "save-report-all")
    try:
        first, second = report.locator("article").nth(0), report.locator("article").nth(1)
        expect(first.locator("img")).to_have_count(2)
        expect(first.locator("figcaption")).to_contain_text("Influence on “Normal” (classifier, occlusion)")
        # The heatmap is colored; the image under it is green and gray.
        reds = """image => { const c = document.createElement("canvas"); c.width = image.naturalWidth;
            c.height = image.naturalHeight; const x = c.getContext("2d"); x.drawImage(image, 0, 0);
            const d = x.getImageData(0, 0, c.width, c.height).data; let n = 0;
            for (let i = 0; i < d.length; i += 4) if (d[i] > d[i + 1] + 40) n += 1; return n; }"""
        assert first.locator("img").nth(0).evaluate(reds) == 0
        assert first.locator("img").nth(1).evaluate(reds) > 100
        assert len(re.findall(rb"/Type\s*/Page\b", report.pdf(format="A4"))) == 2
        expect(second.locator("img")).to_have_count(1)
        expect(second.locator("figcaption")).to_contain_text("The heatmap is empty")
    finally:
        report.context.close()


def test_report_works_offline(visit, tools, chromium, tmp_path):
    page = visit()
    page.set_input_files("#files", [tools.file("one.png"), tools.file("two.png", tools.damaged(["blue"]))])
    tools.settled(page, 2)
    path = tmp_path / "report.html"
    download(page, "save-report-all").save_as(path)
    context = chromium.new_context(offline=True)
    try:
        report = context.new_page()
        requests, messages = [], []
        report.on("request", lambda r: requests.append(r.url))
        report.on("console", lambda m: messages.append(m.text))
        report.goto(path.as_uri())
        expect(report.locator("h2").first).to_have_text("1 dent and 1 scratch; 1 needs review")
        expect(report.locator("tbody tr")).to_have_count(2)
        expect(report.locator("article").nth(1)).to_contain_text("No finding reaches its threshold")
        widths = report.locator("img").evaluate_all("all => all.map((i) => i.naturalWidth)")
        assert widths == [640, 640]
        assert messages == []
        assert all(url.startswith(("file:", "data:")) for url in requests)
        for size, points in (("A4", (595, 842)), ("Letter", (612, 792))):
            pdf = report.pdf(format=size)
            assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 2  # one sheet for each photo
            width, height = (
                float(v) for v in re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf).groups()
            )
            assert abs(width - points[0]) < 2 and abs(height - points[1]) < 2
    finally:
        context.close()
