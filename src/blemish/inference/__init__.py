"""Inference with model files, without torch: one image, a list, or a stream of images, tiles and videos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from blemish.imaging import LIMITS, Limits
from blemish.inference.backend import (
    BACKENDS,
    Backend,
    BackendBuilder,
    DeviceKind,
    backend_names,
)
from blemish.inference.backend_choice import open_backend
from blemish.inference.inputs import ImageInput, InputKind
from blemish.inference.predictor import Predictor
from blemish.inference.results import PredictionResult, PreparedInput, Timing
from blemish.inference.tiles import Tiling
from blemish.model_file import ModelFile, read_model_file, with_white_level

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendBuilder",
    "DeviceKind",
    "ImageInput",
    "InputKind",
    "PredictionResult",
    "Predictor",
    "PreparedInput",
    "Tiling",
    "Timing",
    "backend_names",
    "load",
    "open_backend",
]


def load(
    path: Path | str | ModelFile,
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    spinning: bool = False,
    limits: Limits = LIMITS,
    white_level: int | None = None,
    check_capture: bool = False,
) -> Predictor:
    """Return a predictor for a model file.

    Args:
        path: the file, a file opened by `read_model_file`, or an address: `hf://user/name`,
            `mlflow:NAME`.
        backend: a registered name such as `onnxruntime` or `openvino`; `openvino:bf16` to compute in
            bfloat16; `certified`: the backend of the file's certificate if it is installed, else ONNX
            Runtime; or `auto`: the fastest of the backends that the file is certified for, which is measured
            once per file, processor and number of threads.
        device: `auto`, `cpu`, `cuda`, `cuda:1`; OpenVINO also accepts its own names.
        threads: for the network. Default: every core that this process may use.
        spinning: whether waiting threads of ONNX Runtime keep their cores busy; see its backend.
        limits: largest size of an image, in pixels and in bytes.
        white_level: the sample value of white in 16-bit images. Default: the model file's, or, if that is
            65535, what the image states.
        check_capture: whether predictions state if an image should be taken again; see `Predictor`.

    Raises:
        BadModelFile: not a model file, damaged, or not supported by the backend.
        BadInput: the device does not exist.
        MissingExtra: the backend is not installed.
        UnknownName: no backend of that name is registered.
    """
    if isinstance(path, str) and path.startswith(("hf://", "mlflow:")):
        from blemish.hub import local_file

        path = local_file(path)
    model_file = path if isinstance(path, ModelFile) else read_model_file(path)
    if white_level is not None:
        model_file = replace(model_file, contract=with_white_level(model_file.contract, white_level))
    opened = open_backend(model_file, backend=backend, device=device, threads=threads, spinning=spinning)
    return Predictor(opened, model_file, limits=limits, check_capture=check_capture)
