"""Downloads of weights are verified by digest, and a full disk is not reported as a missing network."""

import errno
import hashlib

import pytest

from blemish.models._weights_download import download
from blemish.testing import raises

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def published(tmp_path):
    """Return a file with its digest in its name, and the path to download it to."""
    (tmp_path / "there").mkdir()
    file = tmp_path / "there" / f"resnet18-{DIGEST}.pth"
    file.write_bytes(CONTENT)
    return file, tmp_path / "here" / file.name


def test_download_writes_the_complete_file(published):
    file, target = published
    assert download(file.as_uri(), target).read_bytes() == CONTENT


def test_download_refuses_a_damaged_file_and_leaves_nothing(published):
    file, target = published
    file.write_bytes(CONTENT[:-1])
    with raises("bad-weights.wrong-digest", file.name):
        download(file.as_uri(), target)
    assert not list(target.parent.iterdir())


def test_download_reports_a_full_disk_as_storage_full(published, monkeypatch):
    import torch

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.hub, "download_url_to_file", full)
    file, target = published
    with raises("storage-full", file.name, "No space left"):
        download(file.as_uri(), target)


def test_missing_file_names_the_remedy(published):
    file, target = published
    file.unlink()
    with raises("no-network", file.name, "--weights none"):
        download(file.as_uri(), target)
