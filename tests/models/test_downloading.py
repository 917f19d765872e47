"""Downloads of weights: proved by their digest, and no full disk taken for a missing network."""

import errno
import hashlib

import pytest

from blemish.errors import NoNetwork, StorageFull
from blemish.models._weights_download import download
from blemish.testing import raises

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def published(tmp_path):
    """The address of a file that is published with its digest in its name, and where it shall go."""
    (tmp_path / "there").mkdir()
    file = tmp_path / "there" / f"resnet18-{DIGEST}.pth"
    file.write_bytes(CONTENT)
    return file, tmp_path / "here" / file.name


def test_a_whole_file_comes(published):
    file, target = published
    assert download(file.as_uri(), target).read_bytes() == CONTENT


def test_a_damaged_download_is_refused_and_leaves_nothing(published):
    file, target = published
    file.write_bytes(CONTENT[:-1])
    with raises("bad-weights.wrong-digest", file.name):
        download(file.as_uri(), target)
    assert not list(target.parent.iterdir())


def test_a_full_disk_is_not_called_a_missing_network(published, monkeypatch):
    import torch

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.hub, "download_url_to_file", full)
    file, target = published
    with pytest.raises(StorageFull, match="No space left"):
        download(file.as_uri(), target)


def test_a_missing_file_is_told_with_the_remedy(published):
    file, target = published
    file.unlink()
    with pytest.raises(NoNetwork, match="--weights none"):
        download(file.as_uri(), target)
