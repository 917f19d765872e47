"""Nothing hostile gets in, nothing gets out, and everybody can use it."""

import pytest
from playwright.sync_api import expect


def test_hostile_names_and_titles_are_text(visit, hands):
    page = visit()
    name = f"{hands.hostile}.png".replace("/", "")
    page.locator("#model").select_option("verdict")
    expect(page.locator("#about-model")).to_contain_text(hands.hostile)
    page.set_input_files("#files", [hands.file(name, hands.damaged(["red"]))])
    hands.settled(page, 1)
    expect(page.locator("#byline")).to_contain_text(name)
    expect(page.locator("#verdict")).to_contain_text(hands.hostile)
    with page.expect_download() as download:
        page.locator("[data-key=save-report]").click()
    report = download.value.path().read_text(encoding="utf-8")
    assert "<img src=x" not in report
    assert "&lt;img src=x" in report
    page.get_by_role("tab", name="Why").click()
    page.locator(".heat").wait_for()
    assert page.title() == "Blemish"
    assert page.locator("img[src=x]").count() == 0


def test_the_policy_is_as_strict_as_it_says(visit):
    page = visit()
    with page.expect_response("**/") as response:
        page.reload()
    policy = response.value.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page.watch.bad.clear()
    page.evaluate("() => { document.body.insertAdjacentHTML('beforeend', '<i style=\"color:red\">x</i>'); }")
    page.wait_for_timeout(100)
    assert any("Content Security Policy" in line for line in page.watch.bad)  # the watch does see it
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


LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True},
}


@pytest.mark.parametrize(
    "look",
    ["light", pytest.param("dark", marks=pytest.mark.slow), pytest.param("phone", marks=pytest.mark.slow)],
)
def test_axe_finds_nothing_serious(look, visit, hands):
    page = visit(bypass_csp=True, **LOOKS[look])  # axe is a script of another's, which the policy would stop
    assert violations(page) == []
    page.set_input_files(
        "#files", [hands.file("one.png"), hands.file("two.png"), hands.file("bad.png", b"no photograph")]
    )
    hands.settled(page, 3)
    for tab in ("where", "verdict", "why"):
        page.locator(f"#tab-{tab}").click()
        if tab == "why":
            page.locator("[data-key=map-empty]").wait_for()  # nothing moves the finder's scores
        assert violations(page) == [], tab
    page.locator("#model").select_option("verdict")
    hands.settled(page, 3)
    page.locator("#tab-why").click()
    page.locator(".heat").first.wait_for()
    assert violations(page) == [], "map"
    page.locator(".photo.failed .face").click()
    assert violations(page) == [], "failed"
    page.locator("#show-keys").click()
    assert violations(page) == [], "keys"
