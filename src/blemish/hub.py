"""Model files from and to the Hugging Face Hub, by its own client.

`hf://user/name`, `hf://user/name@revision` and `hf://user/name@revision/file.onnx` stand wherever a model
file is taken. What was fetched once is kept in the client's cache and works offline. `HF_ENDPOINT`,
`HF_TOKEN` and `HF_HUB_CACHE` mean what they mean to the client.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.errors import BadInput, BadModelFile, BlemishError, MissingExtra, NoNetwork, StorageFull
from blemish.model_file import Contract, ModelFile, read_model_file
from blemish.model_file.metric_summary import describe_split_counts, summarize_metrics

SCHEME = "hf://"
DIGESTS = "SHA256SUMS"  # as sha256sum writes and checks it
SUFFIXES = (".onnx", ".safetensors")
DEFAULT_FILE = "model.onnx"
CARD = "README.md"
ANSWER_SECONDS = 10
MAX_METRICS = 6  # of each split, on the card
_WHAT_TO_DO = {
    401: "log in with hf auth login, or set HF_TOKEN",
    403: "check your token's rights",
    429: "it was asked too often; wait a while",
}


@dataclass(frozen=True)
class HubAddress:
    """Where a model file lies on the Hub.

    Attributes:
        repository: `user/name`.
        revision: a branch, a tag or a commit; None for the repository's main branch.
        file: within the repository; None for `model.onnx`, or the only model file there.
    """

    repository: str
    revision: str | None = None
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """The parts of `hf://user/name[@revision][/file]`.

        Raises:
            BadInput: it is none, or names a file of a format that is not read.

        Example:
            >>> HubAddress.parse("hf://ada/cells@v2/model-fp16.onnx")
            Address(repository='ada/cells', revision='v2', file='model-fp16.onnx')
        """
        form = r"hf://([\w.-]+/[\w.-]+)(?:@([^/@\s]+))?(?:/([\w./ -]+))?"
        match = re.fullmatch(form, text.rstrip("/"))
        if match is None or {".", ".."} & set(text.removeprefix(SCHEME).split("/")):
            raise BadInput(
                f"{text}: write hf://user/name, hf://user/name@revision or hf://user/name@revision/file"
            )
        repository, revision, file = match.groups()
        if file is not None and Path(file).suffix.lower() not in SUFFIXES:
            raise BadInput(
                f"{text}: only {' and '.join(SUFFIXES)} files are taken from the Hub, because other "
                "formats can run foreign code when they are read"
            )
        return cls(repository, revision, file)

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{SCHEME}{self.repository}{revision}" + (f"/{self.file}" if self.file else "")


def is_address(model: Path | str) -> bool:
    """Whether `model` is to be fetched from the Hub."""
    return isinstance(model, str) and model.startswith(SCHEME)


def local_file(model: Path | str, *, explanation: bool = False) -> Path:
    """The file on this machine: `model` itself, or what its `hf://` address stands for, fetched once.

    Args:
        model: a path or an address.
        explanation: whether the explanation graph is fetched too, where there is one.

    Raises:
        BadInput: an address that cannot be, or nothing there.
        BadModelFile: what arrived is not what was sent.
        MissingExtra: the Hub's client is not installed.
        NoNetwork: it is not on this machine yet and cannot be fetched.
        StorageFull: it cannot be kept here.
    """
    if not is_address(model):
        return Path(model)
    address = HubAddress.parse(str(model))
    away = None
    try:
        names: frozenset[str] | None = _names(address)
    except NoNetwork as error:  # the cache must do
        names, away = None, error
    file = address.file or _only_model(address, names)
    path = _fetch(address, file, names)
    if path is None and away is not None:
        reason = str(away).removeprefix(f"{address}: ")
        raise NoNetwork(f"{address}: not on this machine yet, and {reason}") from away
    if path is None:
        raise BadInput(f"{address}: there is no {file} in this repository")
    sums = _fetch(address, DIGESTS, names)
    expected = _read_digests(sums) if sums is not None else {}
    _check(path, expected.get(file), address)
    if explanation and file.endswith(".onnx"):
        beside = Path(file).with_suffix(".explain.onnx").as_posix()
        graph = _fetch(address, beside, names)
        if graph is not None:
            _check(graph, expected.get(beside), address)
    return path


def push(file: Path, repository: str, *, private: bool = False, message: str = "") -> str:
    """Put a model file, its explanation graph, its digests and a model card on the Hub, in one commit.

    Args:
        file: a model file with its contract.
        repository: `user/name`; made where it is missing.
        private: whether a new repository is.
        message: of the commit.

    Returns:
        The repository's address for people.

    Raises:
        BadInput: the repository's name cannot be.
        BadModelFile: `file` is no model file.
        MissingExtra: the Hub's client is not installed.
        NoNetwork: the Hub cannot be reached, or does not let us.
    """
    made = read_model_file(file)
    address = HubAddress.parse(SCHEME + repository.removeprefix(SCHEME))
    if address.revision or address.file:
        raise BadInput(f"{repository}: push to user/name, without revision and file")
    client = _client()
    beside = file.with_suffix(".explain.onnx")
    files = {file.name: file, **({beside.name: beside} if beside.is_file() else {})}
    with _translated(address), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the client's own, of its own libraries
        api = client.HfApi(**_endpoint())
        url = api.create_repo(address.repository, private=private, exist_ok=True)
        before = _fetch(address, DIGESTS, _names(address))  # of other files that lie there already
        digests = _read_digests(before) if before is not None else {}
        digests |= {name: _sha256(path) for name, path in files.items()}
        contents: dict[str, Any] = {
            **files,
            DIGESTS: "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode(),
            CARD: model_card(made, address.repository).encode(),
        }
        api.create_commit(
            address.repository,
            [
                client.CommitOperationAdd(name, str(content) if isinstance(content, Path) else content)
                for name, content in contents.items()
            ],
            commit_message=message or f"Add {made.contract.name or file.name}",
        )
    return str(url)


def model_card(made: ModelFile, repository: str) -> str:
    """The card that the Hub shows, written from the contract: use, data, figures, limits, licenses."""
    return "\n".join((*_front_matter(made.contract), *_body(made, repository))) + "\n"


def _front_matter(contract: Contract) -> Iterator[str]:
    yield from (
        "---",
        "library_name: blemish",
        f"pipeline_tag: {contract.task.fields.hub_tag}",
        "license: other",  # weights, data and code have one each; the card's end names them
        "tags: [blemish, onnx, damage-detection, defect-detection]",
        "---",
    )


def _body(made: ModelFile, repository: str) -> Iterator[str]:
    contract = made.contract
    address = f"{SCHEME}{repository}/{made.path.name}"
    yield f"# {contract.name or repository}"
    yield f"\nA {contract.task} model ({contract.architecture}) for damage and defects in images.\n"
    yield "## What it answers\n"
    yield from _answers(contract)
    yield "\n## How to run it\n"
    yield f"```\npip install 'blemish[hub]'\nblemish predict photo.jpg --model {address}"
    yield f"blemish explain photo.jpg --model {address} --output maps/\n```"
    yield "\nIt needs no PyTorch, downloads once and then works offline. Any ONNX runtime loads the file too."
    yield "\n## Data\n"
    yield _data(contract)
    yield "\n## Figures\n"
    yield from _figures(contract)
    yield "\n## Limits\n"
    yield (
        "It knows images like those it learned from. Other cameras, other surfaces and other damage can "
        "mislead it without a warning; measure it on images of your own with `blemish evaluate` before "
        "you rely on it. It is no substitute for an inspection where safety depends on the answer."
    )
    yield "\n## Licenses\n"
    licenses = contract.licenses
    yield f"- Weights: {licenses.weights or 'not stated'}"
    yield f"- Data: {licenses.data or 'not stated'}"
    yield f"- Code: {licenses.code}"
    yield f"\n`{made.path.name}` has the SHA-256 `{made.digest}`."


def _answers(contract: Contract) -> Iterator[str]:
    """Each label and when it counts as found, and what the network takes."""
    if contract.labels:
        counts = contract.task.fields.decision_rule
        yield "| label | title | found from |\n|---|---|---|"
        for label, threshold in zip(contract.labels, contract.threshold_array(), strict=True):
            named = (_cell(text) for text in (label.name, label.display_name))
            yield f"| {' | '.join(named)} | {counts or f'{threshold:.3f}'} |"
        yield ""
    for spec in contract.inputs:
        height, width = spec.size_hw
        yield f"Input `{spec.name}`: {height} x {width} pixels, {spec.resize}; images may have any size."


def _cell(text: str) -> str:
    """Text of a table's cell: what would end the cell or the row is kept from doing so."""
    return " ".join(text.split()).replace("|", "\\|")


def _data(contract: Contract) -> str:
    name, counts = contract.data.get("name"), describe_split_counts(contract)
    group = (contract.data.get("split") or {}).get("group_by")
    kept = f"; kept on one side: {group}" if group else ""
    return (": ".join(part for part in (name, counts) if part) or "Not stated") + kept + "."


def _figures(contract: Contract) -> Iterator[str]:
    shown = list(summarize_metrics(contract, MAX_METRICS))
    if not shown:
        yield "Not stated.\n"
    else:
        yield "| on | figure | value | 95 % interval |\n|---|---|---|---|"
    for found in shown:
        tuned = " (thresholds chosen on it)" if found.tuned else ""
        for figure in found.metrics:
            interval = f"{figure.low:.3f} to {figure.high:.3f} " if figure.low is not None else ""
            yield f"| {found.split}{tuned} | {figure.name} | {figure.value:.3f} | {interval}|"
    if any(found.tuned for found in shown):
        yield "\nImages that thresholds were chosen on flatter the figures; trust those of a test set."
    proof = contract.certificate
    if proof is None:
        yield "\nNobody proved that the file decides as the network it came from."
    else:
        yield (
            f"\nCertificate: {'passed' if proof.passed else 'FAILED'}; {proof.decisions_changed} verdicts "
            f"changed on {proof.images} images, largest difference {proof.max_difference:.2g} "
            f"({proof.backend}, {proof.precision})."
        )


def _client() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra("hub", "the Hugging Face Hub") from error
    return huggingface_hub


def _endpoint() -> dict[str, Any]:
    """Where the Hub is; read at each call, as the client reads it only when it is imported."""
    return {"endpoint": os.environ.get("HF_ENDPOINT") or None}


def _names(address: HubAddress) -> frozenset[str]:
    """The files of a repository; NoNetwork where the Hub does not say."""
    client = _client()
    with _translated(address):
        api = client.HfApi(**_endpoint())
        # One question without retries: list_repo_files would wait 24 s for a Hub that is not there.
        info = api.model_info(address.repository, revision=address.revision, timeout=ANSWER_SECONDS)
    return frozenset(sibling.rfilename for sibling in info.siblings or ())


def _only_model(address: HubAddress, names: frozenset[str] | None) -> str:
    """`model.onnx`, or the one model file of a repository that has none of that name."""
    models = sorted(n for n in names or () if n.endswith(".onnx") and not n.endswith(".explain.onnx"))
    if names is None or DEFAULT_FILE in models:
        return DEFAULT_FILE
    if len(models) != 1:
        several = f"several model files: {', '.join(models)}; name one" if models else "no .onnx model file"
        raise BadInput(f"{address}: this repository holds {several}")
    return models[0]


def _fetch(address: HubAddress, file: str, names: frozenset[str] | None) -> Path | None:
    """A file of a repository, from the Hub or, where that cannot be reached, the cache; None if not there."""
    if names is not None and file not in names:
        return None
    client = _client()
    with _translated(address):
        try:
            path = client.hf_hub_download(
                address.repository,
                file,
                revision=address.revision,
                cache_dir=os.environ.get("HF_HUB_CACHE") or None,
                local_files_only=names is None,
                **_endpoint(),
            )
        except client.errors.LocalEntryNotFoundError:
            if names is None:
                return None
            raise
    return Path(path)


class _translated:  # noqa: N801  (used as a function)
    """The client's errors as ours, in one sentence."""

    def __init__(self, address: HubAddress) -> None:
        self.address = address

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, BlemishError) or not isinstance(error, Exception):
            return
        errors = _client().errors
        known: Any = error
        if isinstance(error, errors.RevisionNotFoundError):
            raise BadInput(f"{self.address}: there is no revision {self.address.revision}") from error
        if isinstance(error, errors.RepositoryNotFoundError):
            raise BadInput(
                f"{self.address}: no such repository, or a private one; log in with hf auth login"
            ) from error
        if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
            raise NoNetwork(f"{self.address}: not on this machine, and the Hub cannot be reached") from error
        if isinstance(error, errors.HfHubHTTPError):
            status = getattr(getattr(known, "response", None), "status_code", 0)
            do = _WHAT_TO_DO.get(int(status), "try again later")
            raise NoNetwork(f"{self.address}: the Hub refused ({status}); {do}") from error
        if isinstance(error, RuntimeError) and "upload" in str(error):
            raise NoNetwork(f"{self.address}: the upload broke off ({error.__cause__}); try again") from error
        if isinstance(error, OSError) and error.filename is not None:
            raise StorageFull(
                f"{error.filename} could not be written ({error.strerror}); free some space, or choose "
                "another folder with HF_HUB_CACHE"
            ) from error
        if isinstance(error, ValueError | KeyError):  # a name or an answer that its client does not take
            raise BadInput(
                f"{self.address}: the Hub's client refuses ({error}); check the address"
            ) from error
        if isinstance(error, OSError) or type(error).__module__.startswith("http"):
            raise NoNetwork(f"{self.address}: the Hub cannot be reached ({error})") from error


def _read_digests(path: Path) -> dict[str, str]:
    lines = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return {parts[1].strip().lstrip("*"): parts[0].lower() for parts in lines if len(parts) == 2}


def _check(path: Path, expected: str | None, address: HubAddress) -> None:
    """The Hub's own cache names large files by their digest; SHA256SUMS says it for all."""
    blob = path.resolve().name
    wanted = {d for d in (expected, blob if re.fullmatch(r"[0-9a-f]{64}", blob) else None) if d}
    if wanted and wanted != {_sha256(path)}:
        raise BadModelFile(
            f"{address}: what arrived is not what was sent (its SHA-256 differs); "
            f"delete {path.resolve()} and fetch it again"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
