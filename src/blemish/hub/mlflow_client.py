"""MLflow's client: its address, and its errors as Blemish's."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from blemish.errors import BadInput, BlemishError, MissingExtra, NoNetwork

DEFAULT_STORE = "sqlite:///mlflow.db"  # MLflow's own default, in the working directory
_DEFAULTS = {  # of MLflow's variables; a value that the user has set is kept
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # its own 7 take minutes
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # else a new database writes to the screen
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_REMEDIES = {  # by HTTP status
    401: "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    403: "check the rights of your account",
    404: "check that MLFLOW_TRACKING_URI is the address of an MLflow server",
}


def import_mlflow(purpose: str) -> Any:
    """Return the module `mlflow`; it retries a server that does not answer twice, unless the user chose.

    Args:
        purpose: what needs it, for the error.

    Raises:
        MissingExtra: it is not installed.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        return import_module("mlflow")
    except ImportError as error:
        raise MissingExtra("mlflow", purpose) from error


def tracking_address(address: str | None = None) -> str:
    """Return the address of the tracking store, with an absolute path if it is a file.

    Args:
        address: as the user gave it; None for `MLFLOW_TRACKING_URI`, or `sqlite:///mlflow.db` without it.

    Example:
        >>> tracking_address("https://mlflow.example.org")
        'https://mlflow.example.org'
    """
    chosen = address or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
    for scheme, prefix in (("sqlite:///", ""), ("file:", "//")):
        path = chosen.removeprefix(scheme)
        if path not in (chosen, "") and not path.startswith(("/", ":memory:")):
            return f"{scheme}{prefix}{Path(path).resolve().as_posix()}"
    return chosen


@contextmanager
def translate_mlflow_errors(what: str) -> Iterator[None]:
    """Turn MLflow's errors into Blemish's, with one sentence each.

    Args:
        what: what was asked for, at the beginning of the message.

    Raises:
        NoNetwork: the server cannot be reached ("no-network.unreachable") or refuses ("no-network.refused").
        BadInput: a run, model or version does not exist ("bad-input.mlflow-missing"), or MLflow refuses a
            value ("bad-input.mlflow-refused").
    """
    try:
        yield
    except Exception as error:
        translated = None if isinstance(error, BlemishError) else _translate(error, what)
        if translated is None:
            raise
        raise translated from error


def _translate(error: Exception, what: str) -> BlemishError | None:
    if type(error).__module__.partition(".")[0] != "mlflow":
        return None
    failure: Any = error
    detail = " ".join(str(error).split())
    code = str(getattr(error, "error_code", ""))
    if "failed with exception" in detail or "valid JSON" in detail:
        return NoNetwork(
            f"{what}: the MLflow server at {tracking_address()} cannot be reached. Start it, or set "
            f"MLFLOW_TRACKING_URI ({detail[:160]})",
            reason="unreachable",
        )
    if code == "RESOURCE_DOES_NOT_EXIST" or detail.endswith("not found."):
        return BadInput(f"{what}: {detail[:200]}. Check the name", reason="mlflow-missing")
    status = int(failure.get_http_status_code()) if hasattr(failure, "get_http_status_code") else 0
    if "failed with error code" in detail or status in (401, 403):
        remedy = _REMEDIES.get(status, "try again later")
        return NoNetwork(f"{what}: the MLflow server refused ({status}); {remedy}", reason="refused")
    return BadInput(f"{what}: MLflow refused: {detail[:300]}", reason="mlflow-refused")


@contextmanager
def mlflow_calls(what: str) -> Iterator[None]:
    """A context for calls of MLflow: its errors are translated, and warnings of its libraries are not shown.

    Args:
        what: what was asked for, at the beginning of the message.
    """
    with warnings.catch_warnings(), translate_mlflow_errors(what):
        warnings.simplefilter("ignore")
        yield
