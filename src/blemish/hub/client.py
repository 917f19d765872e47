"""The Hub's client: list and fetch files, and turn its errors into Blemish's."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

from blemish.errors import BadInput, BlemishError, MissingExtra, NoNetwork, StorageFull
from blemish.hub.address import HubAddress

TIMEOUT_SECONDS = 10
_REMEDIES = {  # by HTTP status
    401: "log in with hf auth login, or set HF_TOKEN",
    403: "check the rights of your token",
    429: "too many requests; wait before the next one",
}


def import_client() -> Any:
    """Return the module `huggingface_hub`.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra("hub", "the Hugging Face Hub") from error
    return huggingface_hub


def endpoint_options() -> dict[str, Any]:
    """Return the keyword `endpoint` from the environment; the client itself reads it only when imported."""
    return {"endpoint": os.environ.get("HF_ENDPOINT") or None}


def list_files(address: HubAddress) -> frozenset[str]:
    """Return the files of a repository.

    Raises:
        NoNetwork: the Hub cannot be reached, or refuses.
    """
    client = import_client()
    with translate_errors(address):
        api = client.HfApi(**endpoint_options())
        # One request without retries: list_repo_files waits 24 seconds for a Hub that cannot be reached.
        info = api.model_info(address.repository, revision=address.revision, timeout=TIMEOUT_SECONDS)
    return frozenset(sibling.rfilename for sibling in info.siblings or ())


def fetch_file(address: HubAddress, file: str, files: frozenset[str] | None) -> Path | None:
    """Return the local copy of a repository's file; it is downloaded once.

    Args:
        address: of the repository.
        file: path within the repository.
        files: the files of the repository; None if the Hub cannot be reached, and then only the cache is
            used.

    Returns:
        The path, or None if the file does not exist or is not in the cache.
    """
    if files is not None and file not in files:
        return None
    client = import_client()
    with translate_errors(address):
        try:
            path = client.hf_hub_download(
                address.repository,
                file,
                revision=address.revision,
                cache_dir=os.environ.get("HF_HUB_CACHE") or None,
                local_files_only=files is None,
                **endpoint_options(),
            )
        except client.errors.LocalEntryNotFoundError:
            if files is None:
                return None
            raise
    return Path(path)


class translate_errors:  # noqa: N801  (used as a function)
    """A context in which the client's errors become Blemish's, with one sentence each."""

    def __init__(self, address: HubAddress) -> None:
        self.address = address

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or isinstance(error, BlemishError) or not isinstance(error, Exception):
            return
        translated = self._translate(error)
        if translated is not None:
            raise translated from error

    def _translate(self, error: Exception) -> BlemishError | None:
        errors: Any = import_client().errors
        if isinstance(error, errors.RevisionNotFoundError):
            return BadInput(
                f"{self.address}: this repository has no revision {self.address.revision}",
                reason="missing-revision",
            )
        if isinstance(error, errors.RepositoryNotFoundError):
            return BadInput(
                f"{self.address}: this repository does not exist or is private; log in with hf auth login",
                reason="missing-repository",
            )
        if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
            return NoNetwork(
                f"{self.address}: not in the cache, and the Hub cannot be reached", reason="not-cached"
            )
        if isinstance(error, errors.HfHubHTTPError):
            response: Any = getattr(error, "response", None)
            status = int(getattr(response, "status_code", 0))
            remedy = _REMEDIES.get(status, "try again later")
            return NoNetwork(f"{self.address}: the Hub refused ({status}); {remedy}", reason="refused")
        if isinstance(error, RuntimeError) and "upload" in str(error):  # the client has no class for it
            return NoNetwork(
                f"{self.address}: the upload was interrupted ({error.__cause__}); try again",
                reason="interrupted-upload",
            )
        if isinstance(error, OSError) and error.filename is not None:
            return StorageFull(
                f"{error.filename} could not be written ({error.strerror}); free disk space, or choose "
                "another folder with HF_HUB_CACHE"
            )
        if isinstance(error, ValueError | KeyError):
            return BadInput(
                f"{self.address}: the Hub's client refuses this address ({error}); check it",
                reason="hub-address",
            )
        if isinstance(error, OSError) or type(error).__module__.startswith("http"):
            return NoNetwork(f"{self.address}: the Hub cannot be reached ({error})", reason="unreachable")
        return None
