"""The registry and its entry points."""

import importlib
import os
import sys

import pytest

from blemish.errors import DuplicateName, UnknownName
from blemish.registry import KINDS, PluginWarning, Registry, _declared_kinds, load_plugins, register_in


@pytest.fixture
def registry():
    return Registry("checks", noun="check")


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Install a distribution that consists of one module with one entry point."""

    def install(module, text, kind="checks"):
        (tmp_path / f"{module}.py").write_text(text, "utf-8")
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", "utf-8")
        (info / "entry_points.txt").write_text(f"[blemish.{kind}]\nmine = {module}\n", "utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        load_plugins.cache_clear()
        _declared_kinds.cache_clear()

    yield install
    load_plugins.cache_clear()
    _declared_kinds.cache_clear()
    for name in [n for n in sys.modules if n.startswith("blemish_test_plugin")]:
        del sys.modules[name]


def test_get_unknown_name_offers_the_nearest(registry):
    registry.register("cracks", 1, module="a")
    with pytest.raises(UnknownName) as caught:
        registry.get("crack")
    assert (caught.value.code, caught.value.nearest) == ("unknown-name.check", "cracks")


def test_register_duplicate_names_both_modules(registry):
    registry.register("cracks", 1, module="one.place")
    with pytest.raises(DuplicateName) as caught:
        registry.register("cracks", 2, module="another.place")
    assert caught.value.code == "duplicate-name"
    assert "one.place" in str(caught.value) and "another.place" in str(caught.value)
    assert registry.get("cracks") == 1


def test_register_again_from_the_same_module_replaces(registry):
    registry.register("cracks", 1, module="one.place")
    registry.register("cracks", 2, module="one.place")
    assert registry.get("cracks") == 2


def test_names_sees_a_later_registration(registry):
    assert registry.names() == ()
    register_in(registry, "late")(len)
    assert registry.names() == ("late",)
    assert registry.module_of("late") == "builtins"


def test_kind_must_exist():
    with pytest.raises(UnknownName):
        Registry("chekcs", noun="check")
    assert len(set(KINDS)) == len(KINDS)


def test_load_imports_entry_points(plugin):
    registry: Registry[object] = Registry("checks", noun="check")
    plugin("blemish_test_plugin_good", "import builtins\nbuiltins.blemish_test_plugin_loaded = True\n")
    registry.load()
    import builtins

    assert vars(builtins).pop("blemish_test_plugin_loaded")
    assert [(p.name, p.distribution, p.error) for p in load_plugins("checks")] == [
        ("mine", "blemish_test_plugin_good 1.0", "")
    ]


def test_load_broken_plugin_warns_once_with_its_distribution(plugin):
    plugin("blemish_test_plugin_bad", "raise RuntimeError('no such thing')\n")
    with pytest.warns(PluginWarning, match="blemish_test_plugin_bad 1.0") as caught:
        Registry("checks", noun="check").load()
    assert len(caught) == 1
    Registry("checks", noun="check").load()  # a second registry of the kind does not warn again


def test_load_plugins_reads_the_declarations_of_all_kinds_once(plugin, monkeypatch):
    plugin("blemish_test_plugin_once", "")
    searched, real = [], os.scandir

    def scandir(folder):
        searched.append(folder)
        return real(folder)

    monkeypatch.setattr("os.scandir", scandir)
    assert load_plugins("decoders") == load_plugins("formats") == ()
    assert searched and len(searched) == len(set(searched))
    assert [p.name for p in load_plugins("checks")] == ["mine"]


def test_load_plugins_can_be_switched_off(plugin, monkeypatch):
    plugin("blemish_test_plugin_off", "raise RuntimeError('never imported')\n")
    monkeypatch.setenv("BLEMISH_NO_PLUGINS", "1")
    Registry("checks", noun="check").load()
    assert load_plugins("checks") == ()
