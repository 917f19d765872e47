"""Download weights files and verify them by the digest in their names."""

from __future__ import annotations

import errno
import re
import urllib.error
from pathlib import Path

import torch

from blemish.errors import BadWeights, BlemishError, NoNetwork, StorageFull

_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.")  # PyTorch publishers end file names with digits of the SHA-256
_DISK_ERRORS = {
    getattr(errno, name, -1)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EFBIG", "ENOTDIR", "EISDIR", "EEXIST")
}


def download(url: str, target: Path) -> Path:
    """Download a file; it appears at `target` complete or not at all.

    Args:
        url: if its file name ends with digits of a SHA-256, as torchvision's do, the content is verified.
        target: the file to write; its folder is created.

    Returns:
        `target`.

    Raises:
        NoNetwork: the download failed.
        BadWeights: the content has another digest ("bad-weights.wrong-digest").
        StorageFull: the file could not be written.
    """
    digest = _DIGEST.search(url.rpartition("/")[2])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            url, str(target), hash_prefix=digest and digest.group(1), progress=False
        )
    except Exception as error:
        if isinstance(error, RuntimeError) and "invalid hash" in str(error):  # torch has no class of its own
            raise BadWeights(
                f"{url}: the downloaded file does not have the digest in its name; try again, or put the "
                f"file into {target.parent}",
                reason="wrong-digest",
            ) from error
        raise download_error(error, target.name, f"put the file into {target.parent}, ") from error
    return target


def download_error(error: Exception, name: str, remedy: str = "") -> BlemishError:
    """Return the Blemish error for an error of a download client.

    Args:
        error: the client's error.
        name: of the weights.
        remedy: one more remedy for the message, ending with a comma.

    Returns:
        StorageFull for an error of the disk, NoNetwork for any other.
    """
    # URLError is an OSError too, and its errno may equal that of a disk error.
    from_disk = isinstance(error, OSError) and not isinstance(error, urllib.error.URLError)
    if from_disk and getattr(error, "errno", None) in _DISK_ERRORS:
        return StorageFull(
            f"the weights {name} could not be written ({getattr(error, 'strerror', error)}); free disk "
            "space, set TORCH_HOME and HF_HOME to another disk, or give a file with --weights FILE"
        )
    return NoNetwork(
        f"the weights {name} could not be downloaded; {remedy}give a file with --weights FILE, or start "
        "from random weights with --weights none"
    )
