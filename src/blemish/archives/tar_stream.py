"""The images of a tar file, read in one pass without extraction: the layout of WebDataset, and any other."""

from __future__ import annotations

import gzip
import io
import posixpath
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from blemish.archives.remote import open_remote
from blemish.errors import BadImage, BadInput, BlemishError, ImageTooLarge, ImageTruncated
from blemish.imaging import IMAGE_SUFFIXES, Limits, is_unsupported
from blemish.inference.inputs import ImageInput, is_url

MAX_HEADER_BYTES = 4 * 2**20  # of one extended header; tarfile would read any number into memory
CHUNK_BYTES = 2**20
GZIP_SUFFIXES = (".gz", ".tgz")


def read_tar(address: str, limits: Limits) -> Iterator[ImageInput]:
    """Yield the images of a tar file, in its order, each with its bytes.

    Members that are no images, such as labels, are left out; hidden ones too. Nothing is extracted, so that
    names and links of members reach no file of this machine. An image that cannot be used, and a tar file
    that is damaged, ends too early or contains no image, give an input with an error.

    Args:
        address: a path, or a URL that fsspec knows; `.tar`, `.tar.gz` or `.tgz`.
        limits: largest size of an image.

    Raises:
        NoNetwork: the store of a URL cannot be reached.
    """
    count = 0
    try:
        with _opened(address) as file:
            for image in _images(file, address, limits):
                count += 1
                yield image
    except BadImage as error:
        yield ImageInput.from_address(address, error)
    except BlemishError:
        raise
    except (EOFError, tarfile.ReadError) as error:
        yield ImageInput.from_address(address, _truncated(address, error))
    except Exception as error:  # tarfile raises about ten types of exceptions for damaged files
        yield ImageInput.from_address(address, _damaged(address, error))
    else:
        if not count:
            nothing = BadInput(f"{address}: the tar file contains no images", reason="no-images")
            yield ImageInput.from_address(address, nothing)


@contextmanager
def _opened(address: str) -> Iterator[IO[bytes]]:
    """Open a tar file, decompressed; a `BadImage` names one that cannot be opened."""
    with _raw(address) as raw:
        if address.casefold().endswith(GZIP_SUFFIXES):
            with gzip.GzipFile(fileobj=raw) as file:
                yield file  # type: ignore[misc]
        else:
            yield raw


@contextmanager
def _raw(address: str) -> Iterator[IO[bytes]]:
    if is_url(address) and not Path(address).exists():
        with open_remote(address) as remote:
            yield remote
        return
    try:
        file = Path(address).open("rb")  # noqa: SIM115  (an error of its user is not one of opening)
    except OSError as error:
        raise BadImage(
            address,
            f"cannot be read ({error.strerror})",
            reason="unreadable-file",
            remedy="check the path and its permissions",
        ) from error
    with file:
        yield file


def _images(file: IO[bytes], address: str, limits: Limits) -> Iterator[ImageInput]:
    tar: Any = tarfile.TarFile(fileobj=_BoundedFile(file), mode="r")
    before = -1
    while (member := tar.next()) is not None:
        tar.members = []  # it would keep every member
        if tar.offset <= before:  # a negative size, which older versions of tarfile accept
            raise tarfile.HeaderError("a member has a negative size")
        before = tar.offset
        name = posixpath.basename(member.name)
        is_image = posixpath.splitext(name)[1].casefold() in IMAGE_SUFFIXES or is_unsupported(name)
        if not is_image or name.startswith(".") or member.isdir():
            continue
        yield ImageInput.from_address(
            f"{address}/{member.name}", _content(file, member, f"{address}/{member.name}", limits)
        )
    # tarfile takes a damaged header after the first member for the end.
    file.seek(tar.offset)
    mark = file.read(tarfile.BLOCKSIZE)
    if mark != tarfile.NUL * tarfile.BLOCKSIZE:
        problem = "a header is damaged" if len(mark) == tarfile.BLOCKSIZE else "the end mark is missing"
        raise tarfile.ReadError(f"{problem} at byte {tar.offset:,}")


def _content(file: IO[bytes], member: tarfile.TarInfo, address: str, limits: Limits) -> bytes | BlemishError:
    """Return the bytes of a member, or why they cannot be used."""
    if not member.isreg() or member.issparse():
        return BadImage(
            address,
            "the member is a link, a device or a sparse file, which is not followed",
            reason="tar-member",
            remedy="store the image itself",
        )
    if member.size > limits.max_bytes:
        return ImageTooLarge(
            address,
            f"the file has {member.size:,} bytes, over the limit of {limits.max_bytes:,}",
            reason="max-bytes",
            remedy="save it smaller",
        )
    file.seek(member.offset_data)
    content = bytearray()
    while len(content) < member.size:
        part = file.read(min(CHUNK_BYTES, member.size - len(content)))
        if not part:
            raise tarfile.ReadError(f"the data of {member.name!r} end too early")
        content += part
    return bytes(content)


class _BoundedFile(io.RawIOBase):
    """The file that tarfile reads headers from; a read of more than a header may need is refused."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.HeaderError(f"a header of {size:,} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)


def _truncated(address: str, error: Exception) -> BadImage:
    return ImageTruncated(
        address,
        f"the tar file ends too early or is damaged ({error}); the images before that have rows",
        reason="tar",
        remedy="copy or download it again",
    )


def _damaged(address: str, error: Any) -> BadImage:
    detail = f"{type(error).__name__}: {error}"[:200]
    return BadImage(
        address,
        f"the tar file is damaged ({detail}); the images before that have rows",
        reason="tar",
        remedy="copy or download it again",
    )
