"""Public data sets, downloaded, checked by their digest, and unpacked."""

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
        url: where it lies.
        md5: its digest, hex, as its publishers' users have recorded it.
        size_bytes: about how large it is, for people.
    """

    url: str
    md5: str
    size_bytes: int


VOC = "https://thor.robots.ox.ac.uk/pascal/VOC"  # where its publishers moved it from host.robots.ox.ac.uk
SETS: dict[str, tuple[Archive, ...]] = {
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


def fetch(name: str, output: Path | str, *, progress: Progress | None = None) -> Path:
    """Download and unpack a public data set; what is there already is not fetched again.

    A download that was broken off goes on where it stopped. Archives are kept only until they are unpacked.

    Args:
        name: `voc2007` or `voc2012`.
        output: the folder to unpack into.
        progress: told the file's name, the bytes there are and the bytes there will be, now and then.

    Returns:
        What to open: the folder that holds `VOCdevkit`.

    Raises:
        UnknownName: no data set of that name.
        NoNetwork: a download that could not be made or finished; calling again goes on.
        BadDataset: what came is not what was published.
        StorageFull: the disk is full or read-only.
    """
    if name not in SETS:
        raise UnknownName("data set", name, SETS)
    output = Path(output)
    for archive in SETS[name]:
        done = output / f".{_file_name(archive)}.done"
        if done.exists():
            continue
        try:
            output.mkdir(parents=True, exist_ok=True)
            file = download(archive, output, progress=progress)
            _unpack(file, output)
            done.touch()
            file.unlink()
        except OSError as error:
            if isinstance(error, StorageFull):
                raise
            raise StorageFull(f"{output} could not be written ({error.strerror}); free some space") from error
    return output


def download(archive: Archive, folder: Path, *, progress: Progress | None = None) -> Path:
    """The archive in `folder`, whole and with the right digest; see `fetch`."""
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
            f"{archive.url}: what came has the digest {digest.hexdigest()}, not {archive.md5}; it was"
            f" deleted, fetch it again"
        )
    return target


def _transfer(archive: Archive, part: Path, progress: Progress | None) -> None:
    there = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(archive.url, headers={"User-Agent": "blemish"})  # noqa: S310 - from the table above
    if there:
        request.add_header("Range", f"bytes={there}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            goes_on = answer.status == 206 and there > 0
            length = int(answer.headers.get("Content-Length") or 0)
            there = there if goes_on else 0
            whole = there + length
            with part.open("ab" if goes_on else "wb") as file:
                while chunk := answer.read(CHUNK_BYTES):
                    file.write(chunk)
                    there += len(chunk)
                    if progress is not None:
                        progress(_file_name(archive), there, whole)
                file.flush()
                os.fsync(file.fileno())
    except urllib.error.HTTPError as error:
        if error.code == 416 and there:  # all of it is there already
            return
        raise NoNetwork(f"{archive.url}: the server answers {error.code}; try again later") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise NoNetwork(
            f"{archive.url}: cannot be reached ({reason}); connect to the internet and fetch again, which"
            f" goes on"
            f" from what is there, or download the file and unpack it yourself"
        ) from error
    if length and there < whole:
        raise NoNetwork(
            f"{archive.url}: broken off after {there:,} of {whole:,} bytes; fetch again, which goes on there"
        )


def _file_name(archive: Archive) -> str:
    return archive.url.rsplit("/", 1)[-1]


def _unpack(file: Path, folder: Path) -> None:
    try:
        with tarfile.open(file) as tar:
            tar.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise BadDataset(f"{file}: cannot be unpacked ({error}); delete it and fetch again") from error
