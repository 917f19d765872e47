"""A claims handler's and a solar inspector's whole day, and the accessibility of every view."""

import io
import re
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

pytest.importorskip("sqlalchemy")

from blemish.data.synthetic.modules import modules

VIEWS = ("front", "rear", "left", "right")


@pytest.fixture(scope="module")
def store_server(page_models, tmp_path_factory, tools):
    with tools.serving(page_models, "--inspections", str(tmp_path_factory.mktemp("days") / "store")) as one:
        yield one


def photo(tools, number, colors):
    """Return one of 24 different photos."""
    with Image.open(io.BytesIO(tools.damaged(colors))) as drawn:
        pixels = np.array(drawn.convert("RGB"))
    pixels[:4, : 4 + number] = 90
    with io.BytesIO() as buffer:
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()


def wait_until_analyzed(page, count):
    page.locator(".tile:not(.upload)").nth(count - 1).wait_for()
    expect(page.locator(".tile.waiting, .tile.analyzing, .tile.upload")).to_have_count(0)
    page.locator("[data-key=run-progress]").wait_for(state="detached")
    page.locator(".finding-panel h2").wait_for()


def start(visit, store_server, **options):
    page = visit(store_server.address, wait=False, **options)
    page.locator("[data-key=new-inspection]").wait_for()
    return page


@pytest.mark.slow
def test_day_of_a_claims_handler_by_mouse(visit, store_server, tools):
    page = start(visit, store_server)
    page.locator("[data-key=new-inspection]").click()
    page.locator("#new-reference").fill("B-AX 17")
    page.locator("#new-kind").fill("claim")
    page.locator("#new-create").click()
    page.locator("[data-key=add-photos]").wait_for()
    files = [
        tools.file(name, photo(tools, i, ["red"] if i % 3 else ["green"]))
        for i, name in enumerate([f"{view}.png" for view in VIEWS] + [f"detail {i}.png" for i in range(20)])
    ]
    page.set_input_files("#inspection-files", files)
    wait_until_analyzed(page, 24)
    expect(page.locator("#decision-text")).to_have_text("24 findings need your decision")
    page.locator("[data-key=review-accept]").click()
    page.locator("#reviewer-name").fill("Ada")
    page.get_by_role("button", name="Use this name").click()
    for number in range(2, 25):
        expect(page.locator(".finding-panel h2")).to_contain_text(f"{number}. ")
        page.locator(f"[data-key=review-{'reject' if number % 4 == 0 else 'accept'}]").click()
    expect(page.locator("#decision-text")).to_contain_text("Damage found")
    page.wait_for_function("() => !localStorage.getItem('blemish-decisions')")
    page.locator("[data-key=labels]").click()
    with page.expect_download() as download:
        page.locator("#labels-save").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert sum(name.endswith(".png") for name in archive.namelist()) == 24
    page.keyboard.press("Escape")
    page.locator("[data-key=to-asset]").click()
    page.locator("[data-key=inspect-again]").click()
    page.locator("#new-views").fill("front")
    page.locator("#new-create").click()
    page.locator("[data-key=add-photos]").wait_for()
    page.set_input_files("#inspection-files", [tools.file("front.png", photo(tools, 30, ["red", "green"]))])
    wait_until_analyzed(page, 1)
    page.locator("[data-key=compare]").click()
    page.locator("[data-key=compare-now]").click()
    page.locator(".compare-stage").wait_for()
    box = page.locator(".compare-stage").bounding_box()
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 0.5 * box["height"])
    expect(page.locator("#compare-slider")).to_have_attribute(
        "aria-valuetext", re.compile(r"(7|8)\d% before")
    )
    page.locator("[data-key=to-inspection]").click()
    page.locator("[data-key=report]").click()
    with page.expect_download() as download:
        page.locator("#report-pdf").click()
    assert download.value.path().read_bytes().startswith(b"%PDF-")


@pytest.mark.slow
def test_day_of_a_solar_inspector_by_keyboard(visit, store_server, tools):
    page = start(visit, store_server)
    page.locator("#model").select_option("classifier")
    press, write = page.keyboard.press, page.keyboard.type
    page.locator("body").click()
    press("n")
    write("SN 0815")
    press("Tab")
    write("Solar")
    press("Tab")
    press("Tab")
    write("service")
    press("Enter")
    page.locator("[data-key=add-photos]").wait_for()
    files = []
    for number, module in enumerate(modules(1, 3, size=700, grids=((6, 10),))):
        with io.BytesIO() as buffer:
            module.image.to_pil().save(buffer, "PNG")
            files.append(tools.file(f"module {number}.png", buffer.getvalue()))
    page.set_input_files("#inspection-files", files)
    page.locator("#run-grid").fill("6x10")
    page.locator("#run-start").click()
    expect(page.locator("#inspection-dialog .problem")).to_be_visible()  # a classifier labels every cell
    page.locator(".normal-label[value=normal]").check()
    page.locator("#run-start").click()
    page.locator(".module-cells").wait_for()
    expect(page.locator(".module-cells .cell")).to_have_count(60)
    expect(page.locator(".finding-panel h2")).to_contain_text("1. ")
    press("a")
    write("Grace")
    press("Enter")
    press("x")
    press("e")
    write("crack")
    press("Enter")
    expect(page.locator(".review-table tbody tr").nth(2)).to_contain_text("crack")
    page.locator(".module-cells .damaged button").first.click()
    expect(page.locator(".module-cells .cell.selected")).to_have_count(1)
    press("r")
    page.locator("#report-html").focus()
    with page.expect_download() as download:
        press("Enter")
    assert b"Grace" in download.value.path().read_bytes()


def violations(page):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{v['id']}: {n['html'][:160]}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for n in v["nodes"]
    ]


VARIANTS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark", "locale": "de-DE"},
    "phone": {"viewport": {"width": 375, "height": 740}, "has_touch": True, "is_mobile": True},
}


@pytest.mark.parametrize(
    "variant",
    ["light", pytest.param("dark", marks=pytest.mark.slow), pytest.param("phone", marks=pytest.mark.slow)],
)
def test_axe_finds_no_serious_violation_in_inspections(variant, visit, store_server, tools):
    page = start(visit, store_server, bypass_csp=True, **VARIANTS[variant])
    page.evaluate("() => localStorage.setItem('blemish-reviewer', 'Ada')")
    page.locator("[data-key=new-inspection]").click()
    assert violations(page) == [], "create"
    page.locator("#new-reference").fill(f"axe {variant}")
    page.locator("#new-create").click()
    page.locator("[data-key=add-photos]").wait_for()
    assert violations(page) == [], "empty"
    page.set_input_files("#inspection-files", [tools.file("front.png"), tools.file("bad.png", b"no image")])
    page.locator(".finding-panel h2").wait_for()
    page.locator("[data-key=run-progress]").wait_for(state="detached")
    assert violations(page) == [], "inspection"
    if variant != "phone":
        page.keyboard.press("p")
        page.locator(".editor").wait_for()
        assert violations(page) == [], "edit"
        page.keyboard.press("Escape")
    page.locator("[data-key=report]").click()
    assert violations(page) == [], "report"
    page.keyboard.press("Escape")
    page.locator("[data-key=to-asset]").click()
    page.locator("[data-key=inspect-again]").click()
    page.locator("#new-create").click()
    page.locator("[data-key=add-photos]").wait_for()
    page.set_input_files("#inspection-files", [tools.file("front.png", photo(tools, 3, ["red", "green"]))])
    wait_until_analyzed(page, 1)
    page.locator("[data-key=compare]").click()
    page.locator("[data-key=compare-now]").click()
    page.locator(".compare-stage").wait_for()
    assert violations(page) == [], "comparison"
    page.locator("[data-key=to-asset]").click()
    page.locator(".history-entry").nth(1).wait_for()
    assert violations(page) == [], "history"
    page.locator("[data-key=to-list]").click()
    page.locator(".inspection-list").wait_for()
    assert violations(page) == [], "list"
