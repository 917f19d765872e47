"""Model files at work, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from blemish.errors import UnknownName
from blemish.imaging import LIMITS, Limits
from blemish.inference.predictor import PredictionResult, Predictor, PreparedInput, Timing
from blemish.model_file import ModelFile, read_model_file

if TYPE_CHECKING:
    from blemish.inference.backend import Backend

__all__ = ["BACKENDS", "PredictionResult", "Predictor", "PreparedInput", "Timing", "load", "open_backend"]

BACKENDS = ("auto", "onnxruntime", "openvino")


def load(
    path: Path | str | ModelFile,
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    spinning: bool = False,
    limits: Limits = LIMITS,
) -> Predictor:
    """A predictor for a model file.

    Args:
        path: the file, one that `read_model_file` opened, or its address on a hub: `hf://user/name`.
        backend: `onnxruntime`, `openvino`, or `auto`: what the file was certified with where that is
            installed, else ONNX Runtime.
        device: `auto`, `cpu`, `cuda`, `cuda:1`; for OpenVINO its own names too.
        threads: for the network; every core this process may use where not given.
        spinning: whether ONNX Runtime's waiting threads keep their cores busy; see its backend.
        limits: what images are refused.

    Raises:
        BadModelFile: no model file, a damaged one, or one that the backend cannot run.
        BadInput: a device that is not there.
        MissingExtra: the backend is not installed.
        UnknownName: no backend has that name.
    """
    if isinstance(path, str) and path.startswith("hf://"):
        from blemish.hub import local_file

        path = local_file(path)
    model_file = path if isinstance(path, ModelFile) else read_model_file(path)
    opened = open_backend(model_file, backend=backend, device=device, threads=threads, spinning=spinning)
    return Predictor(opened, model_file, limits=limits)


def open_backend(
    model_file: ModelFile,
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    spinning: bool = False,
) -> Backend:
    """What runs a model file's network; see `load`."""
    if backend not in BACKENDS:
        raise UnknownName("backend", backend, BACKENDS)
    certificate = model_file.contract.certificate
    certified = certificate.backend if certificate is not None and certificate.passed else ""
    if backend == "auto":
        backend = (
            "openvino" if certified.startswith("openvino") and _is_installed("openvino") else "onnxruntime"
        )
    if backend == "openvino":
        from blemish.inference.backends.openvino_backend import OpenVinoBackend

        bf16 = (
            certificate is not None and certified.startswith("openvino") and certificate.precision == "bf16"
        )
        precision = "bf16" if bf16 else "fp32"
        return OpenVinoBackend(model_file.path, device=device, threads=threads, precision=precision)
    from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend

    weights = certificate.precision if certificate is not None else "fp32"
    return OnnxRuntimeBackend(
        model_file.path, device=device, threads=threads, spinning=spinning, precision=weights
    )


def _is_installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None
