"""Read and write model files."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from blemish.errors import BadModelFile
from blemish.model_file.atomic_write import write_atomically as write_atomically
from blemish.model_file.atomic_write import write_parts_atomically as write_parts_atomically
from blemish.model_file.contract import FORMAT_VERSION, Contract
from blemish.model_file.contract_limits import ContractFault, check_contract, parse_contract
from blemish.model_file.fingerprints import Fingerprints
from blemish.model_file.format_1 import upgrade
from blemish.model_file.graph_limits import check_external_data, check_outputs
from blemish.model_file.protobuf import METADATA_FIELD, encode_entry, read_entry, read_top_level

CONTRACT_KEY = "blemish"
MAX_METADATA_BYTES = 256_000_000  # of one entry; the fingerprints of four million images need as much
MAX_MESSAGE = 500  # characters of a file's own text in an error
FINGERPRINTS_KEY = "blemish.fingerprints"
CHECKSUM_KEY = "blemish.sha256"
_OWN_KEYS = (CONTRACT_KEY, FINGERPRINTS_KEY, CHECKSUM_KEY)


@dataclass(frozen=True, eq=False)
class ModelFile:
    """The content of a model file without its graph.

    Attributes:
        path: the file.
        contract: everything that must be known to use the network.
        digest: SHA-256 of the file, hexadecimal.
        graph_digest: SHA-256 of the file without metadata, hexadecimal; the certificate names it.
        fingerprints: of the training images; of none if the file contains no fingerprints.
    """

    path: Path
    contract: Contract
    digest: str
    graph_digest: str
    fingerprints: Fingerprints


def read_model_file(path: Path | str) -> ModelFile:
    """Return the contract, fingerprints and digests of a model file, without loading its network.

    Raises:
        BadModelFile: the file is missing, truncated, not ONNX, has no contract, has a damaged contract, was
            written in a later format, or differs from what was written; `code` distinguishes these.
    """
    path = Path(path)
    properties: dict[str, str] = {}
    # One pass for both digests: they differ from the first metadata on, which Blemish writes last.
    whole, graph = hashlib.sha256(), None
    with _mapped(path) as view:
        fields = read_top_level(view, path)
        check_external_data(view, fields, path)
        for field in fields:
            if field.number == METADATA_FIELD:
                if field.end - field.body > MAX_METADATA_BYTES:
                    raise BadModelFile(
                        f"{path}: an entry of the metadata has {field.end - field.body:,} bytes, more than "
                        f"{MAX_METADATA_BYTES:,}. Export the model again.",
                        reason="metadata-size",
                    )
                graph = graph or whole.copy()
                key, value = read_entry(bytes(view[field.body : field.end]), path)
                properties[key] = value
            elif graph is not None:
                graph.update(view[field.start : field.end])
            whole.update(view[field.start : field.end])
        if CONTRACT_KEY not in properties:
            raise BadModelFile(
                f"{path}: this ONNX file has no contract; make a model file with blemish train or blemish "
                "import",
                reason="no-contract",
            )
        contract = _parse_contract(properties[CONTRACT_KEY], path)
        check_outputs(view, fields, contract, path)
    text = properties.get(FINGERPRINTS_KEY, "")
    digest_of_graph = (graph or whole).hexdigest()
    _check_sum(path, contract, digest_of_graph, properties.get(CHECKSUM_KEY), properties[CONTRACT_KEY], text)
    return ModelFile(path, contract, whole.hexdigest(), digest_of_graph, Fingerprints.from_text(text))


def write_model_file(
    path: Path | str, graph: bytes, contract: Contract, fingerprints: Fingerprints | None = None
) -> ModelFile:
    """Write a graph with its contract, completely or not at all.

    Args:
        path: an existing file is replaced after the new one is safely on disk.
        graph: a serialized ONNX ModelProto; Blemish's own metadata in it are replaced, others are kept.
        contract: for the graph.
        fingerprints: of the training images.

    Raises:
        BadModelFile: `graph` is not an ONNX model.
        StorageFull: the file could not be written; an earlier file at `path` is intact.
    """
    path = Path(path)
    view = memoryview(graph)
    parts: list[bytes | memoryview] = [
        view[field.start : field.end]
        for field in read_top_level(view, Path("the graph"))
        if field.number != METADATA_FIELD
        or read_entry(graph[field.body : field.end], path)[0] not in _OWN_KEYS
    ]
    fingerprints_text = ""
    if fingerprints is not None and fingerprints.pixel.size:
        fingerprints_text = fingerprints.to_text()
        parts.append(encode_entry(FINGERPRINTS_KEY, fingerprints_text))
    # The contract is last, so that a truncated file has none.
    text = contract.model_dump_json()
    _parse_contract(text, path)  # nothing is written that could not be read
    checksum = _checksum(graph_digest(graph), text, fingerprints_text)
    parts.append(encode_entry(CHECKSUM_KEY, checksum))
    parts.append(encode_entry(CONTRACT_KEY, text))
    write_atomically(path, *parts)
    return read_model_file(path)


def explanation_path(model: Path) -> Path:
    """Return the path of a model file's explanation graph: `model.onnx` -> `model.explain.onnx`."""
    return model.with_suffix(".explain.onnx")


def read_graph(path: Path | str) -> bytes:
    """Return the serialized graph of a model file, without metadata.

    Raises:
        BadModelFile: the file is missing, truncated or not ONNX.
    """
    path = Path(path)
    with _mapped(path) as view:
        fields = read_top_level(view, path)
        return b"".join(view[f.start : f.end] for f in fields if f.number != METADATA_FIELD)


def graph_digest(graph: bytes) -> str:
    """Return the hexadecimal SHA-256 of a serialized ONNX model without its metadata.

    Raises:
        BadModelFile: `graph` is not an ONNX model.
    """
    digest, view = hashlib.sha256(), memoryview(graph)
    for field in read_top_level(view, Path("the graph")):
        if field.number != METADATA_FIELD:
            digest.update(view[field.start : field.end])
    return digest.hexdigest()


def _checksum(digest_of_graph: str, contract: str, fingerprints: str) -> str:
    """Return the SHA-256 of everything that Blemish reads from a file, in whatever order it is stored."""
    content = "\n".join((digest_of_graph, fingerprints, contract))
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def _check_sum(
    path: Path, contract: Contract, digest_of_graph: str, stored: str | None, text: str, fingerprints: str
) -> None:
    """Raise `BadModelFile` if a file differs from what was written, by as little as one bit of a weight.

    A file of an earlier version has no checksum; its certificate contains the digest of its graph.
    """
    if stored is not None:
        is_intact = stored == _checksum(digest_of_graph, text, fingerprints)
    else:
        certified = contract.certificate.graph_digest if contract.certificate is not None else ""
        is_intact = certified in ("", digest_of_graph)
    if not is_intact:
        raise BadModelFile(
            f"{path}: the file is damaged or was changed after it was written: its checksum differs. Copy it "
            "again from where it came from, or export it again.",
            reason="wrong-checksum",
        )


def _parse_contract(text: str, path: Path) -> Contract:
    try:
        raw = parse_contract(text)
    except ContractFault as error:
        raise _damaged(path, str(error), error.reason) from error
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if type(version) is not int or version < 1:
        raise _damaged(path, "format_version: expected a number of at least 1")
    if version > FORMAT_VERSION:
        raise BadModelFile(
            f"{path}: written by Blemish {raw.get('blemish_version')} in format {version}, and this version "
            f"reads up to format {FORMAT_VERSION}. Upgrade Blemish.",
            reason="later-format",
        )
    try:
        current = {**(upgrade(raw) if version == 1 else raw), "format_version": FORMAT_VERSION}
        contract = Contract.model_validate(current)
        check_contract(contract)
    except ContractFault as error:
        raise _damaged(path, str(error), error.reason) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(x) for x in first["loc"])[:MAX_MESSAGE]
        message = first["msg"].removeprefix("Value error, ")[:MAX_MESSAGE]
        raise _damaged(path, f"{place}: {message}" if place else message) from error
    return contract


def _damaged(path: Path, detail: str, reason: str = "damaged-contract") -> BadModelFile:
    return BadModelFile(f"{path}: the contract is damaged: {detail}. Export the model again.", reason=reason)


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    """Give the bytes of a file, mapped into memory."""
    try:
        if path.is_dir():
            raise BadModelFile(
                f"{path}: expected a model file, got a folder; did you mean {path / 'model.onnx'}?",
                reason="folder",
            )
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise BadModelFile(f"{path}: the file is empty", reason="empty")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except BadModelFile:  # it is a ValueError too
        raise
    except FileNotFoundError as error:
        raise BadModelFile(f"{path}: this file does not exist", reason="missing-file") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte, a device without bytes
        detail = getattr(error, "strerror", None) or str(error)
        raise BadModelFile(f"{path}: cannot be read ({detail})", reason="unreadable") from error
    with mapped, memoryview(mapped) as view:
        yield view
