"""The inspections of the page: create, upload, review, two tabs, reload, comparison, downloads."""

import io
import json
import re
import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Route, expect

pytest.importorskip("sqlalchemy")
pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def store_server(page_models, tmp_path_factory, tools):
    with tools.serving(page_models, "--inspections", str(tmp_path_factory.mktemp("page") / "store")) as one:
        yield one


@pytest.fixture
def open_inspections(visit, store_server):
    """Open the list of inspections, with a reviewer's name unless there is none yet."""

    def open_page(reviewer="Ada", **options):
        page = visit(store_server.address, wait=False, **options)
        if reviewer:
            page.evaluate("name => localStorage.setItem('blemish-reviewer', name)", reviewer)
            page.reload()
        page.locator("[data-key=new-inspection]").wait_for()
        return page

    return open_page


def create(page, reference, views="front, rear"):
    page.locator("[data-key=new-inspection]").click()
    page.locator("#new-reference").fill(reference)
    page.locator("#new-asset-kind").select_option("vehicle")
    page.locator("#new-views").fill(views)
    page.locator("#new-create").click()
    page.locator("[data-key=add-photos]").wait_for()


def add(page, files):
    """Add photos and wait until the model has analyzed them."""
    page.set_input_files("#inspection-files", files)
    page.locator(".tile:not(.upload)").nth(len(files) - 1).wait_for()
    expect(page.locator(".tile.waiting, .tile.analyzing, .tile.upload")).to_have_count(0)
    page.locator("[data-key=run-progress]").wait_for(state="detached")
    page.locator(".finding-panel h2").wait_for()


def reviewed(page):
    """Wait until the store has confirmed every decision."""
    page.wait_for_function("() => !localStorage.getItem('blemish-decisions')")


def textured(tools, colors):
    """Return an image with enough detail to be registered with another one."""
    levels = np.random.default_rng(4).integers(60, 200, (60, 80), np.uint8)
    texture = Image.fromarray(levels).resize((640, 480), Image.Resampling.BICUBIC).convert("RGB")
    with Image.open(io.BytesIO(tools.damaged(colors))) as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
        mixed = np.where((pixels == 120).all(2, keepdims=True), np.asarray(texture), pixels)
    with io.BytesIO() as buffer:
        Image.fromarray(mixed).save(buffer, "PNG")
        return buffer.getvalue()


def rows(page):
    return page.locator(".review-table tbody tr")


def test_create_upload_and_review_by_mouse(open_inspections, tools):
    page = open_inspections(reviewer=None)
    create(page, "mouse")
    add(page, [tools.file("front.png"), tools.file("side.png", tools.damaged(["red"]))])
    expect(page.locator("#decision-text")).to_have_text("Incomplete: 1 required view is missing")
    expect(page.locator(".view.missing")).to_contain_text("rear")
    expect(rows(page)).to_have_count(3)
    expect(page.locator(".finding-panel h2")).to_contain_text("1. ")
    page.locator("[data-key=review-accept]").click()
    page.locator("#reviewer-name").fill("Ada")
    page.get_by_role("button", name="Use this name").click()
    expect(rows(page).first).to_have_class(re.compile("accepted"))
    page.locator("[data-key=review-reject]").click()  # the next finding was selected
    expect(rows(page).nth(1)).to_have_class(re.compile("rejected"))
    reviewed(page)
    page.locator(".tile button").nth(1).click()
    page.locator("#photo-view").fill("rear")
    page.locator("#photo-view").press("Enter")
    expect(page.locator("#decision-text")).to_have_text("1 finding needs your decision")
    rows(page).nth(2).click()  # of either photo: findings have the order in which the photos arrived
    page.locator("[data-key=review-accept]").click()
    expect(page.locator("#decision-text")).to_contain_text("Damage found")
    page.locator("[data-key=to-list]").click()
    row = page.locator(".inspection-list tbody tr", has_text="mouse")
    expect(row).to_contain_text("3 findings decided")


def test_review_by_keyboard(open_inspections, tools):
    page = open_inspections()
    create(page, "keyboard")
    add(page, [tools.file("front.png"), tools.file("rear.png", tools.damaged(["green"]))])
    expect(rows(page)).to_have_count(3)
    press = page.keyboard.press
    press("a")  # accept, and go on
    press("e")
    expect(page.locator("#edit-label")).to_be_focused()
    page.locator("#edit-label").fill("lamp")
    press("Tab")
    page.keyboard.type("left fender")
    press("Enter")
    expect(rows(page).nth(1)).to_contain_text("Broken Lamp")
    expect(rows(page).nth(1)).to_contain_text("left fender")
    press("b")
    press("ArrowRight")
    press("Shift+ArrowDown")
    press("p")
    press("Enter")
    press("m")
    page.keyboard.type("seen from the left")
    press("Control+Enter")
    reviewed(page)
    expect(page.locator(".history li")).to_have_count(3)
    expect(page.locator(".history")).to_contain_text("seen from the left")
    press("j")
    press("x")
    press("n")
    press("Enter")  # a box in the middle
    expect(page.locator(".handle")).to_have_count(8)
    press("ArrowRight")
    press("Shift+Tab")
    page.locator("#edit-label").fill("dent")
    page.locator("#edit-label").press("Enter")
    expect(rows(page)).to_have_count(4)
    reviewed(page)
    expect(page.locator("#decision-text")).to_contain_text("Damage found")
    findings = page.request.get(
        f"{page.url.split('#')[0]}api/v1/findings?limit=50&inspection_id={page.url.rsplit('/', 1)[1]}"
    ).json()["items"]
    changed = next(f for f in findings if f["current_label"] == "lamp")
    assert changed["label"] == "scratch" and changed["current"]["polygons"]
    assert [f["origin"] for f in findings].count("person") == 1


def hold_first(page, url, method):
    """Hold the first request of a method back, and return the list that it will be in."""
    held: list[Route] = []

    def handle(route):
        if route.request.method == method and not held:
            held.append(route)
        else:
            route.continue_()

    page.route(url, handle)
    return held


STORED_FINDING = re.compile(r"/api/v1/findings/[^/?]+$")


def test_a_change_right_after_another_is_no_conflict(open_inspections, tools):
    page = open_inspections()
    create(page, "quick", "")
    add(page, [tools.file("one.png", tools.damaged(["red"]))])
    held = hold_first(page, STORED_FINDING, "GET")  # which the page reads after the first note is stored
    press = page.keyboard.press
    press("m")
    page.keyboard.type("first")
    with page.expect_request(STORED_FINDING):
        press("Control+Enter")
    press("m")
    page.keyboard.type("second")
    press("Control+Enter")
    press("m")
    page.keyboard.type("see")
    with page.expect_response(re.compile("/reviews$")):  # of the second note
        held[0].continue_()
    page.keyboard.type("n from the left")
    press("Control+Enter")
    reviewed(page)
    notes = page.locator(".history li")
    expect(notes).to_have_count(3)
    expect(notes.nth(1)).to_contain_text("second")
    expect(notes.nth(2)).to_contain_text("seen from the left")


def test_a_conflict_waits_for_the_end_of_an_edit(open_inspections, tools):
    first = open_inspections("Ada")
    create(first, "conflict", "")
    add(first, [tools.file("one.png", tools.damaged(["red", "green"]))])
    second = open_inspections("Bob")
    second.goto(first.url)
    second.locator(".finding-panel h2").wait_for()
    first.keyboard.press("x")
    reviewed(first)
    held = hold_first(second, "**/reviews", "POST")
    with second.expect_request("**/reviews"):
        second.keyboard.press("a")  # and the next finding is selected
    second.keyboard.press("m")
    second.keyboard.type("see")
    with second.expect_response(STORED_FINDING):
        held[0].continue_()
    second.keyboard.type("n from the left")
    expect(second.locator("#edit-note")).to_have_value("seen from the left")
    expect(second.locator("#edit-note")).to_be_focused()
    second.keyboard.press("Control+Enter")
    dialog = second.locator("#inspection-dialog")
    expect(dialog).to_contain_text("Ada changed it on")
    second.keyboard.press("Space")  # no button has the focus
    second.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    second.locator("#conflict-apply").click()
    reviewed(second)
    expect(rows(second).first).to_have_class(re.compile("accepted"))
    expect(second.locator(".history")).to_contain_text("seen from the left")


def test_drawing_does_not_move_a_field_that_has_the_focus(open_inspections):
    page = open_inspections()
    events = page.evaluate(
        """async () => {
            const { fill, h } = await import("/page/dom.js");
            const parent = document.body.appendChild(h("div"));
            const field = () => h("div", { "data-key": "body" }, h("input", { "data-key": "field" }));
            fill(parent, h("p", { "data-key": "notice" }, "text"), field());
            const input = parent.querySelector("input");
            input.focus();
            const events = [];
            for (const name of ["focus", "blur"]) input.addEventListener(name, () => events.push(name));
            fill(parent, field());
            fill(parent, h("p", { "data-key": "notice" }, "text"), field());
            return [...events, document.activeElement === input];
        }"""
    )
    assert events == [True]


def test_photos_that_arrive_in_another_order(open_inspections, tools):
    page = open_inspections()
    create(page, "order", "")
    held = hold_first(page, re.compile(r"/inspections/[^/]+/images"), "POST")
    one, two = tools.file("a.png", tools.damaged(["red"])), tools.file("b.png", tools.damaged(["green"]))
    page.set_input_files("#inspection-files", [one, two])
    page.locator(".tile:not(.upload)").wait_for()
    held[0].continue_()
    expect(rows(page)).to_have_count(2)
    page.locator("[data-key=run-progress]").wait_for(state="detached")
    for name, number in (
        ("a.png", 2),
        ("b.png", 1),
    ):  # a photo opens with its finding, as with the arrow keys
        page.locator(".tile button", has_text=name).click()
        expect(page.locator(".photo-name")).to_have_text(name)
        expect(page.locator(".finding-panel h2")).to_contain_text(f"{number}. ")
        page.locator("[data-key=review-accept]").wait_for()


def test_polygon_vertices_by_mouse(open_inspections, tools):
    page = open_inspections()
    create(page, "vertices", "")
    add(page, [tools.file("one.png", tools.damaged(["red"]))])
    page.keyboard.press("b")
    page.locator("[data-key=shape-polygon]").click()
    vertices = page.locator(".handle:not(.middle)")
    before = vertices.count()
    middle = page.locator(".handle.middle").first
    box = middle.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 30, box["y"] + 40, steps=3)
    page.mouse.up()
    expect(vertices).to_have_count(before + 1)
    vertices.first.focus()
    page.keyboard.press("Delete")
    expect(vertices).to_have_count(before)
    page.locator("[data-key=edit-save]").click()
    reviewed(page)
    expect(page.locator(".history")).to_contain_text("Changed by Ada")


def test_two_tabs_never_overwrite_each_other(open_inspections, tools):
    first = open_inspections("Ada")
    create(first, "two tabs", "")
    add(first, [tools.file("one.png", tools.damaged(["red"]))])
    second = open_inspections("Bob")
    second.goto(first.url)
    second.locator(".finding-panel h2").wait_for()
    first.keyboard.press("x")
    reviewed(first)
    second.keyboard.press("a")
    dialog = second.locator("#inspection-dialog")
    expect(dialog).to_contain_text("Ada changed it on")
    expect(dialog.locator(".differs").first).to_contain_text("Rejected")
    dialog.press("Escape")
    expect(dialog).to_be_visible()  # nothing is dropped in silence
    second.locator("#conflict-keep").click()
    expect(rows(second).first).to_have_class(re.compile("rejected"))
    first.keyboard.press("j")
    first.keyboard.press("u")
    reviewed(first)
    second.keyboard.press("j")
    second.keyboard.press("a")
    second.locator("#conflict-apply").click()
    reviewed(second)
    expect(rows(second).first).to_have_class(re.compile("accepted"))
    expect(second.locator(".history li")).to_have_count(3)


def test_unsaved_work_survives_a_reload(open_inspections, tools):
    page = open_inspections()
    create(page, "reload", "")
    add(page, [tools.file("one.png")])
    page.keyboard.press("e")
    page.locator("#edit-note").fill("half a thought")
    page.reload()
    expect(page.locator(".restored")).to_be_visible()
    expect(page.locator("#edit-note")).to_have_value("half a thought")
    page.locator("#edit-note").press("Escape")
    expect(page.locator(".editor")).to_have_count(0)
    page.route(
        "**/reviews", lambda route: route.abort() if route.request.method == "POST" else route.continue_()
    )
    page.keyboard.press("a")
    expect(page.locator("[data-key=unstored]")).to_be_visible()
    page.unroute("**/reviews")
    page.reload()
    reviewed(page)
    expect(rows(page).first).to_have_class(re.compile("accepted"))
    expect(rows(page).first).not_to_have_class(re.compile("pending"))


def test_upload_shows_progress_and_failures_of_each_photo(open_inspections, tools):
    page = open_inspections()
    create(page, "uploads", "")
    page.set_input_files(
        "#inspection-files",
        [tools.file("one.png"), tools.file("two.png"), tools.file("bad.png", b"no image")],
    )
    failed = page.locator(".tile.upload.failed")
    expect(failed).to_have_count(2)  # one is no image, and two have the same content
    expect(failed.filter(has_text="bad.png")).to_be_visible()
    expect(page.locator(".tile:not(.upload)")).to_have_count(1)
    page.get_by_role("button", name=re.compile("Dismiss .*bad.png")).click()
    expect(failed).to_have_count(1)


def test_before_and_after(open_inspections, tools):
    page = open_inspections()
    create(page, "again", "front")
    add(page, [tools.file("front.png", textured(tools, ["red"]))])
    page.locator("[data-key=to-asset]").click()
    page.locator("[data-key=inspect-again]").click()
    page.locator("#new-views").fill("front")
    page.locator("#new-create").click()
    page.locator("[data-key=add-photos]").wait_for()
    add(page, [tools.file("front.png", textured(tools, ["red", "green"]))])
    page.keyboard.press("c")
    page.locator("[data-key=compare-now]").click()
    expect(page.locator(".case-panel tbody tr")).to_have_count(2)
    slider = page.locator("#compare-slider")
    slider.focus()
    page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "100% before")
    expect(page.locator(".layer.before image")).to_have_count(1)
    expect(page.locator(".compare-figure")).to_contain_text("mapped onto this one")
    page.locator("[data-key=to-asset]").click()
    expect(page.locator(".history-entry")).to_have_count(2)
    expect(page.locator(".history-entry").first).to_contain_text("1 new")


def test_downloads(open_inspections, tools, tmp_path):
    page = open_inspections()
    create(page, "files", "")
    add(page, [tools.file("one.png", tools.damaged(["red"]))])
    page.keyboard.press("a")
    reviewed(page)
    page.keyboard.press("r")
    page.locator("#report-claim").fill("4711")
    for kind, start in (("pdf", b"%PDF-"), ("html", b"<!"), ("csv", b"")):
        with page.expect_download() as download:
            page.locator(f"#report-{kind}").click()
        assert download.value.path().read_bytes().startswith(start)
        assert download.value.suggested_filename.endswith(kind)
    page.keyboard.press("Escape")
    page.locator("[data-key=labels]").click()
    with page.expect_download() as download:
        page.locator("#labels-save").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".json"))
        assert len(json.loads(archive.read(name))["annotations"]) == 1


def test_list_filters_and_closed_inspections(open_inspections, tools):
    page = open_inspections()
    create(page, "closing 17", "")
    add(page, [tools.file("one.png", tools.damaged(["red"]))])
    page.locator("[data-key=status]").click()
    expect(page.locator(".badge-text")).to_have_text("Closed")
    expect(page.locator("[data-key=review-accept]")).to_have_count(0)
    page.locator("[data-key=to-list]").click()
    page.locator("#list-search").fill("closing")
    expect(page.locator(".empty-list")).to_contain_text("No inspection matches")
    page.locator("[data-key=show-closed]").click()
    expect(page.locator(".inspection-list tbody tr")).to_have_count(1)
    page.locator(".reference").click()
    page.locator("[data-key=status]").click()
    expect(page.locator("[data-key=review-accept]")).to_be_visible()


def test_table_of_findings_shows_whole_labels_on_a_phone(open_inspections, tools):
    page = open_inspections(viewport={"width": 320, "height": 640}, locale="de-DE")
    create(page, "narrow")
    add(page, [tools.file("front.png")])
    label = rows(page).locator(".name").first
    one_line, height = label.evaluate(
        "e => [parseFloat(getComputedStyle(e).lineHeight), e.getBoundingClientRect().height]"
    )
    assert height < 1.5 * one_line
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
