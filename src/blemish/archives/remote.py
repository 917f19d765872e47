"""Files in object storage and on other machines, such as `s3://bucket/images/`, through fsspec."""

from __future__ import annotations

import glob
import io
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import IO, Any

from blemish.errors import BadImage, BadInput, BlemishError, MissingExtra, NoNetwork
from blemish.inference.sources import DRAWN_STEM, natural_key

BLOCK_BYTES = 8 * 2**20  # that are read ahead of a tar file
# What changes with the content, by the names that stores use.
_STATES = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "mtime", "created")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a store.

    Attributes:
        address: its URL.
        size: in bytes; None if the store does not report it.
        state: changes with the content; "" if the store reports nothing.
        is_named: whether the user named it, and not a folder that contains it.
    """

    address: str
    size: int | None
    state: str
    is_named: bool


def list_remote(address: str) -> Iterator[RemoteFile]:
    """Yield a file, the files below a folder, or those that match a pattern, in natural order.

    Hidden files and the images that `predict --output` has drawn are left out, as on this machine.

    Args:
        address: a URL that fsspec knows.

    Raises:
        BadInput: it does not exist, cannot be read, or fsspec knows no such URL.
        MissingExtra: fsspec, or the package for this store, is not installed.
        NoNetwork: the store cannot be reached.
    """
    with _store_errors(address):
        store, path = _open_store(address)
        if glob.has_magic(path):
            found = store.glob(path, detail=True)
            for name in sorted(found, key=natural_key):
                if found[name]["type"] == "file" and not _is_left_out(name):
                    yield _file(store, name, found[name], is_named=True)
            return
        info = store.info(path)
        if info["type"] == "file":
            yield _file(store, path, info, is_named=True)
            return
        yield from _files_below(store, path)


def _files_below(store: Any, folder: str) -> Iterator[RemoteFile]:
    entries = store.ls(folder, detail=True)
    here = folder.rstrip("/")
    entries = [e for e in entries if e["name"].rstrip("/") != here]  # some stores list the folder itself
    for entry in sorted(entries, key=lambda e: natural_key(e["name"])):
        if entry["type"] == "file" and not _is_left_out(entry["name"]):
            yield _file(store, entry["name"], entry, is_named=False)
    for entry in sorted(entries, key=lambda e: natural_key(e["name"])):
        if entry["type"] == "directory" and not _is_left_out(entry["name"]):
            yield from _files_below(store, entry["name"])


def _is_left_out(name: str) -> bool:
    last = posixpath.basename(name.rstrip("/"))
    return last.startswith(".") or posixpath.splitext(last)[0].casefold().endswith(DRAWN_STEM)


def _file(store: Any, path: str, info: dict[str, Any], *, is_named: bool) -> RemoteFile:
    state = next((str(info[key]) for key in _STATES if info.get(key) is not None), "")
    return RemoteFile(store.unstrip_protocol(path), info.get("size"), state, is_named)


def read_remote(address: str) -> bytes:
    """Return the content of a file.

    Raises:
        BadImage: it does not exist, or may not be read.
        NoNetwork: the store cannot be reached.
    """
    with _file_errors(address):
        store, path = _open_store(address)
        return bytes(store.cat_file(path))


@contextmanager
def open_remote(address: str) -> Iterator[IO[bytes]]:
    """Open a file that is read from its start to its end.

    Raises:
        BadImage: it does not exist, or may not be read.
        NoNetwork: the store cannot be reached.
    """
    with _file_errors(address):
        store, path = _open_store(address)
        file = store.open(path, "rb", block_size=BLOCK_BYTES, cache_type="readahead")
    try:
        yield _ReportingFile(file, address)  # type: ignore[misc]
    finally:
        file.close()


class _ReportingFile(io.RawIOBase):
    """A file whose errors name its address."""

    def __init__(self, file: Any, address: str) -> None:
        self._file, self._address = file, address

    def read(self, size: int = -1) -> bytes:
        with _file_errors(self._address):
            return bytes(self._file.read(size))

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))


def _open_store(address: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    try:
        url_to_fs: Any = import_module("fsspec.core").url_to_fs
    except ImportError as error:
        raise MissingExtra("remote", f"reading {address}") from error
    try:
        store, path = url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        if address.startswith(("s3:", "s3a:")):
            raise MissingExtra("remote", f"reading {address}") from error
        raise BadInput(f"{address}: fsspec cannot open it ({error})", reason="store-package") from error
    except ValueError as error:
        raise BadInput(
            f"{address}: expected a URL that fsspec knows, such as s3://bucket/folder/ ({error})",
            reason="url",
        ) from error
    return store, str(path)


@contextmanager
def _store_errors(address: str) -> Iterator[None]:
    """Raise the errors of a store as errors about a source."""
    try:
        yield
    except BlemishError:
        raise
    except FileNotFoundError as error:
        raise BadInput(f"{address}: no such file or folder", reason="not-found") from error
    except PermissionError as error:
        raise BadInput(
            f"{address}: cannot be read ({error}). Check your credentials.", reason="unreadable"
        ) from error
    except Exception as error:  # each store has exceptions of its own
        raise _unreachable(address, error) from error


@contextmanager
def _file_errors(address: str) -> Iterator[None]:
    """Raise the errors of a store as errors about one file."""
    try:
        yield
    except BlemishError:
        raise
    except FileNotFoundError as error:
        raise BadImage(address, "no such file", reason="no-such-file", remedy="check the address") from error
    except PermissionError as error:
        raise BadImage(
            address, f"cannot be read ({error})", reason="unreadable-file", remedy="check its permissions"
        ) from error
    except Exception as error:  # each store has exceptions of its own
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> NoNetwork:
    detail = " ".join(str(error).split())[:200] or type(error).__name__
    return NoNetwork(
        f"{address}: the store cannot be read ({detail}). Check the address, your credentials and the "
        "network.",
        reason="store",
    )
