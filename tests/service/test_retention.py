"""RetentionStore: what is stored, and what is deleted."""

import errno
import json
import logging
import os
import time

import pytest

from blemish.errors import StorageFull
from blemish.model_file import write_atomically
from blemish.service import retention
from blemish.service.app import create_app
from blemish.service.retention import RetentionStore
from blemish.service.service_metrics import ServiceMetrics
from blemish.service.settings import Settings
from blemish.testing import raises


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


LEFT_OVER = ".20260131T101500000000-abababababababab.{}.4242-139872.tmp"


@pytest.mark.parametrize("kind", ["image", "json"])
def test_retention_store_deletes_what_a_killed_process_left(tmp_path, kind):
    old, young = tmp_path / LEFT_OVER.format(kind), tmp_path / LEFT_OVER.format(kind).replace("4242", "4243")
    foreign = [tmp_path / name for name in (".holiday.jpg.4242-1.tmp", "notes.tmp", ".x.image.1-1.tmp")]
    for path in (old, young, *foreign):
        path.write_bytes(b"half")
    make_old([old, *foreign])
    metrics = ServiceMetrics()
    RetentionStore(tmp_path, 2, metrics=metrics)
    assert not old.exists()
    assert young.exists()
    assert all(path.exists() for path in foreign)
    assert b'blemish_deleted_files_total{reason="left-over"} 1.0' in metrics.text()


@pytest.mark.parametrize(
    ("hours", "age_seconds", "remains"),
    [(0.001, 30, True), (0.001, 90, False), (0.1, 90, True), (0.1, 400, False), (24, 700, False)],
)
def test_retention_store_waits_for_a_young_temporary_file(tmp_path, hours, age_seconds, remains):
    path = tmp_path / LEFT_OVER.format("image")
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age_seconds,) * 2)
    RetentionStore(tmp_path, hours)
    assert path.exists() == remains


class FullDisk:
    """`write_atomically` on a disk that may be full."""

    full = True

    def __call__(self, path, *parts):
        if self.full:
            raise StorageFull(f"{path} could not be written") from OSError(errno.ENOSPC, "No space left")
        write_atomically(path, *parts)


@pytest.fixture
def disk(monkeypatch):
    disk = FullDisk()
    monkeypatch.setattr(retention, "write_atomically", disk)
    return disk


@pytest.fixture
def lines(caplog, monkeypatch):
    """What the store writes to the log."""
    monkeypatch.setattr(logging.getLogger("blemish.service"), "propagate", True)
    caplog.set_level("INFO", "blemish.service")
    return caplog


def test_retention_store_on_a_full_disk_writes_one_line_in_a_minute(tmp_path, disk, lines):
    now = [0.0]
    metrics = ServiceMetrics()
    store = RetentionStore(tmp_path, 2, metrics=metrics, clock=lambda: now[0])
    for second in range(0, 150, 10):
        now[0] = second
        store.save(b"image", {"sha256": "ab" * 32})
    assert store.failing
    assert b"blemish_store_failures_total 15.0" in metrics.text()
    assert [record.args[0] for record in lines.records] == [1, 6, 6]
    assert all(record.exc_info is None for record in lines.records)
    assert str(tmp_path) not in "".join(record.getMessage() for record in lines.records)
    store.test_writing()
    assert store.failing
    disk.full = False
    store.test_writing()
    assert not store.failing
    assert list(tmp_path.iterdir()) == []


def test_retention_store_deletes_an_image_whose_answer_cannot_be_stored(tmp_path, monkeypatch):
    def write(path, *parts):
        if path.suffix == ".json":
            raise StorageFull("full")
        write_atomically(path, *parts)

    monkeypatch.setattr(retention, "write_atomically", write)
    RetentionStore(tmp_path, 2).save(b"image", {"sha256": "ab" * 32})
    assert list(tmp_path.iterdir()) == []


def test_retention_store_deletes_the_oldest_over_the_size_limit(tmp_path):
    metrics = ServiceMetrics()
    store = RetentionStore(tmp_path, 2, max_bytes=5000, metrics=metrics)
    (tmp_path / "holiday.jpg").write_bytes(bytes(9000))
    for number in range(6):
        store.save(bytes(1200), {"sha256": f"{number:064x}"[::-1]})
    stored = sorted(path.name for path in tmp_path.iterdir() if path.name != "holiday.jpg")
    assert {name.partition("-")[2][0] for name in stored} == {"3", "4", "5"}
    assert len(stored) == 6
    used = sum((tmp_path / name).stat().st_size for name in stored)
    assert used <= 5000
    assert f"blemish_stored_bytes {float(used)}".encode() in metrics.text()
    assert b'blemish_deleted_files_total{reason="size-limit"} 6.0' in metrics.text()
    store.save(bytes(6000), {"sha256": "ff" * 32})
    assert b"blemish_store_failures_total 1.0" in metrics.text()
    assert not store.failing
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "holiday.jpg") == stored


def test_settings_refuse_store_options_without_directory():
    for options in ({"max_store_bytes": 10**9}, {"ready_requires_store": True}):
        with raises("bad-input.store-dir"):
            Settings(**options)


def test_ready_requires_store(tmp_path, model_folder, tools, disk):
    for required, status in ((True, 503), (False, 200)):
        disk.full = True
        settings = Settings(
            store_dir=tmp_path, retention_hours=1, ready_requires_store=required, max_store_bytes=10**9
        )
        app = create_app({"a": model_folder / "resnet.onnx"}, settings, threads=1)
        with tools.running(app) as address:
            assert tools.post(f"{address}/api/v1/predict", files={"image": tools.image()}).status_code == 200
            ready = tools.get(f"{address}/api/v1/health/ready")
            assert ready.status_code == status
            if required:
                assert ready.json()["code"] == "not-ready.store"
                disk.full = False
                tools.post(f"{address}/api/v1/predict", files={"image": tools.image()})
                assert tools.get(f"{address}/api/v1/health/ready").status_code == 200
