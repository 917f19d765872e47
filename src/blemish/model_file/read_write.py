"""Reading and writing model files."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from blemish.errors import BadModelFile, StorageFull
from blemish.model_file.contract import FORMAT_VERSION, Contract
from blemish.model_file.fingerprints import Fingerprints
from blemish.model_file.protobuf import METADATA_FIELD, encode_entry, entry, top_level

CONTRACT_KEY = "blemish"
FINGERPRINTS_KEY = "blemish.fingerprints"
PATIENCE_SECONDS = (0.02, 0.1, 0.5) if sys.platform == "win32" else ()


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model file that was opened: its path, contract, fingerprints and digests.

    Attributes:
        path: where it lies.
        contract: what it promises.
        digest: sha256 of the whole file, hex.
        graph_digest: sha256 of the file without metadata, hex; the certificate is bound to it.
    """

    path: Path
    contract: Contract
    digest: str
    graph_digest: str
    fingerprints: Fingerprints


def read_model_file(path: Path | str) -> ModelFile:
    """What a model file promises, without loading its network.

    Raises:
        BadModelFile: missing, truncated, no ONNX, without a contract, or of a later format.
    """
    path = Path(path)
    properties: dict[str, str] = {}
    # In one pass: the two digests part where the first metadata stand, at the end of files of our own.
    whole, graph = hashlib.sha256(), None
    with _mapped(path) as view:
        for part in top_level(view, path):
            if part.number == METADATA_FIELD:
                graph = graph or whole.copy()
                key, value = entry(bytes(view[part.body : part.end]), path)
                properties[key] = value
            elif graph is not None:
                graph.update(view[part.start : part.end])
            whole.update(view[part.start : part.end])
    if CONTRACT_KEY not in properties:
        raise BadModelFile(
            f"{path}: an ONNX file without Blemish's contract; make one with blemish export or blemish import"
        )
    contract = _contract(properties[CONTRACT_KEY], path)
    prints = properties.get(FINGERPRINTS_KEY)
    fingerprints = Fingerprints.from_text(prints) if prints else Fingerprints.none()
    return ModelFile(path, contract, whole.hexdigest(), (graph or whole).hexdigest(), fingerprints)


def write_model_file(
    path: Path | str, graph: bytes, contract: Contract, fingerprints: Fingerprints | None = None
) -> ModelFile:
    """Write a graph with its contract, complete or not at all.

    Args:
        path: where to; an existing file is replaced only once the new one is safely on disk.
        graph: a serialised ONNX ModelProto; Blemish's own metadata in it are replaced.
        contract: what to promise.
        fingerprints: of the images it learned from.

    Raises:
        BadModelFile: `graph` is no ONNX model.
        StorageFull: it could not be written; an earlier file at `path` is intact.
    """
    path = Path(path)
    view = memoryview(graph)
    kept: list[bytes | memoryview] = [
        view[part.start : part.end]
        for part in top_level(view, Path("the graph"))
        if part.number != METADATA_FIELD
        or entry(graph[part.body : part.end], path)[0] not in (CONTRACT_KEY, FINGERPRINTS_KEY)
    ]
    if fingerprints is not None and fingerprints.pixel.size:
        kept.append(encode_entry(FINGERPRINTS_KEY, fingerprints.to_text()))
    # The contract stands last: a file that was cut short has none.
    kept.append(encode_entry(CONTRACT_KEY, contract.model_dump_json()))
    write_atomically(path, *kept)
    return read_model_file(path)


def read_graph(path: Path | str) -> bytes:
    """The bytes of a model file's graph, without any metadata.

    Raises:
        BadModelFile: missing, truncated or no ONNX.
    """
    path = Path(path)
    with _mapped(path) as view:
        return b"".join(view[p.start : p.end] for p in top_level(view, path) if p.number != METADATA_FIELD)


def graph_digest(graph: bytes) -> str:
    """SHA-256, hex, of a serialised ONNX model without its metadata; BadModelFile for other bytes."""
    digest, view = hashlib.sha256(), memoryview(graph)
    for part in top_level(view, Path("the graph")):
        if part.number != METADATA_FIELD:
            digest.update(view[part.start : part.end])
    return digest.hexdigest()


def write_atomically(path: Path, *parts: bytes | memoryview) -> None:
    """Write beside, sync, rename: whoever reads `path` sees the old file or the new one, never half of it.

    Args:
        path: its folder is made where it is missing.
        parts: written one after the other.

    Raises:
        StorageFull: it could not be written; what stood at `path` is intact.
    """
    # Named after the thread too: a service writes from several.
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(beside, path)
        _sync_folder(path.parent)
    except PermissionError as error:
        raise StorageFull(
            f"{path} could not be written ({error.strerror}); close what holds it open, check its"
            " permissions, or choose another folder"
        ) from error
    except OSError as error:
        raise StorageFull(
            f"{path} could not be written ({error.strerror}); free some space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):  # gone when all went well
            beside.unlink()


def _put_in_place(beside: Path, path: Path) -> None:
    """Rename a file onto another; on Windows a virus scanner or an indexer may hold either for a moment."""
    for seconds in PATIENCE_SECONDS:
        try:
            beside.replace(path)
        except PermissionError:
            time.sleep(seconds)
        else:
            return
    beside.replace(path)


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power cut; Windows and some drives cannot sync a folder, and need not."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _contract(text: str, path: Path) -> Contract:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadModelFile(f"{path}: the contract is damaged; export the model again") from error
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if type(version) is not int or version < 1:
        raise BadModelFile(f"{path}: the contract is damaged: it names no format; export the model again")
    if version > FORMAT_VERSION:
        raise BadModelFile(
            f"{path}: written by Blemish {raw.get('blemish_version')} in format {version}; "
            f"this one reads up to format {FORMAT_VERSION}: upgrade Blemish"
        )
    try:
        return Contract.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(x) for x in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise BadModelFile(f"{path}: the contract is damaged{place and f' at {place}'}: {reason}") from error


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    """The bytes of a file, read as they are looked at."""
    try:
        if path.is_dir():
            raise BadModelFile(f"{path}: this is a folder; did you mean {path / 'model.onnx'}?")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise BadModelFile(f"{path}: the file is empty")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except BadModelFile:  # a ValueError too
        raise
    except FileNotFoundError as error:
        raise BadModelFile(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte, a device that has no bytes
        reason = getattr(error, "strerror", None) or str(error)
        raise BadModelFile(f"{path}: cannot be read ({reason})") from error
    with mapped, memoryview(mapped) as view:
        yield view
