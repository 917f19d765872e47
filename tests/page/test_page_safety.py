"""Hostile names, the security policy, and accessibility."""

from typing import Any

import pytest
from playwright.sync_api import expect


def test_hostile_file_and_label_names_are_text(visit, tools):
    page = visit()
    name = f"{tools.hostile}.png".replace("/", "")
    page.locator("#model").select_option("classifier")
    expect(page.locator("#about-model")).to_contain_text(tools.hostile)
    page.set_input_files("#files", [tools.file(name, tools.damaged(["red"]))])
    tools.settled(page, 1)
    expect(page.locator("#byline")).to_contain_text(name)
    expect(page.locator("#summary")).to_contain_text(tools.hostile)
    with page.expect_download() as download:
        page.locator("[data-key=save-report]").click()
    report = download.value.path().read_text(encoding="utf-8")
    assert "<img src=x" not in report
    assert "&lt;img src=x" in report
    page.get_by_role("tab", name="Heatmap").click()
    page.locator(".heatmap").wait_for()
    assert page.title() == "Blemish"
    assert page.locator("img[src=x]").count() == 0


def test_content_security_policy(visit):
    page = visit()
    with page.expect_response("**/") as response:
        page.reload()
    policy = response.value.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page.watch.bad.clear()
    with page.expect_console_message():
        page.evaluate(
            "() => { document.body.insertAdjacentHTML('beforeend', '<i style=\"color:red\">x</i>'); }"
        )
    assert any("Content Security Policy" in line for line in page.watch.bad)  # the check sees a violation
    page.watch.bad.clear()


def violations(page):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{v['id']}: {n['html'][:120]}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for n in v["nodes"]
    ]


VARIANTS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True},
}


@pytest.mark.parametrize(
    "variant",
    ["light", pytest.param("dark", marks=pytest.mark.slow), pytest.param("phone", marks=pytest.mark.slow)],
)
def test_axe_finds_no_serious_violation(variant, visit, tools):
    page = visit(bypass_csp=True, **VARIANTS[variant])  # the policy would block the script of axe
    assert violations(page) == []
    page.set_input_files(
        "#files", [tools.file("one.png"), tools.file("two.png"), tools.file("bad.png", b"not an image")]
    )
    tools.settled(page, 3)
    for tab in ("detections", "prediction", "heatmap"):
        page.locator(f"#tab-{tab}").click()
        if tab == "heatmap":
            page.locator("[data-key=heatmap-empty]").wait_for()  # no area influences the finder's scores
        assert violations(page) == [], tab
    page.locator("#model").select_option("classifier")
    tools.settled(page, 3)
    page.locator("#tab-heatmap").click()
    page.locator(".heatmap").first.wait_for()
    assert violations(page) == [], "heatmap"
    page.locator(".photo.failed .face").click()
    assert violations(page) == [], "failed"
    page.locator("#show-shortcuts").click()
    assert violations(page) == [], "shortcuts"
