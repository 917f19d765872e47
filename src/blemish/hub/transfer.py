"""Fetch a model file from the Hub, or publish one."""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path
from typing import Any

from blemish.errors import BadInput, BadModelFile, NoNetwork
from blemish.hub.address import MLFLOW_SCHEME, SCHEME, HubAddress, is_address
from blemish.hub.card import model_card
from blemish.hub.client import endpoint_options, fetch_file, import_client, list_files, translate_errors
from blemish.hub.mlflow_registry import MlflowAddress, fetch
from blemish.model_file import read_model_file

DIGESTS = "SHA256SUMS"  # in the format of sha256sum
DEFAULT_FILE = "model.onnx"
CARD = "README.md"


def local_file(model: Path | str, *, explanation: bool = False) -> Path:
    """Return a model file on this machine; a file on the Hub is downloaded once.

    Args:
        model: a path, or an address on the Hub or in MLflow's registry.
        explanation: whether to fetch the explanation graph too, if the repository has one.

    Raises:
        BadInput: not an address, or the file, revision or repository does not exist; see `code`.
        BadModelFile: the file is damaged ("bad-model-file.wrong-digest").
        MissingExtra: the Hub's client is not installed.
        NoNetwork: the file is not in the cache, and the Hub cannot be reached.
        StorageFull: the file cannot be written to the cache.
    """
    if not is_address(model):
        return Path(model)
    if str(model).startswith(MLFLOW_SCHEME):
        return fetch(MlflowAddress.parse(str(model)))
    address = HubAddress.parse(str(model))
    offline = None
    try:
        files: frozenset[str] | None = list_files(address)
    except NoNetwork as error:  # the cache may have the file
        files, offline = None, error
    file = address.file or _default_file(address, files)
    path = fetch_file(address, file, files)
    if path is None and offline is not None:
        detail = str(offline).removeprefix(f"{address}: ")
        raise NoNetwork(f"{address}: not in the cache, and {detail}", reason="not-cached") from offline
    if path is None:
        raise BadInput(f"{address}: this repository has no file {file}", reason="missing-file")
    sums = fetch_file(address, DIGESTS, files)
    expected = _read_digests(sums) if sums is not None else {}
    _check_digest(path, expected.get(file), address)
    if explanation and file.endswith(".onnx"):
        explanation_file = Path(file).with_suffix(".explain.onnx").as_posix()
        graph = fetch_file(address, explanation_file, files)
        if graph is not None:
            _check_digest(graph, expected.get(explanation_file), address)
    return path


def push(file: Path, repository: str, *, private: bool = False, message: str = "") -> str:
    """Publish a model file, its explanation graph, their digests and a model card, in one commit.

    Args:
        file: a model file.
        repository: `user/name`; it is created if it does not exist.
        private: whether a new repository is private.
        message: of the commit.

    Returns:
        The web address of the repository.

    Raises:
        BadInput: the name of the repository is invalid ("bad-input.hub-address").
        BadModelFile: `file` is not a model file.
        MissingExtra: the Hub's client is not installed.
        NoNetwork: the Hub cannot be reached, or refuses.
    """
    model_file = read_model_file(file)
    address = HubAddress.parse(SCHEME + repository.removeprefix(SCHEME))
    if address.revision or address.file:
        raise BadInput(f"{repository}: expected user/name, without revision and file", reason="hub-address")
    client = import_client()
    explanation = file.with_suffix(".explain.onnx")
    files = {file.name: file, **({explanation.name: explanation} if explanation.is_file() else {})}
    with translate_errors(address), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the client's own libraries
        api = client.HfApi(**endpoint_options())
        url = api.create_repo(address.repository, private=private, exist_ok=True)
        # The repository may contain other model files, whose digests are kept.
        sums = fetch_file(address, DIGESTS, list_files(address))
        digests = _read_digests(sums) if sums is not None else {}
        digests |= {name: _sha256(path) for name, path in files.items()}
        contents: dict[str, Any] = {
            **files,
            DIGESTS: "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode(),
            CARD: model_card(model_file, address.repository).encode(),
        }
        api.create_commit(
            address.repository,
            [
                client.CommitOperationAdd(name, str(content) if isinstance(content, Path) else content)
                for name, content in contents.items()
            ],
            commit_message=message or f"Add {model_file.contract.name or file.name}",
        )
    return str(url)


def _default_file(address: HubAddress, files: frozenset[str] | None) -> str:
    """Return `model.onnx`, or the only model file of a repository without a file of that name."""
    models = sorted(n for n in files or () if n.endswith(".onnx") and not n.endswith(".explain.onnx"))
    if files is None or DEFAULT_FILE in models:
        return DEFAULT_FILE
    if len(models) != 1:
        got = f"got {', '.join(models)}; name one of them" if models else "got none"
        raise BadInput(
            f"{address}: expected a repository with one .onnx model file, {got}", reason="ambiguous-file"
        )
    return models[0]


def _read_digests(path: Path) -> dict[str, str]:
    lines = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return {parts[1].strip().lstrip("*"): parts[0].lower() for parts in lines if len(parts) == 2}


def _check_digest(path: Path, expected: str | None, address: HubAddress) -> None:
    """Compare a file with SHA256SUMS and with its name in the cache, which for large files is the digest."""
    blob = path.resolve().name
    digests = {d for d in (expected, blob if re.fullmatch(r"[0-9a-f]{64}", blob) else None) if d}
    if digests and digests != {_sha256(path)}:
        raise BadModelFile(
            f"{address}: the file is damaged: its SHA-256 is not the published one; delete {path.resolve()} "
            "and fetch it again",
            reason="wrong-digest",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
