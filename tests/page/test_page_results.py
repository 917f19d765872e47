"""The table of all photos, the tabs, the languages, and the warning before work is lost."""

import csv
import io
import json
import re

import pytest
from playwright.sync_api import expect


def test_results_table_sorts_filters_and_saves_csv(visit, tools):
    page = visit()
    files = [
        tools.file("=b.png"),
        tools.file("a.png", tools.damaged(["blue"])),
        tools.file("c.png", b"not an image"),
    ]
    page.set_input_files("#files", files)
    tools.settled(page, 3)
    page.keyboard.press("l")
    rows = page.locator(".results-table tbody tr")
    expect(rows).to_have_count(3)
    page.locator("[data-key=results-sort-score]").click()
    expect(rows.first).to_contain_text("=b.png")
    expect(rows.first).to_contain_text("needs review")
    page.locator("[data-key=results-review]").check()
    expect(rows).to_have_count(1)
    page.locator("[data-key=results-review]").uncheck()
    page.locator("#results-filter").fill("png")
    with page.expect_download() as download:
        page.locator("[data-key=save-csv]").click()
    text = download.value.path().read_text("utf-8-sig")
    table = list(csv.DictReader(io.StringIO(text)))
    assert [row["file"] for row in table] == ["'=b.png", "a.png", "c.png"]  # no formula of a spreadsheet
    assert table[0]["needs_review"] == "yes" and table[0]["model"] == "finder"
    page.locator("#results-filter").fill("a.png")
    expect(rows).to_have_count(1)
    page.locator(".results-table .row").click()
    expect(page.locator("#byline")).to_contain_text("a.png")


def test_classifier_has_no_tab_without_content(visit, tools):
    page = visit()
    page.locator("#model").select_option("classifier")
    page.set_input_files("#files", [tools.file()])
    tools.settled(page, 1)
    expect(page.locator("#tab-detections")).to_be_hidden()
    expect(page.locator("#view-prediction")).to_be_visible()
    page.locator("#tab-heatmap").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-prediction")).to_be_focused()


def test_heatmap_explains_the_label_that_is_asked_for(visit, tools):
    page = visit()
    page.locator("#model").select_option("classifier")
    page.set_input_files("#files", [tools.file("g.png", tools.damaged(["green"], size=(160, 120)))])
    tools.settled(page, 1)
    best = page.locator(".bars .positive .name").inner_text()
    with page.expect_request("**/predict?*explain=heatmap*") as request:
        page.locator("#tab-heatmap").click()
    chosen = page.locator("[data-key=heatmap-label] option:checked")
    expect(chosen).to_have_text(best)
    assert f"label={chosen.get_attribute('value')}" in request.value.url
    other = page.locator("[data-key=heatmap-label] option:not(:checked)").first
    name = other.inner_text()
    page.locator("[data-key=heatmap-label]").select_option(other.get_attribute("value"))
    expect(page.locator(".pane figcaption").last).to_contain_text(name)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize(
    ("locale", "differs"), [("en-US", "differs from good images"), ("de-DE", "guten Bildern")]
)
def test_heatmap_of_a_model_of_good_images_is_no_influence(locale, differs, empty, visit, tools):
    page = visit(locale=locale)

    def as_own_heatmap(route):
        *stages, last = route.fetch().text().splitlines()
        answer = json.loads(last)
        if answer["result"]["heatmap"]:
            answer["result"]["heatmap"] |= {"method": "model", "empty": empty}
        body = "\n".join([*stages, json.dumps(answer)]) + "\n"
        route.fulfill(status=200, content_type="application/x-ndjson", body=body)

    page.route("**/api/v1/predict?**", as_own_heatmap)
    page.locator("#model").select_option("classifier")
    page.set_input_files("#files", [tools.file(data=tools.damaged(["green"]))])
    tools.settled(page, 1)
    page.locator("#tab-heatmap").click()
    expect(page.locator(".pane figcaption").last).to_contain_text(differs)
    if not empty:
        threshold = "0,5" if locale == "de-DE" else "0.5"
        expect(page.locator("[data-key=heatmap-note]")).to_contain_text(threshold)
        expect(page.locator("#view-heatmap .legend")).not_to_contain_text(re.compile("influence|Einfluss"))


@pytest.mark.parametrize(
    ("locale", "title"), [("de-AT", "Fotos hier ablegen"), ("fr-FR", "Drop photos here")]
)
def test_language_is_that_of_the_browser(locale, title, visit, tools):
    page = visit(locale=locale)
    expect(page.locator("#welcome .lead")).to_have_text(title)


def test_language_can_be_switched_without_losing_photos(visit, tools):
    page = visit()
    page.set_input_files("#files", [tools.file()])
    tools.settled(page, 1)
    page.locator("#language").select_option("de")
    expect(page.locator("#tab-detections")).to_have_text("Detektionen")
    expect(page.locator("#summary")).to_have_text("1 \u00d7 Dent und 1 \u00d7 Scratch; 1 zu prüfen")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    page.locator("#language").select_option("en")
    expect(page.locator("#summary")).to_have_text("1 dent and 1 scratch; 1 needs review")


def test_page_warns_before_photos_are_lost(visit, tools):
    page = visit()
    dialogs = []

    def accept(dialog):
        dialogs.append(dialog.type)
        dialog.accept()

    page.on("dialog", accept)
    page.locator("#welcome .lead").click()  # browsers ask only after an action of the person
    page.reload()
    page.locator("#about-model h2").wait_for()
    assert dialogs == []
    page.set_input_files("#files", [tools.file()])
    tools.settled(page, 1)
    page.locator(".face").click()
    page.reload()
    page.locator("#about-model h2").wait_for()
    assert dialogs == ["beforeunload"]


def test_help_explains_score_threshold_and_heatmap(visit):
    page = visit()
    page.keyboard.press("?")
    expect(page.locator(".explained dt")).to_have_text(["Score", "Threshold", "Heatmap"])


def test_findings_are_above_the_fold_on_a_phone(visit, tools):
    page = visit(viewport={"width": 375, "height": 740}, has_touch=True, is_mobile=True)
    page.set_input_files("#files", [tools.file()])
    tools.settled(page, 1)
    box = page.locator(".findings tbody tr").first.bounding_box()
    assert box["y"] + box["height"] <= 740


def test_scan_line_moves_only_without_reduced_motion(visit, tools):
    for motion, shown in (("no-preference", "block"), ("reduce", "none")):
        page = visit(reduced_motion=motion)
        page.evaluate(
            "() => { document.querySelector('.viewer').innerHTML = '<div class=\"scan inferring\"></div>'; }"
        )
        assert page.locator(".scan").evaluate("e => getComputedStyle(e).display") == shown
