"""check: selection, cache and third-party checks; and that every check is documented and tested."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from blemish.data import audit, check_context
from blemish.data.audit import check
from blemish.data.checks import CHECKS, register
from blemish.data.clean import clean
from blemish.testing import raises


def test_check_clean_dataset_has_no_findings(plant, base):
    found = check(plant(base).root)
    assert [f.sentence() for f in found] == []
    assert found.images == 60


def test_check_unreadable_dataset(tmp_path):
    found = check(tmp_path / "nowhere")
    assert set(found.counts) == {"unreadable-set"}
    (tmp_path / "labels.csv").write_text("a.png,b\n")
    assert set(check(tmp_path / "labels.csv").counts) == {"unreadable-set"}


def test_check_caches_findings_until_a_file_changes(plant, tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    planted = plant("yolo")
    first = check(planted.root)

    with monkeypatch.context() as patch:
        patch.setattr(audit, "audit", None)  # no file is read again
        assert check(planted.root).to_dict() == first.to_dict()
    planted.truncate(planted.images()[0])
    assert set(check(planted.root).counts) == {"truncated-image"}


def test_check_ids_and_codes_are_documented_and_planted():
    root = Path(__file__).parents[3]
    page = (root / "docs/data-checks.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z.-]+)` \| (?:`([a-z-]+)`)?", page, re.MULTILINE)
    registered = [
        (name, code)
        for name, entry in CHECKS.items()
        if CHECKS.module_of(name).startswith("blemish.data.checks.")
        for code in entry.codes or ("",)
    ]
    assert sorted(rows) == sorted(registered)
    codes = {code for _, code in registered if code}
    assert len(codes) > 40
    tests = "".join(p.read_text("utf-8") for p in sorted((root / "tests/data").rglob("test_*.py")))
    assert {code for code in codes if f'"{code}"' not in tests} == set()


def test_every_reported_code_is_declared_by_a_check():
    source = "".join(
        p.read_text("utf-8")
        for p in sorted((Path(__file__).parents[3] / "src/blemish/data").rglob("*.py"))
        if p.name != "__init__.py"  # its docstring has an example
    )
    reported = set(
        re.findall(r'(?:problem|Finding|_image|error|note|finding|wrong)\(\s*"([a-z]+(?:-[a-z]+)+)"', source)
    )
    reported |= {
        w for pair in re.findall(r'"([a-z]+-[a-z-]+)" if .* else "([a-z]+-[a-z-]+)"', source) for w in pair
    }
    assert len(reported) > 40
    declared = {code for _, entry in CHECKS.items() for code in entry.codes}
    assert reported - declared == {"unreadable-set", "failed-check"}


def test_check_does_not_cache_files_outside_the_folder(plant, tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    planted = plant("yolo")
    pointer = tmp_path / "pointer"
    pointer.mkdir()
    text = (planted.root / "data.yaml").read_text("utf-8")
    (pointer / "data.yaml").write_text(text.replace("path: .", f"path: {planted.root.as_posix()}"))
    assert check(pointer, duplicates=False).counts == {}
    planted.truncate(planted.images()[0])
    assert check(pointer, duplicates=False).counts == {"truncated-image": 1}


def test_check_does_not_follow_a_link_to_a_parent(plant, tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    planted = plant("csv")
    try:
        (planted.root / "images" / "again").symlink_to(planted.root, target_is_directory=True)
    except OSError:
        pytest.skip("links are not allowed here")
    assert check(planted.root, duplicates=False).counts == {}


def test_check_runs_selected_checks_only(plant):
    planted = plant("csv")
    planted.truncate(planted.images()[0])
    planted.images()[1].write_bytes(b"")
    planted.edit("labels.csv", lambda text: text + "gone.png" + "," * text.splitlines()[0].count(",") + "\n")

    def codes(**selection):
        return set(check(planted.root, **selection).counts)

    assert codes() >= {"truncated-image", "empty-file", "missing-image"}
    assert codes(only=["images.empty"]) == {"empty-file"}
    assert codes(only=["images.*"], skip=["images.truncated"]) == {"empty-file", "missing-image"}
    assert codes(skip=["images.*", "labels.*", "annotations.*"]) == set()
    assert {f.check for f in check(planted.root, only=["images.[em]*"])} == {"images.empty", "images.missing"}


def test_check_selection_saves_decoding(plant, monkeypatch):
    planted = plant("folders")
    monkeypatch.setattr(check_context, "image_signatures", None)  # no image is decoded
    assert check(planted.root, only=["images.tiny", "labels.*"]).counts == {}


@pytest.mark.parametrize(
    ("selection", "facts"),
    [
        ({"only": ["images.mising"]}, ["images.mising", "images.missing"]),
        ({"skip": ["copies.exakt"]}, ["copies.exakt", "copies.exact"]),
        ({"only": ["photos.*"]}, ["photos.*"]),
    ],
)
def test_check_unknown_id(tmp_path, selection, facts):
    with raises("unknown-name.check", *facts):
        check(tmp_path, **selection)


def test_check_codes_are_those_that_its_check_declares(plant):
    planted = plant("coco")
    planted.truncate(planted.images()[0])
    planted.coco(lambda c: c["annotations"].append(c["annotations"][0] | {"id": 9, "bbox": [1, 2, 500, 9]}))
    findings = check(planted.root)
    assert len(findings) >= 2
    assert all(f.code in CHECKS.get(f.check).codes for f in findings)


@pytest.fixture
def third_party_check(tmp_path, monkeypatch):
    """A module outside Blemish with a check; (its file, a function that imports it)."""
    file = tmp_path / "acme_checks.py"

    def write(body):
        file.write_text(
            "from blemish.data.checks import register\n"
            "from blemish.data.findings import Finding, Severity\n\n\n"
            '@register("acme.serial-number", codes=("missing-serial",))\n'
            f'def check_serial(dataset, context):\n    """Images without a serial number."""\n{body}'
        )
        monkeypatch.delitem(sys.modules, "acme_checks", raising=False)
        importlib.invalidate_caches()
        importlib.import_module("acme_checks")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield write
    CHECKS.unregister("acme.serial-number")
    sys.modules.pop("acme_checks", None)


FOUND = """    for sample in dataset.samples[:1]:
        fix = {"drops_image": True, "fix": "drops it"}
        yield Finding("missing-serial", Severity.WARNING, "no serial", sample.path, **fix)
"""


def test_third_party_check_runs_with_the_others(plant, third_party_check, tmp_path):
    planted = plant("csv")
    third_party_check(FOUND)
    finding = check(planted.root, duplicates=False).of("missing-serial")[0]
    assert finding.check == "acme.serial-number"
    assert check(planted.root, only=["acme.*"]).counts == {"missing-serial": 1}
    assert check(planted.root, skip=["acme.*"], duplicates=False).counts == {}
    result = clean(planted.root, tmp_path / "clean", duplicates=False)
    assert {code: len(ids) for code, ids in result.dropped.items()} == {"missing-serial": 1}


def test_third_party_check_that_fails_is_a_finding(plant, third_party_check):
    planted = plant("csv")
    planted.truncate(planted.images()[0])
    third_party_check('    raise ZeroDivisionError("no plates")\n    yield\n')
    findings = check(planted.root, duplicates=False)
    assert findings.counts == {"failed-check": 1, "truncated-image": 1}
    for fact in ("acme.serial-number", "acme_checks", "ZeroDivisionError", "no plates"):
        assert fact in findings.of("failed-check")[0].message


def test_cached_findings_depend_on_selection_and_registered_checks(
    plant, third_party_check, tmp_path, monkeypatch
):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    planted = plant("csv")
    planted.truncate(planted.images()[0])
    assert check(planted.root, duplicates=False).counts == {"truncated-image": 1}
    assert check(planted.root, duplicates=False, skip=["images.*"]).counts == {}
    third_party_check(FOUND)
    assert "missing-serial" in check(planted.root, duplicates=False).counts
    third_party_check(
        "    return ()  # a longer file than before, which finds nothing, and more and more\n" * 2
    )
    assert check(planted.root, duplicates=False).counts == {"truncated-image": 1}
    with monkeypatch.context() as patch:
        patch.setattr(audit, "audit", None)  # from the cache
        assert check(planted.root, duplicates=False).counts == {"truncated-image": 1}


def test_third_party_check_without_source_file_is_not_cached(plant, tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    planted = plant("csv")
    namespace: dict[str, Any] = {"__name__": "acme_interactive"}
    exec("def nothing(dataset, context):\n    return ()\n", namespace)
    register("acme.interactive", codes=())(namespace["nothing"])
    try:
        check(planted.root, duplicates=False)
        assert not list((tmp_path / "cache").glob("check-*"))
    finally:
        CHECKS.unregister("acme.interactive")


def test_register_duplicate_check_names_both_modules():
    with raises("duplicate-name", "images.tiny", "blemish.data.checks.images", __name__):

        @register("images.tiny", codes=("tiny-image",))
        def check_again(dataset, context):
            return ()
