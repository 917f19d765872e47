"""Uploads: many photos, bad ones, and a server that stops."""

import json
import re

import pytest
from playwright.sync_api import expect

from blemish.service.problem_details import CATALOG


def limit_uploads(page, bytes_per_second):
    """Limit the speed of uploads; -1 removes the limit."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second},
    )
    return session


@pytest.mark.slow
def test_forty_photos_with_a_broken_one(visit, tools):
    page = visit()
    whole = tools.damaged(size=(320, 240))
    files = [tools.file(f"car-{i:02d}.png", whole) for i in range(40)]
    files[17] = tools.file("car-17.png", whole[: len(whole) // 2])
    page.set_input_files("#files", files)
    tools.settled(page, 40)
    expect(page.locator(".photo.done")).to_have_count(39)
    expect(page.locator(".photo.failed")).to_contain_text("car-17.png")
    expect(page.locator("#batch")).to_contain_text("40 photos, 39 done, 1 failed")
    page.locator(".photo.failed .face").click()
    expect(page.locator("#summary")).to_have_text("The image file is incomplete")
    expect(page.locator("#byline")).to_contain_text("Send the complete file")
    expect(page.get_by_role("status")).to_have_text("39 photos done, 1 failed.")


@pytest.mark.slow
def test_server_is_killed_and_restarted(visit, tools, own_server):
    server = own_server()
    page = visit(server.address)
    session = limit_uploads(page, 30_000)
    bulk = tools.damaged() + bytes(400_000)  # bytes after the end of a PNG are not read
    page.set_input_files("#files", [tools.file(f"{i}.png", bulk) for i in range(4)])
    page.locator("progress[value]").first.wait_for()
    expect(page.locator(".photo.sending").first).to_contain_text(re.compile(r"Sending, [1-9]\d?%"))
    server.kill()
    expect(page.locator(".photo.failed")).to_have_count(4)
    expect(page.locator("#summary")).to_have_text("The server cannot be reached")
    session.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    server.start()
    page.get_by_role("button", name="Retry all").click()
    expect(page.locator(".photo.done")).to_have_count(4)
    expect(page.locator("#summary")).to_contain_text("1 dent")


def test_cancel_and_retry_an_upload(visit, tools):
    page = visit()
    session = limit_uploads(page, 5_000)
    page.set_input_files(
        "#files", [tools.file("slow.png", tools.damaged() + bytes(300_000)), tools.file("b.png")]
    )
    page.get_by_role("button", name="Cancel slow.png").click()
    expect(page.locator(".photo.cancelled")).to_contain_text("slow.png")
    session.detach()
    page.get_by_role("button", name="Retry slow.png").click()
    expect(page.locator(".photo.done")).to_have_count(2)


@pytest.mark.parametrize("how", ["remove all", "another model"])
def test_stopping_all_photos_starts_no_further_upload(how, visit, tools):
    page = visit()
    session = limit_uploads(page, 5_000)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/predict" in request.url else None)
    page.set_input_files(
        "#files", [tools.file(f"{i}.png", tools.damaged() + bytes(300_000)) for i in range(8)]
    )
    expect(page.locator(".photo.sending")).to_have_count(3)
    assert len(asked) == 3
    if how == "remove all":
        page.get_by_role("button", name="Remove all").click()
        expect(page.locator("#work")).to_be_hidden()
        assert len(asked) == 3
    else:
        page.locator("#model").select_option("classifier")
        expect(page.locator(".photo.sending")).to_have_count(3)
        assert [url.split("model=")[1].split("&")[0] for url in asked] == ["finder"] * 3 + ["classifier"] * 3
    session.detach()


def test_page_works_without_browser_storage(visit, tools, chromium, server):
    context = chromium.new_context()
    context.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, "
        "{ get() { throw new DOMException('blocked', 'SecurityError'); } });"
    )
    page = visit(context=context)
    page.set_input_files("#files", [tools.file()])
    expect(page.locator(".photo.done")).to_have_count(1)
    page.keyboard.press("?")
    page.get_by_label("Single-key shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("1")  # single-key shortcuts are off
    expect(page.get_by_role("tab", name="Detections")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("?")
    page.get_by_label("Single-key shortcuts").check()
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    expect(page.get_by_role("tab", name="Prediction")).to_have_attribute("aria-selected", "true")
    context.close()


def problem(code, **more):
    status, title = CATALOG[code]
    return {
        "type": f"/docs#problem-{code}",
        "title": title,
        "status": status,
        "detail": f"{title}: do something.",
        "code": code,
        "request_id": "abc123",
        "limit": None,
        **more,
    }


BUSY = {"queue-full", "memory-full", "not-ready"}


def answering(status, body, media_type="application/problem+json", **headers):
    """Return a route handler that answers in place of the server."""
    return lambda route: route.fulfill(status=status, content_type=media_type, body=body, headers=headers)


@pytest.mark.parametrize(
    "stream", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["refused", "failed later"]
)
def test_problems_are_shown_with_title_and_detail(stream, visit, tools):
    page = visit()
    for code in CATALOG:
        if code in BUSY or code.startswith("api-key-"):
            continue  # tested below
        document = problem(code)
        page.unroute_all()
        if stream:
            line = json.dumps({"stage": "failed", "elapsed_ms": 1.0, "problem": document}) + "\n"
            page.route("**/api/v1/predict?**", answering(200, line, "application/x-ndjson"))
        else:
            page.route("**/api/v1/predict?**", answering(document["status"], json.dumps(document)))
        page.set_input_files("#files", [tools.file(f"{code}.png", tools.damaged(size=(64, 48)))])
        expect(page.locator("#summary")).to_have_text(document["title"])
        expect(page.locator("#byline")).to_contain_text(document["detail"])
        expect(page.locator("#byline")).to_contain_text("request abc123")
        page.get_by_role("button", name=f"Remove {code}.png").click()


def test_incomplete_answers(visit, tools):
    page = visit()
    for body, status, words in (
        ('{"stage": "decoding", "elapsed_ms": 1}\n{"stage": "inf', 200, "The answer is incomplete"),
        ("<html>Bad Gateway</html>", 502, "The server cannot be reached"),
    ):
        page.unroute_all()
        page.route("**/api/v1/predict?**", answering(status, body, "text/plain"))
        page.set_input_files("#files", [tools.file("x.png")])
        expect(page.locator("#summary")).to_have_text(words)
        page.get_by_role("button", name="Remove x.png").click()


def test_busy_server_is_asked_again_after_the_retry_time(visit, tools):
    page = visit()
    page.clock.install()
    page.clock.pause_at(page.evaluate("() => Date.now() + 1000"))
    asked = []

    def answer(route):
        asked.append(1)
        if len(asked) > 1:
            route.continue_()
            return
        route.fulfill(
            status=429,
            content_type="application/problem+json",
            headers={"Retry-After": "7"},
            body=json.dumps(problem("queue-full")),
        )

    page.route("**/api/v1/predict?**", answer)
    page.set_input_files("#files", [tools.file()])
    expect(page.locator("#summary")).to_have_text("Server busy, retry in 7 s")
    page.clock.run_for(5000)
    expect(page.locator("#summary")).to_have_text("Server busy, retry in 2 s")
    assert len(asked) == 1
    page.clock.run_for(2000)
    expect(page.locator(".photo.done")).to_have_count(1)
    assert len(asked) == 2


@pytest.mark.slow
def test_limits_of_the_server_are_shown(visit, tools, own_server):
    server = own_server("--max-megabytes", "0.05", "--max-megapixels", "0.2")
    page = visit(server.address)
    expect(page.locator("#limits")).to_contain_text("up to 51 kB and 0.2 megapixels")
    page.set_input_files("#files", [tools.file("heavy.png", tools.damaged() + bytes(200_000))])
    expect(page.locator("#summary")).to_have_text(re.compile("The upload is too large"))
    page.get_by_role("button", name="Remove heavy.png").click()
    page.set_input_files("#files", [tools.file("large.png")])
    expect(page.locator("#summary")).to_have_text("The image has too many pixels")


@pytest.mark.slow
def test_api_key_dialog(visit, tools, own_server, tmp_path):
    import hashlib

    keys = tmp_path / "keys.txt"
    keys.write_text(f"inspector {hashlib.sha256(b'a-key-of-ours').hexdigest()}\n", encoding="utf-8")
    server = own_server("--api-keys", str(keys))
    page = visit(server.address, wait=False)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("This server requires an API key")
    expect(page.get_by_label("API key", exact=True)).to_be_focused()
    page.get_by_label("API key", exact=True).fill("a\u2026key")  # a header cannot contain it: it is not sent
    page.keyboard.press("Enter")
    expect(page.get_by_label("API key", exact=True)).to_be_focused()
    expect(dialog).to_contain_text("This server requires an API key")
    page.get_by_label("API key", exact=True).fill("a-wrong-one")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("does not accept the key")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Enter the key").click()
    page.get_by_label("API key", exact=True).fill("a-key-of-ours")
    page.get_by_role("button", name="Use this key").click()
    page.locator("#about-model h2").wait_for()
    expect(page.locator("#notice")).to_be_hidden()
    page.set_input_files("#files", [tools.file()])
    tools.settled(page, 1)
    expect(page.locator(".photo.done")).to_have_count(1)
    page.get_by_role("tab", name="Heatmap").click()
    page.locator(".heatmap, [data-key=heatmap-empty]").first.wait_for()
    assert "a-key-of-ours" not in page.content()


def test_two_tabs_are_independent(visit, tools):
    one = visit()
    two = visit(context=one.context)
    one.set_input_files("#files", [tools.file("one.png")])
    two.locator("#model").select_option("classifier")
    two.set_input_files("#files", [tools.file("two.png")])
    tools.settled(one, 1)
    tools.settled(two, 1)
    expect(one.locator("#summary")).to_contain_text("1 dent")
    expect(two.locator("#summary")).to_contain_text("confidence")
    expect(one.locator(".photo")).to_contain_text("one.png")
    expect(two.locator(".photo")).to_have_count(1)
