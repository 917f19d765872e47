"""Files of weights from the network, each proved by the digest in its name."""

from __future__ import annotations

import errno
import re
import urllib.error
from pathlib import Path

import torch

from blemish.errors import BadWeights, BlemishError, NoNetwork, StorageFull

_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.")  # torch's publishers end names with the first digits of SHA-256
_DISK = {
    getattr(errno, name, -1)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EFBIG", "ENOTDIR", "EISDIR", "EEXIST")
}


def download(url: str, target: Path) -> Path:
    """A file from the network, whole or not at all.

    Args:
        url: its name ends with digits of its SHA-256 where the publisher gives them, as torchvision's do.
        target: where it shall lie; the folder is made.

    Returns:
        `target`.

    Raises:
        NoNetwork: it could not be fetched.
        BadWeights: what came has another digest.
        StorageFull: it could not be written.
    """
    digest = _DIGEST.search(url.rpartition("/")[2])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            url, str(target), hash_prefix=digest and digest.group(1), progress=False
        )
    except Exception as error:
        if "invalid hash" in str(error):
            raise BadWeights(
                f"{url}: what was downloaded is not what its name promises (its digest differs); try "
                f"again, or put the file into {target.parent} yourself"
            ) from error
        raise failure(error, target.name, f"put the file into {target.parent}, ") from error
    return target


def failure(error: Exception, name: str, remedy: str = "") -> BlemishError:
    """What a download that ended with an error is told as.

    Args:
        error: of the client.
        name: of the weights.
        remedy: one more, that ends with a comma.

    Returns:
        StorageFull where the disk was at fault, NoNetwork elsewhere.
    """
    # An address that cannot be reached is an OSError too, and inside it stands the disk's kind or another.
    of_disk = isinstance(error, OSError) and not isinstance(error, urllib.error.URLError)
    if of_disk and getattr(error, "errno", None) in _DISK:
        return StorageFull(
            f"the weights {name} could not be written ({getattr(error, 'strerror', error)}); free some "
            "space, set TORCH_HOME and HF_HOME to another disk, or give a file with --weights FILE"
        )
    return NoNetwork(
        f"the weights {name} could not be downloaded; {remedy}give another with --weights FILE, or start "
        "from random weights with --weights none"
    )
