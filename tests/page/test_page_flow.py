"""From an image to a decision, by mouse and by keyboard."""

import re
import time

import pytest
from playwright.sync_api import expect


def threshold(page, value):
    page.locator("#threshold").evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }", str(value)
    )


def test_everything_by_mouse(visit, hands):
    page = visit()
    expect(page.locator("#limits")).to_contain_text("Nothing is kept on the server")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="choose files").click()
    chooser.value.set_files([hands.file("one.png"), hands.file("two.png", hands.damaged(["blue"]))])
    hands.settled(page, 2)
    expect(page.locator("#verdict")).to_have_text("1 dent and 1 scratch; 1 needs a look")
    expect(page.locator("#byline")).to_contain_text("one.png, finder, ")
    expect(page.locator("#byline")).to_contain_text("knows only dent, scratch and broken lamp")
    expect(page.locator(".finding")).to_have_count(2)
    expect(page.locator(".findings tbody tr")).to_have_count(2)
    expect(page.locator(".findings tbody tr").first).to_contain_text("92.0 %")
    expect(page.locator(".findings tbody tr").first).to_contain_text("25.0 %")  # 320 x 240 of 640 x 480

    # Hover and choice go both ways.
    page.locator(".findings tbody tr").first.hover()
    expect(page.locator("g.finding[data-finding='1']")).to_have_class(re.compile("hover"))
    page.locator("g.finding[data-finding='1']").click()
    expect(page.locator(".findings tr.chosen")).to_contain_text("Dent")
    page.get_by_role("button", name="2. Scratch", exact=True).click()
    expect(page.locator("g.finding.chosen")).to_have_attribute("data-finding", "2")
    assert page.locator(".photograph").get_attribute("viewBox") != "0 0 640 480"
    page.get_by_role("button", name="Fit the photograph").click()
    assert page.locator(".photograph").get_attribute("viewBox") == "0 0 640 480"

    # The threshold, down to the file's floor, at once.
    threshold(page, 0)
    expect(page.locator(".finding")).to_have_count(3)
    expect(page.locator("#verdict")).to_have_text("1 dent, 1 scratch and 1 broken lamp")
    assert float(page.locator("#threshold").get_attribute("min")) == 0.05
    expect(page.locator("#view-where")).to_contain_text("gives no lower score")
    threshold(page, 0.95)
    expect(page.locator("#verdict")).to_have_text("Nothing found; 1 needs a look")
    expect(page.locator(".finding.below")).to_have_count(1)  # the dent of .92: shown, not counted
    expect(page.locator(".findings caption")).to_have_text("Nothing reaches the threshold; 3 below it")
    expect(page.locator(".findings")).to_contain_text("Just below the threshold, not counted")
    page.locator("[data-key=own]").click()
    expect(page.locator(".finding")).to_have_count(2)

    page.get_by_role("tab", name="Verdict").click()
    expect(page.locator(".bars li")).to_have_count(3)
    expect(page.locator(".bars li").first).to_contain_text("92.0 %")
    page.locator(".face").nth(1).click()
    expect(page.locator("#verdict")).to_have_text("Nothing found")
    page.get_by_role("button", name="Remove two.png").click()
    expect(page.locator(".photo")).to_have_count(1)


def test_a_slider_can_be_dragged_while_the_page_redraws(visit, hands):
    page = visit()
    page.set_input_files("#files", [hands.file()])
    hands.settled(page, 1)
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


def test_everything_by_keyboard(visit, hands):
    page = visit()
    page.on("filechooser", lambda _: None)  # Chromium begins to intercept it only some time after being asked
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the photograph")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("o")
    chooser.value.set_files([hands.file("one.png"), hands.file("two.png", hands.damaged(["blue"]))])
    hands.settled(page, 2)
    page.keyboard.press("n")
    expect(page.locator("g.finding.chosen")).to_have_attribute("data-finding", "1")
    page.keyboard.press("n")
    expect(page.locator("g.finding.chosen")).to_have_attribute("data-finding", "2")
    page.keyboard.press("Escape")
    expect(page.locator("g.finding.chosen")).to_have_count(0)
    page.keyboard.press("0")
    page.keyboard.press("+")
    zoomed = page.locator(".photograph").get_attribute("viewBox")
    assert zoomed != "0 0 640 480"
    page.keyboard.press("d")
    assert page.locator(".photograph").get_attribute("viewBox") != zoomed
    page.keyboard.press("0")

    page.keyboard.press("t")
    expect(page.locator("#threshold")).to_be_focused()
    page.keyboard.press("Home")
    expect(page.locator(".finding")).to_have_count(3)
    expect(page.locator("#threshold")).to_be_focused()  # still, after everything was drawn anew

    # An outline is reached and pressed like a button.
    page.locator("g.finding[data-finding='1']").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".findings tr.chosen")).to_contain_text("Dent")
    expect(page.locator("g.finding[data-finding='1']")).to_be_focused()

    page.locator("#tab-where").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-verdict")).to_be_focused()
    expect(page.locator("#view-verdict")).to_be_visible()
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
    page.get_by_label("Single keys are on").press("Space")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("2")
    expect(page.locator("#view-why")).to_be_hidden()  # single letters are off now (WCAG 2.1.4)


def test_tab_reaches_everything_in_the_order_one_sees(visit, hands):
    page = visit()
    page.set_input_files("#files", [hands.file()])
    hands.settled(page, 1)
    seen = []
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                """() => { const e = document.activeElement;
                   return e.dataset?.key ?? e.id ?? e.textContent }"""
            )
        )
    wanted = [
        "model",
        "pick",
        "show-keys",
        "photo-p1",
        "remove-p1",
        "outline-1",
        "outline-2",
        "zoom-in",
        "fit",
    ]
    wanted += ["tab-where", "view-where", "threshold", "row-1", "row-2", "save-report", "save-coco"]
    places = [seen.index(name) for name in wanted]
    assert places == sorted(places), seen


def test_paste_and_drop(visit, hands):
    page = visit()
    hands.drop(page, [hands.file("dropped.png")])
    assert page.evaluate("() => window.overShown")
    hands.settled(page, 1)
    expect(page.locator("#over")).to_be_hidden()
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
    hands.settled(page, 2)
    expect(page.locator(".photo.done")).to_have_count(2)


def test_the_camera_is_offered_to_fingers_only(visit):
    expect(visit().get_by_role("button", name="Camera")).to_be_hidden()
    phone = visit(has_touch=True, is_mobile=True, viewport={"width": 320, "height": 640})
    expect(phone.get_by_role("button", name="Camera")).to_be_visible()
    assert phone.locator("#shot").get_attribute("capture") == "environment"


def test_a_narrow_phone_needs_no_scrolling_sideways(visit, hands):
    page = visit(has_touch=True, is_mobile=True, viewport={"width": 320, "height": 640})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 320
    page.set_input_files("#files", [hands.file(f"photograph-{'long' * 20}-{i}.png") for i in range(3)])
    hands.settled(page, 3)
    for tab in ("verdict", "why", "where"):
        page.locator(f"#tab-{tab}").click()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("how", ["the page at 200 %", "letters at 200 %"])
def test_twice_as_large_nothing_is_lost_to_the_side(how, visit, hands):
    page = visit(viewport={"width": 640, "height": 400} if how.startswith("the page") else None)
    if how.startswith("letters"):
        page.set_viewport_size({"width": 1280, "height": 800})
        page.evaluate("() => { document.documentElement.style.fontSize = '30px'; }")
    names = [hands.file(f"photograph-{'long' * 20}-{i}.png") for i in range(3)]
    page.set_input_files("#files", names)
    hands.settled(page, 3)
    for tab in ("verdict", "why", "where"):
        page.locator(f"#tab-{tab}").click()
        wide, room = page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= room, tab
        cut_off = page.evaluate(
            """() => [...document.querySelectorAll("button, select, h2, td, dd")]
                .filter((e) => e.offsetParent && getComputedStyle(e).overflowX !== "visible")
                .filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.outerHTML.slice(0, 80))"""
        )
        assert cut_off == [], tab


def test_why_is_shown_on_the_image_and_named_after_its_model(visit, hands):
    page = visit()
    page.locator("#model").select_option("verdict")
    page.set_input_files("#files", [hands.file(data=hands.damaged(["green"]))])
    hands.settled(page, 1)
    page.get_by_role("tab", name="Why").click()
    page.locator(".heat").wait_for()
    expect(page.locator(".pane figcaption")).to_have_count(2)
    expect(page.locator(".pane figcaption").nth(1)).to_have_text(re.compile("Where verdict looked for “.*”"))
    page.get_by_label("Original beside it").uncheck()
    expect(page.locator(".pane")).to_have_count(1)

    def alpha():
        return page.locator("#heat feFuncA").get_attribute("tableValues").split()

    assert alpha()[29] == "0" and alpha()[30] == "0.6"
    move = "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }"
    page.locator("#from").evaluate(move, "0.1")
    page.locator("#opacity").evaluate(move, "0.9")
    expect(page.locator("#heat feFuncA")).to_have_attribute("tableValues", re.compile(r"^(0 ){10}0\.9 "))
    page.get_by_label("Explain").select_option("broken")
    expect(page.locator(".pane figcaption")).to_contain_text("“Broken”")
    page.locator(".heat").wait_for()


def test_an_empty_map_is_told_and_not_shown_as_if_it_were_one(visit, hands):
    page = visit()
    page.locator("#model").select_option("verdict")
    page.set_input_files("#files", [hands.file(data=hands.damaged([]))])
    hands.settled(page, 1)
    page.get_by_role("tab", name="Why").click()
    expect(page.locator("#view-why")).to_contain_text("Nothing in this photograph speaks for")
    expect(page.locator(".pane figcaption")).to_contain_text("Nothing in this photograph speaks for")
    expect(page.locator(".heat")).to_have_count(0)
    expect(page.locator("#opacity")).to_have_count(0)


def test_another_model_is_asked_about_every_image(visit, hands):
    page = visit()
    page.set_input_files("#files", [hands.file("one.png"), hands.file("two.png")])
    hands.settled(page, 2)
    page.locator("#model").select_option("verdict")
    expect(page.locator("#verdict")).to_contain_text("sure")
    expect(page.locator("#view-verdict")).to_be_visible()
    expect(page.locator(".photo.done")).to_have_count(2)
    expect(page.locator(".finding")).to_have_count(0)


def test_the_first_result_is_there_within_a_second_of_the_answer(visit, hands):
    page = visit()
    page.set_input_files("#files", [hands.file()])
    hands.settled(page, 1)  # the server is warm now
    page.get_by_role("button", name="Remove car.png").click()
    with page.expect_request_finished(lambda r: "/api/v1/predict" in r.url):
        page.set_input_files("#files", [hands.file("again.png")])
    began = time.perf_counter()
    page.locator(".finding").first.wait_for()
    expect(page.locator("#verdict")).to_contain_text("1 dent")
    assert time.perf_counter() - began < 1


def test_what_came_to_an_end_is_said_aloud(visit, hands):
    page = visit()
    page.set_input_files("#files", [hands.file("one.png")])
    expect(page.get_by_role("status")).to_have_text("one.png: 1 dent and 1 scratch; 1 needs a look")
    page.set_input_files("#files", [hands.file("two.png", b"not a photograph")])
    expect(page.get_by_role("status")).to_have_text(re.compile("1 photograph done, 1 failed"))


def test_nothing_moves_for_those_who_asked_for_that(visit, hands):
    page = visit(reduced_motion="reduce")
    page.set_input_files("#files", [hands.file()])
    hands.settled(page, 1)
    page.get_by_role("tab", name="Verdict").click()
    durations = page.locator(".fill").first.evaluate("e => getComputedStyle(e).transitionDuration")
    assert durations == "0s"
    assert page.evaluate("() => document.getAnimations().length") == 0
