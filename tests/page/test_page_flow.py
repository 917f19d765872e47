"""From a photo to a decision, by mouse and by keyboard."""

import re

import pytest
from playwright.sync_api import expect


def set_threshold(page, value):
    page.locator("#threshold").evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }", str(value)
    )


def test_page_by_mouse(visit, tools):
    page = visit()
    expect(page.locator("#limits")).to_contain_text("Nothing is stored on the server")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="choose files").click()
    chooser.value.set_files([tools.file("one.png"), tools.file("two.png", tools.damaged(["blue"]))])
    tools.settled(page, 2)
    expect(page.locator("#summary")).to_have_text("1 dent and 1 scratch; 1 needs review")
    expect(page.locator("#byline")).to_contain_text("one.png, finder, ")
    expect(page.locator("#byline")).to_contain_text("Checked only for dent, scratch and broken lamp.")
    expect(page.locator(".finding")).to_have_count(2)
    expect(page.locator(".findings tbody tr")).to_have_count(2)
    expect(page.locator(".findings tbody tr").first).to_contain_text("92.0%")
    expect(page.locator(".findings tbody tr").first).to_contain_text("25.0%")  # 320 x 240 of 640 x 480

    # Hover and selection work in both directions.
    page.locator(".findings tbody tr").first.hover()
    expect(page.locator("g.finding[data-finding='1']")).to_have_class(re.compile("hover"))
    page.locator("g.finding[data-finding='1']").click()
    expect(page.locator(".findings tr.selected")).to_contain_text("Dent")
    page.get_by_role("button", name="2. Scratch", exact=True).click()
    expect(page.locator("g.finding.selected")).to_have_attribute("data-finding", "2")
    assert page.locator(".photo-image").get_attribute("viewBox") != "0 0 640 480"
    page.get_by_role("button", name="Fit the photo").click()
    assert page.locator(".photo-image").get_attribute("viewBox") == "0 0 640 480"

    # The threshold, down to the lowest score of the model file.
    set_threshold(page, 0)
    expect(page.locator(".finding")).to_have_count(3)
    expect(page.locator("#summary")).to_have_text("1 dent, 1 scratch and 1 broken lamp")
    assert float(page.locator("#threshold").get_attribute("min")) == 0.05
    expect(page.locator("#view-detections")).to_contain_text("reports none below 5.0%")
    set_threshold(page, 0.95)
    expect(page.locator("#summary")).to_have_text("Nothing found; 1 needs review")
    expect(page.locator(".finding.below")).to_have_count(1)  # the dent with .92: shown, not counted
    expect(page.locator(".findings caption")).to_have_text("No finding reaches the threshold; 3 below")
    expect(page.locator(".findings")).to_contain_text("Slightly below the threshold, not counted")
    page.locator("[data-key=reset-threshold]").click()
    expect(page.locator(".finding")).to_have_count(2)

    page.get_by_role("tab", name="Prediction").click()
    expect(page.locator(".bars li")).to_have_count(3)
    expect(page.locator(".bars li").first).to_contain_text("92.0%")
    page.locator(".face").nth(1).click()
    expect(page.locator("#summary")).to_have_text("Nothing found")
    page.get_by_role("button", name="Remove two.png").click()
    expect(page.locator(".photo")).to_have_count(1)


def test_slider_can_be_dragged_while_the_page_redraws(visit, tools):
    page = visit()
    page.set_input_files("#files", [tools.file()])
    tools.settled(page, 1)
    box = page.locator("#threshold").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.48, middle)
    page.mouse.down()
    for share in (0.4, 0.3, 0.2, 0.08):
        page.mouse.move(box["x"] + box["width"] * share, middle)
    expect(page.locator(".finding")).to_have_count(3)
    page.mouse.move(box["x"] + box["width"] * 0.7, middle)
    expect(page.locator(".finding")).to_have_count(1)
    page.mouse.up()


def test_page_by_keyboard(visit, tools):
    page = visit()
    page.on("filechooser", lambda _: None)  # Chromium intercepts it only some time after the request
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the photo")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("o")
    chooser.value.set_files([tools.file("one.png"), tools.file("two.png", tools.damaged(["blue"]))])
    tools.settled(page, 2)
    page.keyboard.press("n")
    expect(page.locator("g.finding.selected")).to_have_attribute("data-finding", "1")
    page.keyboard.press("n")
    expect(page.locator("g.finding.selected")).to_have_attribute("data-finding", "2")
    page.keyboard.press("Escape")
    expect(page.locator("g.finding.selected")).to_have_count(0)
    page.keyboard.press("0")
    page.keyboard.press("+")
    zoomed = page.locator(".photo-image").get_attribute("viewBox")
    assert zoomed != "0 0 640 480"
    page.keyboard.press("d")
    assert page.locator(".photo-image").get_attribute("viewBox") != zoomed
    page.keyboard.press("0")

    page.keyboard.press("t")
    expect(page.locator("#threshold")).to_be_focused()
    page.keyboard.press("Home")
    expect(page.locator(".finding")).to_have_count(3)
    expect(page.locator("#threshold")).to_be_focused()  # still, after the page was drawn again

    # An outline works like a button.
    page.locator("g.finding[data-finding='1']").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".findings tr.selected")).to_contain_text("Dent")
    expect(page.locator("g.finding[data-finding='1']")).to_be_focused()

    page.locator("#tab-detections").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-prediction")).to_be_focused()
    expect(page.locator("#view-prediction")).to_be_visible()
    page.keyboard.press("j")
    expect(page.locator("#byline")).to_contain_text("two.png")
    with page.expect_download() as download:
        page.keyboard.press("e")
    assert download.value.suggested_filename == "blemish-two.html"
    page.keyboard.press("Delete")
    expect(page.locator(".photo")).to_have_count(1)
    expect(page.locator(".face")).to_be_focused()

    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Next finding")
    page.get_by_label("Single-key shortcuts").press("Space")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("2")
    expect(page.locator("#view-heatmap")).to_be_hidden()  # single letters are off now (WCAG 2.1.4)


def test_tab_key_order_is_the_visual_order(visit, tools):
    page = visit()
    page.set_input_files("#files", [tools.file()])
    tools.settled(page, 1)
    seen = []
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                """() => { const e = document.activeElement;
                   return e.dataset?.key ?? e.id ?? e.textContent }"""
            )
        )
    expected = [
        "model",
        "pick",
        "show-shortcuts",
        "photo-p1",
        "remove-p1",
        "outline-1",
        "outline-2",
        "zoom-in",
        "fit",
    ]
    expected += [
        "tab-detections",
        "view-detections",
        "row-1",
        "row-2",
        "threshold",
        "save-report",
        "save-coco",
    ]
    places = [seen.index(name) for name in expected]
    assert places == sorted(places), seen


def test_paste_and_drop_files(visit, tools):
    page = visit()
    tools.drop(page, [tools.file("dropped.png")])
    assert page.evaluate("() => window.overlayShown")
    tools.settled(page, 1)
    expect(page.locator("#drop-overlay")).to_be_hidden()
    page.evaluate(
        """() => {
            const canvas = document.createElement("canvas");
            canvas.width = canvas.height = 32;
            return new Promise((done) => canvas.toBlob((blob) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([blob], "image.png", { type: "image/png" }));
                document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer }));
                done();
            }));
        }"""
    )
    tools.settled(page, 2)
    expect(page.locator(".photo.done")).to_have_count(2)


def test_camera_button_is_for_touch_screens_only(visit):
    expect(visit().get_by_role("button", name="Camera")).to_be_hidden()
    phone = visit(has_touch=True, is_mobile=True, viewport={"width": 320, "height": 640})
    expect(phone.get_by_role("button", name="Camera")).to_be_visible()
    assert phone.locator("#camera-file").get_attribute("capture") == "environment"


def test_narrow_phone_does_not_scroll_sideways(visit, tools):
    page = visit(has_touch=True, is_mobile=True, viewport={"width": 320, "height": 640})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 320
    page.set_input_files("#files", [tools.file(f"photo-{'long' * 20}-{i}.png") for i in range(3)])
    tools.settled(page, 3)
    for tab in ("prediction", "heatmap", "detections"):
        page.locator(f"#tab-{tab}").click()
        wide = page.evaluate(
            """() => [...document.querySelectorAll("body *")]
                .filter((e) => e.getBoundingClientRect().right > 321 && !e.closest("ol"))
                .map((e) => e.outerHTML.slice(0, 90))"""
        )
        assert wide == [], tab
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("how", ["the page at 200%", "letters at 200%"])
def test_page_at_200_percent_cuts_nothing_off(how, visit, tools):
    page = visit(viewport={"width": 640, "height": 400} if how.startswith("the page") else None)
    if how.startswith("letters"):
        page.set_viewport_size({"width": 1280, "height": 800})
        page.evaluate("() => { document.documentElement.style.fontSize = '30px'; }")
    names = [tools.file(f"photo-{'long' * 20}-{i}.png") for i in range(3)]
    page.set_input_files("#files", names)
    tools.settled(page, 3)
    for tab in ("prediction", "heatmap", "detections"):
        page.locator(f"#tab-{tab}").click()
        scroll_width, width = page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
        assert scroll_width <= width, tab
        cut_off = page.evaluate(
            """() => [...document.querySelectorAll("button, select, h2, td, dd")]
                .filter((e) => e.offsetParent && getComputedStyle(e).overflowX !== "visible")
                .filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.outerHTML.slice(0, 80))"""
        )
        assert cut_off == [], tab


def test_heatmap_is_shown_with_the_name_of_its_model(visit, tools):
    page = visit()
    page.locator("#model").select_option("classifier")
    page.set_input_files("#files", [tools.file(data=tools.damaged(["green"]))])
    tools.settled(page, 1)
    page.get_by_role("tab", name="Heatmap").click()
    page.locator(".heatmap").wait_for()
    expect(page.locator(".pane figcaption")).to_have_count(2)
    expect(page.locator(".pane figcaption").nth(1)).to_have_text(
        re.compile("Influence on “.*” \\(classifier, occlusion\\)")
    )
    page.get_by_label("Show the original beside it").uncheck()
    expect(page.locator(".pane")).to_have_count(1)

    def alpha():
        return page.locator("#heatmap feFuncA").get_attribute("tableValues").split()

    assert alpha()[29] == "0" and alpha()[30] == "0.6"
    move = "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }"
    page.locator("#minimum").evaluate(move, "0.1")
    page.locator("#opacity").evaluate(move, "0.9")
    expect(page.locator("#heatmap feFuncA")).to_have_attribute("tableValues", re.compile(r"^(0 ){10}0\.9 "))
    page.get_by_label("Explain the label").select_option("broken")
    expect(page.locator(".pane figcaption")).to_contain_text("“Broken”")
    page.locator(".heatmap").wait_for()


def test_heatmap_that_the_server_has_no_time_for_is_not_offered(visit, own_server, tools):
    page = visit(own_server("--heatmap-seconds", "0").address)
    page.locator("#model").select_option("classifier")
    page.set_input_files("#files", [tools.file(data=tools.damaged(["green"]))])
    tools.settled(page, 1)
    page.get_by_role("tab", name="Heatmap").click()
    expect(page.locator("[data-key=heatmap-not-offered]")).to_be_visible()
    expect(page.locator("[data-key=heatmap-progress]")).to_have_count(0)


def test_empty_heatmap_is_reported(visit, tools):
    page = visit()
    page.locator("#model").select_option("classifier")
    page.set_input_files("#files", [tools.file(data=tools.damaged([]))])
    tools.settled(page, 1)
    page.get_by_role("tab", name="Heatmap").click()
    expect(page.locator("#view-heatmap")).to_contain_text("No area of this photo raises the score")
    expect(page.locator(".pane figcaption")).to_contain_text("No area of this photo raises the score")
    expect(page.locator(".heatmap")).to_have_count(0)
    expect(page.locator("#opacity")).to_have_count(0)


def test_selecting_another_model_sends_every_photo_again(visit, tools):
    page = visit()
    page.set_input_files("#files", [tools.file("one.png"), tools.file("two.png")])
    tools.settled(page, 2)
    page.locator("#model").select_option("classifier")
    expect(page.locator("#summary")).to_contain_text("confidence")
    expect(page.locator("#view-prediction")).to_be_visible()
    expect(page.locator(".photo.done")).to_have_count(2)
    expect(page.locator(".finding")).to_have_count(0)


def test_result_is_drawn_without_a_timer(visit, tools):
    page = visit()
    page.clock.install()
    page.clock.pause_at(page.evaluate("() => Date.now() + 1000"))  # from here no timer of the page runs
    page.set_input_files("#files", [tools.file()])
    page.locator(".finding").first.wait_for()
    expect(page.locator("#summary")).to_contain_text("1 dent")


def test_results_are_announced_to_screen_readers(visit, tools):
    page = visit()
    page.set_input_files("#files", [tools.file("one.png")])
    expect(page.get_by_role("status")).to_have_text("one.png: 1 dent and 1 scratch; 1 needs review")
    page.set_input_files("#files", [tools.file("two.png", b"not an image")])
    expect(page.get_by_role("status")).to_have_text(re.compile("1 photo done, 1 failed"))


def test_page_does_not_move_with_reduced_motion(visit, tools):
    page = visit(reduced_motion="reduce")
    page.set_input_files("#files", [tools.file()])
    tools.settled(page, 1)
    page.get_by_role("tab", name="Prediction").click()
    durations = page.locator(".fill").first.evaluate("e => getComputedStyle(e).transitionDuration")
    assert durations == "0s"
    assert page.evaluate("() => document.getAnimations().length") == 0


def test_page_opens_the_sample_images_of_the_server(visit, server, tools):
    """`blemish demo --open` opens the page at `/#samples`."""
    page = visit()
    expect(page.locator("#welcome")).to_be_visible()
    listed = {"samples": [{"name": "one.png", "path": "/page/samples/0"}]}
    page.route("**/page/samples.json", lambda route: route.fulfill(json=listed))
    page.route("**/page/samples/0", lambda route: route.fulfill(body=tools.damaged()))
    page.goto(f"{server.address}/#samples")
    page.reload()
    tools.settled(page, 1)
    expect(page.locator("#byline")).to_contain_text("one.png, finder, ")


def test_page_without_sample_images_shows_the_welcome(visit, server):
    page = visit(f"{server.address}")
    page.goto(f"{server.address}/#samples")
    page.reload()
    page.locator("#about-model h2").wait_for()
    expect(page.locator("#welcome")).to_be_visible()
