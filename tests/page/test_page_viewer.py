"""The overlay is where the damage is, for every EXIF orientation."""

import io
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.mark.parametrize(
    "source", ["server's copy", pytest.param("browser's own view", marks=pytest.mark.slow)]
)
def test_overlay_at_every_orientation(source, visit, tools):
    page = visit(device_scale_factor=2)
    if source == "browser's own view":
        page.route("**/api/v1/artifacts/**", lambda route: route.abort())
    for orientation in range(1, 9):
        image = tools.damaged(["red"], "JPEG", orientation)
        name = f"{orientation}.jpg"
        if source == "server's copy":
            with page.expect_response("**/api/v1/artifacts/**"):
                page.set_input_files("#files", [tools.file(name, image, "image/jpeg")])
        else:
            page.set_input_files("#files", [tools.file(name, image, "image/jpeg")])
        tools.settled(page, 1)
        page.locator(".photo-image image").evaluate("e => e.decode()")
        svg = page.locator(".photo-image")
        assert svg.get_attribute("viewBox") == "0 0 640 480"
        corner = svg.bounding_box()
        outline = page.locator(".finding .line").evaluate(
            "e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; }"
        )
        for over in (".outlines", ".badges"):
            page.locator(over).evaluate("e => (e.style.visibility = 'hidden')")
        pixels = np.asarray(Image.open(io.BytesIO(svg.screenshot())).convert("RGB")).astype(int)
        page.get_by_role("button", name=f"Remove {name}").click()
        red = pixels[..., 0] - pixels[..., 1:].max(-1) > 110
        assert red.mean() > 0.1
        drawn = np.zeros_like(red)
        x1, y1, x2, y2 = np.round([2 * (v - corner["xy"[i % 2]]) for i, v in enumerate(outline)]).astype(int)
        drawn[y1:y2, x1:x2] = True
        iou = (red & drawn).sum() / (red | drawn).sum()
        assert iou >= 0.99, (orientation, iou)


def test_badges_keep_their_size_when_zoomed(visit, tools):
    page = visit()
    page.set_input_files("#files", [tools.file()])
    tools.settled(page, 1)
    before = page.locator(".badge rect").first.bounding_box()
    page.keyboard.press("+")
    after = page.locator(".badge rect").first.bounding_box()
    assert after["height"] == pytest.approx(before["height"], abs=0.2)


def test_badges_do_not_hide_each_other(visit, tools):
    page = visit()

    def crowded(route):
        *stages, last = route.fetch().text().splitlines()
        answer = json.loads(last)
        detection = answer["result"]["detections"][0]
        answer["result"]["detections"] = [{**detection, "id": i} for i in range(1, 13)]  # in the same place
        route.fulfill(
            status=200,
            content_type="application/x-ndjson",
            body="\n".join([*stages, json.dumps(answer)]) + "\n",
        )

    page.route("**/api/v1/predict?**", crowded)
    page.set_input_files("#files", [tools.file()])
    tools.settled(page, 1)
    for _ in range(2):
        boxes = [badge.bounding_box() for badge in page.locator(".badge rect").all()]
        assert len(boxes) == 12
        lefts = sorted(box["x"] for box in boxes)
        assert all(after - before >= boxes[0]["width"] - 0.5 for before, after in itertools.pairwise(lefts))
        page.keyboard.press("+")


def test_file_format_that_browsers_cannot_show(visit, tools):
    page = visit()
    page.set_input_files("#files", [tools.file("scan.tif", tools.damaged(kind="TIFF"), "image/tiff")])
    tools.settled(page, 1)
    page.locator(".finding").first.wait_for()
    page.locator(".photo-image image[href^='blob:']").wait_for()
    with page.expect_download() as download:
        page.locator("[data-key=save-png]").click()
    assert tools.downloaded_image(download.value).shape == (480, 640, 3)


def test_label_colors_are_those_of_the_server():
    from blemish import service
    from blemish.drawing import PALETTE

    script = (Path(service.__file__).parent / "page" / "colors.js").read_text(encoding="utf-8")
    listed = re.search(r"const LABELS = \[(.*?)\]", script, re.DOTALL)[1]
    assert re.findall(r"#[0-9a-f]{6}", listed) == [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in PALETTE]
