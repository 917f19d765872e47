"""`blemish demo`: when it opens the page, and what it refuses before any work."""

import importlib.util
import webbrowser

import pytest

from blemish.commands import demo_command
from blemish.commands.progress_line import show_progress
from blemish.testing import raises

DISPLAY = {"DISPLAY": ":0"}


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        (DISPLAY, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "linux", False),
        ({}, "darwin", True),
        ({}, "win32", True),
        ({**DISPLAY, "CI": "true"}, "linux", False),
        ({**DISPLAY, "SSH_CONNECTION": "a 1 b 2"}, "linux", False),
    ],
)
def test_has_browser(environment, platform, expected, monkeypatch):
    monkeypatch.setattr(webbrowser, "get", lambda: object())
    assert demo_command.has_browser(environment, platform) is expected


def test_has_browser_without_browser(monkeypatch):
    def none_found():
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", none_found)
    assert not demo_command.has_browser(DISPLAY, "linux")


def test_demo_open_without_server_is_refused_before_any_work(monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "uvicorn" else found(n))
    with raises("missing-extra"):
        demo_command.demo(tmp_path / "demo", open_page=True)
    assert not (tmp_path / "demo").exists()


def test_show_progress_without_terminal_prints_the_last_line_only(capsys):
    for done in (1, 2, 3):
        show_progress("verifying", done, 3)
    assert capsys.readouterr().err == "verifying 3 of 3\n"
