"""Many images, bad ones, and a server that goes away."""

import json
import re

import pytest
from playwright.sync_api import expect

from blemish.service.problem_details import CATALOGUE


def slow(page, bytes_per_second):
    """Let uploads trickle; -1 lets them run."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second},
    )
    return session


@pytest.mark.slow
def test_forty_images_of_which_one_is_broken(visit, hands):
    page = visit()
    whole = hands.damaged(size=(320, 240))
    files = [hands.file(f"car-{i:02d}.png", whole) for i in range(40)]
    files[17] = hands.file("car-17.png", whole[: len(whole) // 2])
    page.set_input_files("#files", files)
    hands.settled(page, 40)
    expect(page.locator(".photo.done")).to_have_count(39)
    expect(page.locator(".photo.failed")).to_contain_text("car-17.png")
    expect(page.locator("#batch")).to_contain_text("40 photographs, 39 done, 1 failed")
    page.locator(".photo.failed .face").click()
    expect(page.locator("#verdict")).to_have_text("The photograph is cut short")
    expect(page.locator("#byline")).to_contain_text("send it again, whole")
    expect(page.get_by_role("status")).to_have_text("39 photographs done, 1 failed.")


@pytest.mark.slow
def test_the_server_is_killed_and_comes_back(visit, hands, own_server):
    server = own_server()
    page = visit(server.address)
    session = slow(page, 30_000)
    bulk = hands.damaged() + bytes(400_000)  # what comes after a PNG's end is not read
    page.set_input_files("#files", [hands.file(f"{i}.png", bulk) for i in range(4)])
    page.locator("progress[value]").first.wait_for()
    expect(page.locator(".photo.sending").first).to_contain_text(re.compile(r"Sending, [1-9]\d? %"))
    server.kill()
    expect(page.locator(".photo.failed")).to_have_count(4)
    expect(page.locator("#verdict")).to_have_text("The server cannot be reached")
    session.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    server.start()
    page.get_by_role("button", name="Retry all").click()
    expect(page.locator(".photo.done")).to_have_count(4)
    expect(page.locator("#verdict")).to_contain_text("1 dent")


def test_cancel_and_retry(visit, hands):
    page = visit()
    session = slow(page, 20_000)
    page.set_input_files(
        "#files", [hands.file("slow.png", hands.damaged() + bytes(300_000)), hands.file("b.png")]
    )
    page.get_by_role("button", name="Cancel slow.png").click()
    expect(page.locator(".photo.cancelled")).to_contain_text("slow.png")
    session.detach()
    page.get_by_role("button", name="Retry slow.png").click()
    expect(page.locator(".photo.done")).to_have_count(2)


@pytest.mark.parametrize("how", ["remove all", "another model"])
def test_nothing_is_sent_that_is_about_to_be_stopped(how, visit, hands):
    page = visit()
    session = slow(page, 20_000)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/predict" in request.url else None)
    page.set_input_files(
        "#files", [hands.file(f"{i}.png", hands.damaged() + bytes(300_000)) for i in range(8)]
    )
    expect(page.locator(".photo.sending")).to_have_count(3)
    assert len(asked) == 3
    if how == "remove all":
        page.get_by_role("button", name="Remove all").click()
        expect(page.locator("#work")).to_be_hidden()
        assert len(asked) == 3
    else:
        page.locator("#model").select_option("verdict")
        expect(page.locator(".photo.sending")).to_have_count(3)
        assert [url.split("model=")[1].split("&")[0] for url in asked] == ["finder"] * 3 + ["verdict"] * 3
    session.detach()


def test_the_page_works_where_the_browser_keeps_nothing_for_it(visit, hands, chromium, server):
    context = chromium.new_context()
    context.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, "
        "{ get() { throw new DOMException('blocked', 'SecurityError'); } });"
    )
    page = visit(context=context)
    page.set_input_files("#files", [hands.file()])
    expect(page.locator(".photo.done")).to_have_count(1)
    page.keyboard.press("?")
    page.get_by_label("Single keys are on").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("1")  # a single key, which the page remembers to leave alone
    expect(page.get_by_role("tab", name="Where")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("?")
    page.get_by_label("Single keys are on").check()
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    expect(page.get_by_role("tab", name="Verdict")).to_have_attribute("aria-selected", "true")
    context.close()


def problem(code, **more):
    status, title = CATALOGUE[code]
    return {
        "type": f"/docs#problem-{code}",
        "title": title,
        "status": status,
        "detail": f"{title}: this and that is to be done.",
        "code": code,
        "request_id": "abc123",
        "limit": None,
        **more,
    }


BUSY = {"queue_full", "memory_full", "not_ready"}


def answering(status, body, media_type="application/problem+json", **headers):
    """A route that answers for the server."""
    return lambda route: route.fulfill(status=status, content_type=media_type, body=body, headers=headers)


@pytest.mark.parametrize(
    "stream", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["refused", "failed later"]
)
def test_every_problem_is_told_in_its_own_words(stream, visit, hands):
    page = visit()
    for code in CATALOGUE:
        if code in BUSY or code.startswith("key_"):
            continue  # those have a test of their own
        told = problem(code)
        page.unroute_all()
        if stream:
            line = json.dumps({"stage": "failed", "elapsed_ms": 1.0, "problem": told}) + "\n"
            page.route("**/api/v1/predict?**", answering(200, line, "application/x-ndjson"))
        else:
            page.route("**/api/v1/predict?**", answering(told["status"], json.dumps(told)))
        page.set_input_files("#files", [hands.file(f"{code}.png", hands.damaged(size=(64, 48)))])
        expect(page.locator("#verdict")).to_have_text(told["title"])
        expect(page.locator("#byline")).to_contain_text(told["detail"])
        expect(page.locator("#byline")).to_contain_text("request abc123")
        page.get_by_role("button", name=f"Remove {code}.png").click()


def test_answers_that_are_none(visit, hands):
    page = visit()
    for body, status, words in (
        ('{"stage": "decoding", "elapsed_ms": 1}\n{"stage": "inf', 200, "The answer was cut short"),
        ("<html>Bad Gateway</html>", 502, "The server cannot be reached"),
    ):
        page.unroute_all()
        page.route("**/api/v1/predict?**", answering(status, body, "text/plain"))
        page.set_input_files("#files", [hands.file("x.png")])
        expect(page.locator("#verdict")).to_have_text(words)
        page.get_by_role("button", name="Remove x.png").click()


def test_a_busy_server_is_asked_again_when_it_said(visit, hands):
    page = visit()
    asked = []

    def answer(route):
        asked.append(1)
        if len(asked) > 1:
            route.continue_()
            return
        route.fulfill(
            status=429,
            content_type="application/problem+json",
            headers={"Retry-After": "1"},
            body=json.dumps(problem("queue_full")),
        )

    page.route("**/api/v1/predict?**", answer)
    page.set_input_files("#files", [hands.file()])
    expect(page.locator("#verdict")).to_have_text("Server busy, again in 1 s")
    expect(page.locator(".photo.done")).to_have_count(1)
    assert len(asked) == 2


@pytest.mark.slow
def test_real_limits_are_told(visit, hands, own_server):
    server = own_server("--max-megabytes", "0.05", "--max-megapixels", "0.2")
    page = visit(server.address)
    expect(page.locator("#limits")).to_contain_text("up to 51 kB and 0.2 megapixels")
    page.set_input_files("#files", [hands.file("heavy.png", hands.damaged() + bytes(200_000))])
    expect(page.locator("#verdict")).to_have_text(re.compile("The upload is too large"))
    page.get_by_role("button", name="Remove heavy.png").click()
    page.set_input_files("#files", [hands.file("large.png")])
    expect(page.locator("#verdict")).to_have_text("The photograph has too many pixels")


@pytest.mark.slow
def test_a_key_is_asked_for(visit, hands, own_server, tmp_path):
    import hashlib

    keys = tmp_path / "keys.txt"
    keys.write_text(f"inspector {hashlib.sha256(b'a-key-of-ours').hexdigest()}\n", encoding="utf-8")
    server = own_server("--api-keys", str(keys))
    page = visit(server.address, wait=False)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("This server asks for a key")
    expect(page.get_by_label("API key")).to_be_focused()
    page.get_by_label("API key").fill("a\u2026key")  # no header can carry it: it is not sent
    page.keyboard.press("Enter")
    expect(page.get_by_label("API key")).to_be_focused()
    expect(dialog).to_contain_text("This server asks for a key")
    page.get_by_label("API key").fill("a-wrong-one")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("does not know the key")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Enter the key").click()
    page.get_by_label("API key").fill("a-key-of-ours")
    page.get_by_role("button", name="Use it").click()
    page.locator("#about-model h2").wait_for()
    expect(page.locator("#notice")).to_be_hidden()
    page.set_input_files("#files", [hands.file()])
    hands.settled(page, 1)
    expect(page.locator(".photo.done")).to_have_count(1)
    page.get_by_role("tab", name="Why").click()
    page.locator(".heat, [data-key=map-empty]").first.wait_for()
    assert "a-key-of-ours" not in page.content()


def test_two_tabs_do_not_disturb_each_other(visit, hands):
    one = visit()
    two = visit(context=one.context)
    one.set_input_files("#files", [hands.file("one.png")])
    two.locator("#model").select_option("verdict")
    two.set_input_files("#files", [hands.file("two.png")])
    hands.settled(one, 1)
    hands.settled(two, 1)
    expect(one.locator("#verdict")).to_contain_text("1 dent")
    expect(two.locator("#verdict")).to_contain_text("sure")
    expect(one.locator(".photo")).to_contain_text("one.png")
    expect(two.locator(".photo")).to_have_count(1)
