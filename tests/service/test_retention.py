"""RetentionStore: what is stored, and what is deleted."""

import json
import os
import time

from blemish.service.retention import RetentionStore


def make_old(paths):
    """Set the modification time of files to three hours ago."""
    for path in paths:
        os.utime(path, (time.time() - 3 * 3600,) * 2)


def test_retention_store_without_directory_stores_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = RetentionStore(None, None)
    assert not store.enabled
    store.save(b"x", {"sha256": "0" * 64})
    assert list(tmp_path.iterdir()) == []


def test_retention_store_deletes_its_own_expired_files_only(tmp_path):
    store = RetentionStore(tmp_path / "stored", 2)
    answer = {
        "sha256": "ab" * 32,
        "links": {"image": "/secret"},
        "heatmap": {"overlay": "/secret"},
        "decision": {"labels": ["a"]},
    }
    store.save(b"image", answer)
    files = sorted((tmp_path / "stored").iterdir())
    assert [f.suffix for f in files] == [".image", ".json"]
    assert files[0].read_bytes() == b"image"
    assert json.loads(files[1].read_text()) == {"sha256": "ab" * 32, "decision": {"labels": ["a"]}}
    foreign = tmp_path / "stored" / "holiday.jpg"
    foreign.write_bytes(b"x")
    make_old([*files, foreign])
    store.save(b"new", {"sha256": "cd" * 32})
    store.delete_expired()
    names = sorted(path.name for path in (tmp_path / "stored").iterdir())
    assert len(names) == 3
    assert "holiday.jpg" in names
    assert not any("abababab" in name for name in names)


def test_retention_store_survives_a_missing_directory(tmp_path):
    store = RetentionStore(tmp_path / "stored", 2)
    store.save(b"old", {"sha256": "ab" * 32})
    (tmp_path / "stored").rename(tmp_path / "away")
    store.delete_expired()
    (tmp_path / "away").rename(tmp_path / "stored")
    make_old((tmp_path / "stored").iterdir())
    store.delete_expired()
    assert list((tmp_path / "stored").iterdir()) == []
