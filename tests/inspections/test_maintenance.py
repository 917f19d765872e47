"""Verification, backup, and stores whose process was killed."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.inspections.conftest import Case, image_bytes

from blemish.errors import StorageFull
from blemish.inspections.maintenance import back_up, restore, verify_store
from blemish.inspections.store import InspectionStore
from blemish.testing import raises


def test_verify_store_of_an_intact_store(case):
    check = verify_store(case.store)
    assert check.is_intact and check.files == 2 and check.audit_events == 5


def test_verify_store_finds_missing_and_changed_files(case):
    files = case.store.access.files
    files.path(case.images[0].sha256).unlink()
    files.path(case.images[1].sha256).write_bytes(b"x")
    check = verify_store(case.store)
    assert check.files_missing == [case.images[0].sha256]
    assert check.files_changed == [case.images[1].sha256]
    assert not check.is_intact


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE audit_event SET actor = 'x' WHERE sequence = 3", "event 3: hash"),
        ("DELETE FROM audit_event WHERE sequence = 2", "event 2: missing"),
        ("UPDATE audit_event SET previous_hash = hash WHERE sequence = 4", "event 4: link"),
    ],
)
def test_verify_store_finds_changes_of_the_audit_chain(sqlite_store, statement, fault):
    Case(sqlite_store)
    with sqlite_store.access.database.engine.begin() as connection:
        for event in ("update", "delete"):
            connection.execute(sa.text(f"DROP TRIGGER audit_event_no_{event}"))
        connection.execute(sa.text(statement))
    assert verify_store(sqlite_store).audit_fault == fault


def test_verify_store_removes_orphans_only_when_asked(case):
    files = case.store.access.files
    orphan = files.path(files.add(b"without a row"))
    temporary = orphan.with_name(".abc.1-2.tmp")
    temporary.write_bytes(b"half")
    assert verify_store(case.store).orphans == 0  # too young
    assert verify_store(case.store, min_age_seconds=-1).orphans == 2
    check = verify_store(case.store, remove_orphans=True, min_age_seconds=-1)
    assert check.orphans == 2 and check.is_intact
    assert not orphan.exists() and not temporary.exists()
    assert verify_store(case.store, min_age_seconds=-1).orphans == 0


def test_back_up_and_restore(tmp_path, sqlite_store):
    case = Case(sqlite_store)
    assert back_up(sqlite_store, tmp_path / "backup") == 2
    case.store.images.add(case.inspection.id, image_bytes(7))
    assert restore(tmp_path / "backup", tmp_path / "again").is_intact
    with InspectionStore.open(tmp_path / "again") as restored:
        assert restored.images.of_inspection(case.inspection.id) == tuple(case.images)
        restored.images.add(case.inspection.id, image_bytes(8))
    with raises("bad-input.output-not-empty"):
        restore(tmp_path / "backup", tmp_path / "again")


def test_restore_refuses_an_incomplete_or_damaged_backup(tmp_path, sqlite_store):
    case = Case(sqlite_store)
    with raises("bad-store.backup"):
        restore(sqlite_store.folder, tmp_path / "again")
    back_up(sqlite_store, tmp_path / "backup")
    digest = case.images[0].sha256
    (tmp_path / "backup" / "files" / digest[:2] / digest).write_bytes(b"x")
    with raises("bad-store.damaged"):
        restore(tmp_path / "backup", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_full_disk_leaves_nothing_half_written(sqlite_store, monkeypatch):
    case = Case(sqlite_store)

    def full(path, *parts):
        raise StorageFull("full")

    monkeypatch.setattr("blemish.inspections.file_store.write_atomically", full)
    with pytest.raises(StorageFull):
        case.store.images.add(case.inspection.id, image_bytes(9))
    assert len(case.store.images.of_inspection(case.inspection.id)) == 2
    assert verify_store(case.store, min_age_seconds=-1).orphans == 0


WRITER = """
import sys
from blemish.inspections.store import InspectionStore
from tests.inspections.conftest import image_bytes
from blemish.inspections.finding_records import NewFinding
folder, inspection, start = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = InspectionStore.open(folder)
print("ready", flush=True)
k = start
while True:
    k += 1
    image = store.images.add(inspection, image_bytes(k, (24, 16)))
    print("image", image.id, image.sha256, flush=True)
    new = NewFinding(image_id=image.id, label="dent", box_xyxy=[1, 1, 9, 9])
    finding = store.reviews.add(inspection, new)
    print("finding", finding.id, flush=True)
    print("review", store.reviews.decide(finding.id, "reject").id, flush=True)
"""


def kill_writers(folder, kills):
    """Kill a writer `kills` times at random moments; return what it had acknowledged."""
    random_source, acknowledged = random.Random(0), []
    with InspectionStore.open(folder, create=True) as store:
        asset = store.assets.create("free", "one")
    start = 0
    for number in range(kills):
        if number % 20 == 0:  # an inspection has at most 2,000 images
            with InspectionStore.open(folder) as store:
                inspection = store.inspections.create(asset.id)
        command = [sys.executable, "-c", WRITER, str(folder), inspection.id, str(start)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        assert writer.stdout.readline() == "ready\n"
        time.sleep(random_source.uniform(0, 0.15))
        writer.send_signal(signal.SIGKILL)
        lines = [
            line.split() for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")
        ]
        writer.wait()
        writer.stdout.close()
        acknowledged += lines
        start += len(lines) + 10
    return acknowledged


def check_after_kills(folder, acknowledged):
    with InspectionStore.open(folder) as store:
        check = verify_store(store, remove_orphans=True, min_age_seconds=-1)
        assert check.is_intact, check
        with store.access.database.read() as connection:
            rows = {
                name: set(connection.execute(sa.text(f"SELECT id FROM {name}")).scalars())
                for name in ("image", "finding", "review")
            }
        lost = [line for line in acknowledged if line[1] not in rows[line[0]]]
        assert lost == []
        assert all(store.access.files.fault(line[2]) == "" for line in acknowledged if line[0] == "image")
        assert verify_store(store, min_age_seconds=-1).orphans == 0
        return check


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path):
    check_after_kills(tmp_path / "store", kill_writers(tmp_path / "store", 2))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_200_killed_processes_lose_nothing_that_they_acknowledged(tmp_path):
    acknowledged = kill_writers(tmp_path / "store", 200)
    check = check_after_kills(tmp_path / "store", acknowledged)
    print(f"200 kills, {len(acknowledged)} acknowledged writes, {check.orphans} orphans removed, 0 lost")
