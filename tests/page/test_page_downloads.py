"""What one takes away."""

import hashlib
import json
import re

import numpy as np
from playwright.sync_api import expect


def download(page, key):
    with page.expect_download() as started:
        page.locator(f"[data-key={key}]").click()
    return started.value


def test_json_and_picture(visit, hands):
    page = visit()
    page.set_input_files("#files", [hands.file("my car.png")])
    hands.settled(page, 1)
    found = download(page, "save-json")
    assert found.suggested_filename == "my_car.json"
    answer = json.loads(found.path().read_text(encoding="utf-8"))
    assert answer["sha256"] == hashlib.sha256(hands.damaged()).hexdigest()
    assert [o["label"] for o in answer["objects"]] == ["dent", "scratch", "lamp"]

    picture = hands.picture(download(page, "save-png"))
    assert picture.shape == (480, 640, 3)
    plain = np.full(3, 120)
    x1, _, _, y2 = hands.rectangles["red"]
    assert abs(picture[y2 + 30, x1 + 100] - plain).max() < 12  # outside, untouched
    assert abs(picture[y2 - 1 : y2 + 1, x1 + 100] - picture[y2 + 30, x1 + 100]).max() > 40  # the outline


def test_coco_with_a_hole(visit, hands):
    from pycocotools import mask as coco_mask

    page = visit()
    page.set_input_files("#files", [hands.file("one.png"), hands.file("two.png")])
    hands.settled(page, 2)
    found = json.loads(download(page, "save-coco-all").path().read_text(encoding="utf-8"))
    assert [image["file_name"] for image in found["images"]] == ["one.png", "two.png"]
    assert [c["name"] for c in found["categories"]] == ["dent", "scratch", "lamp"]
    assert len(found["annotations"]) == 4
    dent, scratch = found["annotations"][:2]
    x1, y1, x2, y2 = hands.rectangles["red"]
    assert dent["bbox"] == [x1, y1, x2 - x1, y2 - y1]
    for annotation in (dent, scratch):
        code = annotation["segmentation"]
        runs = coco_mask.frPyObjects(code, 480, 640)
        area = float(np.sum(coco_mask.area(runs)))
        assert abs(area - annotation["area"]) <= 0.02 * annotation["area"]
    assert isinstance(scratch["segmentation"], dict)  # polygons would lose the hole
    assert scratch["area"] < 0.95 * scratch["bbox"][2] * scratch["bbox"][3]


def report_of(page, chromium, path, key="save-report"):
    """The report, opened without a net; close its context."""
    download(page, key).save_as(path)
    context = chromium.new_context(offline=True)
    report = context.new_page()
    report.goto(path.as_uri())
    return report


def test_the_report_of_a_model_that_says_only_what_shows_the_map(visit, hands, chromium, tmp_path):
    page = visit()
    page.locator("#model").select_option("verdict")
    page.set_input_files(
        "#files", [hands.file("one.png", hands.damaged(["green"])), hands.file("grey.png", hands.damaged([]))]
    )
    hands.settled(page, 2)
    report = report_of(page, chromium, tmp_path / "report.html", "save-report-all")
    try:
        first, second = report.locator("article").nth(0), report.locator("article").nth(1)
        expect(first.locator("img")).to_have_count(2)
        expect(first.locator("figcaption")).to_contain_text("Where verdict looked for “Normal” (occlusion)")
        # The map's peak has a colour; the image under it was green and grey.
        reds = """image => { const c = document.createElement("canvas"); c.width = image.naturalWidth;
            c.height = image.naturalHeight; const x = c.getContext("2d"); x.drawImage(image, 0, 0);
            const d = x.getImageData(0, 0, c.width, c.height).data; let n = 0;
            for (let i = 0; i < d.length; i += 4) if (d[i] > d[i + 1] + 40) n += 1; return n; }"""
        assert first.locator("img").nth(0).evaluate(reds) == 0
        assert first.locator("img").nth(1).evaluate(reds) > 100
        assert len(re.findall(rb"/Type\s*/Page\b", report.pdf(format="A4"))) == 2
        expect(second.locator("img")).to_have_count(1)
        expect(second.locator("figcaption")).to_contain_text("The map is empty")
    finally:
        report.context.close()


def test_the_report_needs_neither_server_nor_net(visit, hands, chromium, tmp_path):
    page = visit()
    page.set_input_files("#files", [hands.file("one.png"), hands.file("two.png", hands.damaged(["blue"]))])
    hands.settled(page, 2)
    path = tmp_path / "report.html"
    download(page, "save-report-all").save_as(path)
    context = chromium.new_context(offline=True)
    try:
        report = context.new_page()
        asked, said = [], []
        report.on("request", lambda r: asked.append(r.url))
        report.on("console", lambda m: said.append(m.text))
        report.goto(path.as_uri())
        expect(report.locator("h2").first).to_have_text("1 dent and 1 scratch; 1 needs a look")
        expect(report.locator("tbody tr")).to_have_count(2)
        expect(report.locator("article").nth(1)).to_contain_text("No finding reaches its threshold")
        widths = report.locator("img").evaluate_all("all => all.map((i) => i.naturalWidth)")
        assert widths == [640, 640]
        assert said == []
        assert all(url.startswith(("file:", "data:")) for url in asked)
        for size, points in (("A4", (595, 842)), ("Letter", (612, 792))):
            pdf = report.pdf(format=size)
            assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 2  # one sheet an image
            width, height = (
                float(v) for v in re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf).groups()
            )
            assert abs(width - points[0]) < 2 and abs(height - points[1]) < 2
    finally:
        context.close()
