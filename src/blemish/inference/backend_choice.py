"""Open the backend that a user names, or the fastest of those that a model file is certified for.

Which runtime is faster depends on the network and on the processor, so `auto` measures it: once for each
file, processor and number of threads, when a model file is opened. The user's cache keeps the result.
"""

from __future__ import annotations

import json
import logging
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from blemish.data.user_cache import cache_folder, load_json, save_json, short_digest
from blemish.errors import BadInput, BlemishError
from blemish.inference.backend import (
    AUTO,
    BACKENDS,
    CERTIFIED,
    DEFAULT_BACKEND,
    Backend,
    DeviceKind,
    SelectsPrecision,
    available_cores,
    certified_backend,
    weight_precision,
)
from blemish.inference.cpu import cpu_flags
from blemish.inference.latency import compare_backends
from blemish.model_file import ModelFile

LOG = logging.getLogger(__name__)
MEASURE_VARIABLE = "BLEMISH_AUTO_BACKEND"  # set to `certified`, `auto` measures nothing
RUNS = 7
MAX_SECONDS = 3.0  # of measuring; a slow network gets fewer runs
MIN_GAIN = 0.05  # a backend replaces that of the certificate if it takes this much less time


@dataclass(frozen=True)
class Candidate:
    """A backend and the precision of its arithmetic; its text is a value of an option `backend`."""

    name: str
    precision: str

    def __str__(self) -> str:
        return f"{self.name}:{self.precision}"


def open_backend(
    model_file: ModelFile,
    *,
    backend: str = AUTO,
    device: str = "auto",
    threads: int | None = None,
    spinning: bool = False,
) -> Backend:
    """Return a backend that runs the network of a model file.

    Args:
        model_file: the model file.
        backend: a registered name; `NAME:PRECISION`, such as `openvino:bf16`, to choose the precision of the
            arithmetic; `certified` for the backend of the certificate; or `auto` for the fastest backend
            whose certificate passed, see `choose`.
        device: see `blemish.inference.load`.
        threads: see `blemish.inference.load`.
        spinning: see `blemish.inference.load`.

    Raises:
        BadInput: this processor or backend does not compute in the precision ("bad-input.precision").
        BlemishError: see `blemish.inference.load`.
    """
    if backend not in (AUTO, CERTIFIED):
        return _open(model_file, backend, device, threads, spinning)
    name = certified_backend(model_file)
    if name not in BACKENDS or not BACKENDS.get(name).is_installed():
        name = DEFAULT_BACKEND
    first = _open(model_file, name, device, threads, spinning)
    if backend == CERTIFIED or first.device_kind is not DeviceKind.CPU:
        return first
    return _fastest(model_file, first, device, threads, spinning)


def certified_candidates(model_file: ModelFile) -> tuple[Candidate, ...]:
    """Return the installed backends and precisions whose certificate passed for this graph."""
    contract = model_file.contract
    found = []
    for certificate in (contract.certificate, *contract.other_certificates):
        if certificate is None or not certificate.passed:
            continue
        candidate = Candidate(certificate.backend.partition(" ")[0], certificate.precision)
        if certificate.graph_digest == model_file.graph_digest and candidate in installed_candidates(
            model_file
        ):
            found.append(candidate)
    return tuple(dict.fromkeys(found))


def installed_candidates(model_file: ModelFile) -> tuple[Candidate, ...]:
    """Return every installed backend, with each precision that it can compute a file in on this machine."""
    return tuple(
        Candidate(name, precision)
        for name, builder in BACKENDS.items()
        if builder.is_installed()
        for precision in (
            builder.precisions(model_file)
            if isinstance(builder, SelectsPrecision)
            else (weight_precision(model_file),)
        )
    )


def remembered_choice(model_file: ModelFile, threads: int | None = None) -> dict[str, float]:
    """Return the milliseconds by candidate that `auto` measured for a file on this machine; or nothing."""
    stored = load_json(_cache_name(model_file, threads))
    if not isinstance(stored, dict) or not all(isinstance(v, float) for v in stored.values()):
        return {}
    return stored


def _fastest(
    model_file: ModelFile, first: Backend, device: str, threads: int | None, spinning: bool
) -> Backend:
    """Return the fastest certified backend; `first`, that of the certificate, if nothing may be measured."""
    if (
        os.environ.get(MEASURE_VARIABLE) == CERTIFIED
        or cache_folder() is None
        or device not in ("auto", "cpu")
    ):
        return first
    own = Candidate(first.name.partition(" ")[0], first.precision)
    candidates = certified_candidates(model_file)
    if own not in candidates or len(candidates) < 2:
        return first
    opened = {str(own): first}
    times = remembered_choice(model_file, threads)
    if set(times) != {str(candidate) for candidate in candidates}:
        for candidate in candidates:
            if candidate != own:
                try:
                    opened[str(candidate)] = _open(model_file, str(candidate), device, threads, spinning)
                except BlemishError as error:
                    LOG.warning("%s is certified for %s, but: %s", model_file.path, candidate, error)
        if len(opened) < len(candidates):
            return first
        measured = compare_backends(opened, model_file.contract, runs=RUNS, max_seconds=MAX_SECONDS)
        times = {name: latency.wall_min * 1e3 for name, latency in measured.items()}
        save_json(_cache_name(model_file, threads), times)
        LOG.info("%s: measured %s", model_file.path, json.dumps(times))
    best = fastest_name(times, str(own))
    return opened.get(best) or _open(model_file, best, device, threads, spinning)


def fastest_name(times: dict[str, float], own: str) -> str:
    """Return the name with the shortest time, or `own` if that takes hardly longer.

    Example:
        >>> fastest_name({"a:fp32": 10.0, "b:fp32": 9.8}, "a:fp32")
        'a:fp32'
        >>> fastest_name({"a:fp32": 10.0, "b:fp32": 9.0}, "a:fp32")
        'b:fp32'
    """
    best = min(times, key=lambda name: times[name])
    return best if times[best] < (1 - MIN_GAIN) * times[own] else own


def _open(model_file: ModelFile, backend: str, device: str, threads: int | None, spinning: bool) -> Backend:
    name, colon, precision = backend.partition(":")
    builder = BACKENDS.get(name)
    if not colon:
        return builder.open(model_file, device=device, threads=threads, spinning=spinning)
    weights = weight_precision(model_file)
    known = builder.precisions(model_file) if isinstance(builder, SelectsPrecision) else (weights,)
    if precision not in known:
        raise BadInput(
            f"backend {backend!r}: {name} computes {model_file.path} on this processor in "
            f"{' or '.join(known)}, not in {precision or 'nothing'}",
            reason="precision",
        )
    if isinstance(builder, SelectsPrecision):
        return builder.open(
            model_file, device=device, threads=threads, spinning=spinning, precision=precision
        )
    return builder.open(model_file, device=device, threads=threads, spinning=spinning)


def _cache_name(model_file: ModelFile, threads: int | None) -> str:
    """Return a name for all that the times depend on: file, processor, threads and runtimes."""
    processor = (platform.machine(), platform.processor(), *sorted(cpu_flags()))
    versions = [_version(name) for name in BACKENDS.names()]
    key = short_digest(model_file.digest, threads or available_cores(), *processor, *versions)
    return f"backend-{key}.json"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
