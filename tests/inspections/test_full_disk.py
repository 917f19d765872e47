"""A store on a disk that is really full: a small file system in memory."""

import os
import shutil
import subprocess
import sys

import pytest
from tests.inspections.conftest import image_bytes

from blemish.errors import BadStore, StorageFull
from blemish.inspections.finding_records import NewFinding
from blemish.inspections.maintenance import verify_store
from blemish.inspections.store import InspectionStore


@pytest.fixture
def small_disk(tmp_path):
    """A folder with 3 MB; tests without the right to mount a file system are skipped."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root on Linux may mount a file system in memory")
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, left=0):
    """Fill the disk but for `left` bytes."""
    ballast = folder / "ballast"
    free = shutil.disk_usage(folder).free
    with ballast.open("ab") as file:
        file.write(b"\0" * max(0, free - left))
    return ballast


@pytest.mark.parametrize("left", [0, 4096, 20_000, 100_000, 250_000])
def test_a_full_disk_refuses_and_keeps_what_was_confirmed(small_disk, left):
    with InspectionStore.open(small_disk / "store", create=True) as store:
        asset = store.assets.create("free", "one")
        inspection = store.inspections.create(asset.id)
        first = store.images.add(inspection.id, image_bytes(0))
        ballast = fill(small_disk, left)
        images, findings, refused = [first.id], [], 0
        for k in range(1, 60):
            try:
                images.append(store.images.add(inspection.id, image_bytes(k)).id)
                new = NewFinding(image_id=first.id, label="dent", box_xyxy=[1, 1, 9, 9])
                findings.append(store.reviews.add(inspection.id, new).id)
            except StorageFull as error:
                assert error.code == "storage-full"
                refused += 1
                if refused == 3:
                    break
        assert refused == 3
        ballast.unlink()
        assert [image.id for image in store.images.of_inspection(inspection.id)] == images
        assert [finding.id for finding in store.findings.of_inspection(inspection.id)] == findings
        check = verify_store(store, remove_orphans=True, min_age_seconds=-1)
        assert check.is_intact and check.orphans <= refused
        store.images.add(inspection.id, image_bytes(99))  # with space, it goes on
        assert len(store.images.of_inspection(inspection.id)) == len(images) + 1
    with InspectionStore.open(small_disk / "store") as store:
        assert verify_store(store, min_age_seconds=-1).is_intact


def test_a_store_is_not_created_on_a_full_disk(small_disk):
    ballast = fill(small_disk)
    with pytest.raises((StorageFull, BadStore)), InspectionStore.open(small_disk / "store", create=True):
        pass
    ballast.unlink()
    with InspectionStore.open(small_disk / "store", create=True) as store:
        store.assets.create("free", "one")
