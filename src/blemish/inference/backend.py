"""The protocol of whatever runs a network, and the registry of those that run model files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from blemish.model_file import ModelFile, ParityCertificate
from blemish.registry import Registry


class DeviceKind(StrEnum):
    """The kind of processor that runs a network."""

    CPU = "cpu"
    ACCELERATOR = "accelerator"  # GPU or NPU: needs several images per batch to be busy


class Backend(Protocol):
    """Runs a network on batches; may be called from several threads.

    Attributes:
        name: registered name, version and device, separated by spaces: `onnxruntime 1.31.1
            CPUExecutionProvider`. Certificates of model files store it.
        precision: precision of the arithmetic: `fp32`, `fp16`, `bf16`, `int8`.
        device_kind: decides the default batch size.
    """

    name: str
    precision: str
    device_kind: DeviceKind

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the network's outputs for a batch.

        Args:
            feeds: by input name, each (b, c, h, w) float32, contiguous.

        Returns:
            Arrays by output name; the first axis is the batch.

        Raises:
            BadModelFile: the runtime cannot run the network.
            NetworkTooSlow: the backend has a time limit, and the forward pass took longer. Not every runtime
                can be stopped: ONNX Runtime's backend has a limit, those of OpenVINO and torch have none.
        """
        ...


class BackendBuilder(Protocol):
    """Opens model files with one runtime. Importing the builder's module must not import the runtime."""

    def is_installed(self) -> bool:
        """Return whether the runtime can be imported, without importing it."""
        ...

    def open(self, model_file: ModelFile, *, device: str, threads: int | None, spinning: bool) -> Backend:
        """Return a backend that runs the network of a model file.

        Args:
            model_file: the model file; its certificate names the certified precision.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, or another name that the runtime knows.
            threads: for the network; None uses every core that this process may use.
            spinning: whether a waiting thread may keep its core busy.

        Raises:
            MissingExtra: the runtime is not installed.
            BadInput: the device does not exist.
            BadModelFile: the runtime cannot load the network.
        """
        ...


@runtime_checkable
class SelectsPrecision(Protocol):
    """A builder whose runtime can compute one file in several precisions."""

    def precisions(self, model_file: ModelFile) -> tuple[str, ...]:
        """Return the precisions that this processor can compute the file in, the file's own first."""
        ...

    def open(
        self,
        model_file: ModelFile,
        *,
        device: str,
        threads: int | None,
        spinning: bool,
        precision: str | None = None,
    ) -> Backend:
        """Return a backend as `BackendBuilder.open` does; None is the precision of the certificate."""
        ...


@runtime_checkable
class OpensGraphs(Protocol):
    """A builder that also runs graphs from memory, so that graphs can be quantized for its runtime.

    Attributes:
        joins_activations: whether the runtime computes an activation function such as SiLU in one step with
            the INT8 layer before it. Then only the inputs of layers are rounded; else their outputs too.
    """

    joins_activations: bool

    def open_graph(self, graph: bytes, *, precision: str) -> Backend:
        """Return a backend on the processor.

        Args:
            graph: a serialized ModelProto.
            precision: of its weights.
        """
        ...


BACKENDS: Registry[BackendBuilder] = Registry(
    "backends", noun="backend", builtin="blemish.inference.backends"
)
AUTO, CERTIFIED = "auto", "certified"
DEFAULT_BACKEND = "onnxruntime"  # in the base installation


def backend_names() -> tuple[str, ...]:
    """Return the values of an option `backend`: `auto`, `certified` and the registered names."""
    return (AUTO, CERTIFIED, *BACKENDS.names())


def weight_precision(model_file: ModelFile) -> str:
    """Return the precision of a file's weights: `fp32`, `fp16` or `int8`."""
    certificate = model_file.contract.certificate
    if certificate is None or certificate.precision == "bf16":
        return "fp32"
    return certificate.precision


def certificate_of(model_file: ModelFile, name: str, precision: str) -> ParityCertificate | None:
    """Return the certificate of a file for a backend and a precision, or None.

    Args:
        model_file: the file.
        name: name of the backend, of which the first word counts.
        precision: of the backend.
    """
    contract = model_file.contract
    for certificate in (contract.certificate, *contract.other_certificates):
        if (
            certificate is not None
            and certificate.backend.partition(" ")[0] == name.partition(" ")[0]
            and certificate.precision == precision
        ):
            return certificate
    return None


def certificate_warnings(model_file: ModelFile, backend: Backend) -> tuple[str, ...]:
    """Return reasons not to trust a model file with a backend, one sentence each."""
    certificate = model_file.contract.certificate
    if certificate is None:
        return ()
    warnings = []
    name, precision = backend.name.partition(" ")[0], backend.precision
    own = certificate_of(model_file, name, precision)
    if own is not None:
        certificate = own
    elif precision in ("int8", "bf16"):  # two runtimes need not agree, as they do in float32
        warnings.append(f"{model_file.path}: it is not certified for {name} in {precision}")
    if not certificate.passed:
        reasons = "; ".join(certificate.reasons) or "no reason recorded"
        warnings.append(f"{model_file.path}: its parity certificate did not pass ({reasons})")
    if certificate.graph_digest and certificate.graph_digest != model_file.graph_digest:
        warnings.append(f"{model_file.path}: its graph was changed after it was certified")
    return tuple(warnings)


def certified_backend(model_file: ModelFile) -> str:
    """Return the registered name of the backend with which a model file was certified, or ""."""
    certificate = model_file.contract.certificate
    return certificate.backend.partition(" ")[0] if certificate is not None and certificate.passed else ""


def available_cores() -> int:
    """Return how many processors this process may use.

    Its affinity and the quota of its container can be below the number of processors of the machine.

    Runtimes count the processors of the machine only: in a container of 2 cores on a machine of 64 they
    start 64 threads, which is several times slower than 2.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _container_quota(Path("/sys/fs/cgroup"))
    return max(1, cores if quota is None else min(cores, round(quota)))


def numpy_feeds(feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return `feeds` as float32 and contiguous, without a copy if they already are."""
    return {name: np.ascontiguousarray(array, np.float32) for name, array in feeds.items()}


def _container_quota(root: Path) -> float | None:
    """Return the processors that the control group (version 2, then 1) allows; None without a limit."""
    try:
        limit, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (root / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        return float(limit) / float(period) if float(limit) > 0 and float(period) > 0 else None
    except ValueError:  # "max"
        return None
