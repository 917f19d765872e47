"""Download public data sets, verify their digests and unpack them."""

from __future__ import annotations

import hashlib
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from blemish.errors import BadDataset, NoNetwork, StorageFull, UnknownName

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Archive:
    """One file of a public data set.

    Attributes:
        url: its address.
        md5: its MD5 digest in hexadecimal digits, as other users of the data set have recorded it.
        size_bytes: its approximate size.
    """

    url: str
    md5: str
    size_bytes: int


VOC = "https://thor.robots.ox.ac.uk/pascal/VOC"  # the publishers moved it from host.robots.ox.ac.uk
DATASETS: dict[str, tuple[Archive, ...]] = {
    "voc2007": (
        Archive(
            f"{VOC}/voc2007/VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64", 460_032_000
        ),
        Archive(f"{VOC}/voc2007/VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f", 451_020_800),
    ),
    "voc2012": (
        Archive(
            f"{VOC}/voc2012/VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd", 1_999_639_040
        ),
    ),
}


def fetch_dataset(name: str, output: Path | str, *, progress: Progress | None = None) -> Path:
    """Download and unpack a public data set; what exists is not downloaded again.

    An interrupted download continues where it stopped. Archives are deleted once they are unpacked.

    Args:
        name: "voc2007" or "voc2012".
        output: the folder to unpack into.
        progress: called with the name of the file, the bytes downloaded and the total number of bytes.

    Returns:
        The folder that contains `VOCdevkit`.

    Raises:
        UnknownName: the data set does not exist.
        NoNetwork: a download failed; another call continues it.
        BadDataset: a downloaded file is not the one that was published.
        StorageFull: the disk is full or read-only.
    """
    if name not in DATASETS:
        raise UnknownName("data set", name, DATASETS)
    output = Path(output)
    for archive in DATASETS[name]:
        done = output / f".{_file_name(archive)}.done"
        if done.exists():
            continue
        try:
            output.mkdir(parents=True, exist_ok=True)
            file = download_archive(archive, output, progress=progress)
            _unpack(file, output)
            done.touch()
            file.unlink()
        except OSError as error:
            if isinstance(error, StorageFull):
                raise
            raise StorageFull(f"{output}: cannot be written ({error.strerror}); free some space") from error
    return output


def download_archive(archive: Archive, folder: Path, *, progress: Progress | None = None) -> Path:
    """Download an archive into `folder` and verify its digest; see `fetch_dataset`."""
    target = folder / _file_name(archive)
    part = target.with_suffix(target.suffix + ".part")
    if not target.exists():
        _transfer(archive, part, progress)
        part.replace(target)
    digest = hashlib.md5(usedforsecurity=False)
    with target.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != archive.md5:
        target.unlink()
        raise BadDataset(
            f"expected a file with the MD5 digest {archive.md5}, got {digest.hexdigest()}; the file was"
            " deleted",
            where=archive.url,
            remedy="download it again",
            reason="digest",
        )
    return target


def _transfer(archive: Archive, part: Path, progress: Progress | None) -> None:
    received = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(archive.url, headers={"User-Agent": "blemish"})  # noqa: S310 - from the table above
    if received:
        request.add_header("Range", f"bytes={received}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
            continues = response.status == 206 and received > 0
            length = int(response.headers.get("Content-Length") or 0)
            received = received if continues else 0
            total = received + length
            with part.open("ab" if continues else "wb") as file:
                while chunk := response.read(CHUNK_BYTES):
                    file.write(chunk)
                    received += len(chunk)
                    if progress is not None:
                        progress(_file_name(archive), received, total)
                file.flush()
                os.fsync(file.fileno())
    except urllib.error.HTTPError as error:
        if error.code == 416 and received:  # the file is complete
            return
        raise NoNetwork(
            f"{archive.url}: the server responded with status {error.code}; try again later", reason="status"
        ) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise NoNetwork(
            f"{archive.url}: cannot be reached ({reason}); connect to the internet and run the command"
            " again, which continues the download, or download and unpack the file yourself",
            reason="unreachable",
        ) from error
    if length and received < total:
        raise NoNetwork(
            f"{archive.url}: the download was interrupted after {received:,} of {total:,} bytes; run the"
            " command again to continue it",
            reason="interrupted",
        )


def _file_name(archive: Archive) -> str:
    return archive.url.rsplit("/", 1)[-1]


def _unpack(file: Path, folder: Path) -> None:
    try:
        with tarfile.open(file) as tar:
            tar.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise BadDataset(
            f"cannot be unpacked ({error})",
            where=file,
            remedy="delete it and download it again",
            reason="archive",
        ) from error
