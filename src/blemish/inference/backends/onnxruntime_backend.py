"""ONNX Runtime: in the base installation, on any processor, and on NVIDIA devices with its GPU package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput, BadModelFile, NetworkTooSlow
from blemish.inference.backend import BACKENDS, DeviceKind, available_cores, numpy_feeds
from blemish.model_file import ModelFile
from blemish.model_file.run_limit import MAX_RUN_SECONDS, run_session

MAX_REASON = 450  # characters of ONNX Runtime's message in an error
_CODES = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")


class OnnxRuntimeBackend:
    """Runs a model file with ONNX Runtime; each forward pass has a time limit.

    Attributes:
        name: such as `onnxruntime 1.31.1 CPUExecutionProvider`.
        precision: precision of the weights, as the caller states it: `fp32`, `fp16`.
        device_kind: CPU, or accelerator for CUDA.
        session: ONNX Runtime's session.
        input_shapes: shape of each input of the graph by name; a string is an axis of any length.
    """

    def __init__(
        self,
        model: Path | str | bytes,
        *,
        device: str = "auto",
        threads: int | None = None,
        spinning: bool = False,
        precision: str = "fp32",
        max_seconds: float = MAX_RUN_SECONDS,
    ) -> None:
        """Load a graph.

        Args:
            model: the file, or a serialized graph.
            device: `cpu`, `cuda`, `cuda:1`, or `auto`: a CUDA device if ONNX Runtime can use one.
            threads: for one network. Default: every core that this process may use.
            spinning: whether a waiting thread keeps its core busy: slightly faster if nothing else runs,
                slower beside other work, such as a server's.
            precision: precision of the weights in the file.
            max_seconds: limit for one forward pass of a batch, after which it raises `NetworkTooSlow`.

        Raises:
            BadInput: the device does not exist.
            BadModelFile: ONNX Runtime cannot run the file.
        """
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads or available_cores()
        # Spinning threads take the cores from those that decode the next images: ResNet-18 on two shared
        # cores ran at 3.6 images per second with spinning, at 6 without.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        options.log_severity_level = 3  # errors are raised as exceptions
        self._max_seconds = max_seconds
        self._place = str(model) if isinstance(model, Path | str) else "the graph"
        provider, settings = _provider(device)
        try:
            self.session = ort.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                options,
                providers=[provider],
                provider_options=[settings],
            )
        except Exception as error:  # its exceptions have no common class
            raise BadModelFile(
                f"{self._place}: ONNX Runtime {ort.__version__} cannot load it ({_reason(error)})",
                reason="cannot-load",
            ) from error
        actual = self.session.get_providers()[0]
        if actual != provider:
            raise BadInput(
                f"device {device!r}: ONNX Runtime uses {actual} instead of {provider}. "
                "Check the CUDA and cuDNN libraries, or use --device cpu.",
                reason="device",
            )
        self._outputs = [output.name for output in self.session.get_outputs()]
        self.input_shapes = {x.name: tuple(x.shape) for x in self.session.get_inputs()}
        self.name = f"onnxruntime {ort.__version__} {actual}"
        self.precision = precision
        is_cpu = provider == "CPUExecutionProvider"
        self.device_kind = DeviceKind.CPU if is_cpu else DeviceKind.ACCELERATOR

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the network's outputs for a batch; see `Backend.run`, also for the time limit."""
        try:
            values = run_session(
                self.session,
                self._outputs,
                numpy_feeds(feeds),
                max_seconds=self._max_seconds,
                place=self._place,
            )
        except NetworkTooSlow:
            raise
        except Exception as error:
            raise BadModelFile(
                f"{self._place}: ONNX Runtime cannot run the network ({_reason(error)})", reason="cannot-run"
            ) from error
        return {name: _single_precision(value) for name, value in zip(self._outputs, values, strict=True)}


class OnnxRuntimeBuilder:
    """Opens model files with ONNX Runtime."""

    joins_activations = False

    def is_installed(self) -> bool:
        """Return whether ONNX Runtime is installed."""
        return find_spec("onnxruntime") is not None

    def open(
        self, model_file: ModelFile, *, device: str, threads: int | None, spinning: bool
    ) -> OnnxRuntimeBackend:
        """Return a backend; see `BackendBuilder.open`."""
        certificate = model_file.contract.certificate
        precision = certificate.precision if certificate is not None else "fp32"
        return OnnxRuntimeBackend(
            model_file.path, device=device, threads=threads, spinning=spinning, precision=precision
        )

    def open_graph(self, graph: bytes, *, precision: str) -> OnnxRuntimeBackend:
        """Return a backend; see `OpensGraphs.open_graph`."""
        return OnnxRuntimeBackend(graph, device="cpu", precision=precision)


BACKENDS.register("onnxruntime", OnnxRuntimeBuilder(), module=__name__)


def _provider(device: str) -> tuple[str, dict[str, Any]]:
    """Return ONNX Runtime's execution provider for a device, and its settings."""
    import onnxruntime as ort

    available = ort.get_available_providers()
    kind, _, number = device.partition(":")
    if kind == "auto":
        kind = "cuda" if "CUDAExecutionProvider" in available else "cpu"
    if kind == "cpu":
        return "CPUExecutionProvider", {}
    if kind != "cuda" or (number and not number.isdecimal()):
        raise BadInput(
            f"unknown device {device!r} of ONNX Runtime: expected auto, cpu, cuda or cuda:N",
            reason="unknown-device",
        )
    if "CUDAExecutionProvider" not in available:
        raise BadInput(
            f"device {device!r}: this ONNX Runtime has no CUDA. Install onnxruntime-gpu instead of "
            "onnxruntime, or use --device cpu.",
            reason="device",
        )
    # float32 means float32: TensorFloat-32 would keep 10 bits of its mantissa.
    return "CUDAExecutionProvider", {"device_id": number or "0", "use_tf32": "0"}


def _single_precision(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _reason(error: Exception) -> str:
    r"""Return ONNX Runtime's message on one line, without its codes.

    Its messages begin with the operation and end with the reason: a long one is shortened in the middle.

    Example:
        >>> _reason(RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Load model failed:\n bad axis"))
        'Load model failed: bad axis'
    """
    text = _CODES.sub("", " ".join(str(error).split()))
    if len(text) <= MAX_REASON:
        return text
    return f"{text[: MAX_REASON // 3]} … {text[-MAX_REASON * 2 // 3 :]}"
