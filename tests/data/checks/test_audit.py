"""check: selection, cache and third-party checks; and that every check is documented and tested."""

import re
from pathlib import Path

import pytest

from blemish.data import audit
from blemish.data.audit import check
from blemish.data.checks import CHECKS


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
