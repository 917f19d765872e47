"""The tools of `make docs`, `make notices` and the release."""

import importlib.util
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


def load(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("a.html", '<script src="https://cdn.example/a.js"></script>', 1),
        ("a.html", "<link rel=stylesheet href=//fonts.example/b.css>", 1),
        ("a.html", '<img alt="" src="http://x.example/c.png"><a href="https://ok.example">text</a>', 1),
        ("a.html", '<script src="../a.js"></script><link rel="canonical" href="https://me.example/">', 0),
        ("a.css", "body { background: url(https://x.example/d.png) }", 1),
        ("a.css", "body { background: url(data:image/png;base64,AA) }", 0),
    ],
)
def test_external_assets(name, text, count, tmp_path):
    (tmp_path / name).write_text(text, "utf-8")
    assert len(load("check_site").external_assets(tmp_path)) == count


def test_third_party_notices_list_every_requirement():
    tool = load("make_notices")
    assert tool.missing(tool.TARGET.read_text(encoding="utf-8")) == [], "run make notices"
    assert "numpy" in tool.missing("")


def test_project_urls_are_added_once(tmp_path):
    tool = load("project_urls")
    text = '[project]\nname = "x"\n\n[tool.a]\nb = 1\n'
    changed = tool.with_urls(text, "https://code.example/team/x")
    assert changed.count("[project.urls]") == 1
    assert 'Repository = "https://code.example/team/x"' in changed
    import tomllib

    parsed = tomllib.loads(changed)
    assert parsed["project"]["urls"]["Issues"] == "https://code.example/team/x/issues"
    assert parsed["tool"]["a"]["b"] == 1
    with pytest.raises(ValueError, match="already"):
        tool.with_urls(changed, "https://code.example/team/x")
