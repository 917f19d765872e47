"""ONNX Runtime: in the base install, on any processor, and on NVIDIA devices with its GPU package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from blemish.errors import BadInput, BadModelFile
from blemish.inference.backend import available_cores, numpy_feeds


class OnnxRuntimeBackend:
    """Runs a model file with ONNX Runtime.

    Attributes:
        name: `onnxruntime 1.31.1 CPUExecutionProvider`.
        precision: of the weights, as the caller says: `fp32`, `fp16`.
        session: ONNX Runtime's own.
    """

    def __init__(
        self,
        model: Path | str | bytes,
        *,
        device: str = "auto",
        threads: int | None = None,
        spinning: bool = False,
        precision: str = "fp32",
    ) -> None:
        """Load a graph.

        Args:
            model: the file, or a serialised graph.
            device: `cpu`, `cuda`, `cuda:1`, or `auto`: a CUDA device where ONNX Runtime can use one.
            threads: for one network; every core this process may use where not given.
            spinning: whether a thread that waits keeps its core busy: a little faster alone, and a waste
                beside other work, such as a server's.
            precision: of the weights in the file.

        Raises:
            BadInput: a device that is not there.
            BadModelFile: ONNX Runtime cannot run the file.
        """
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads or available_cores()
        # Threads that wait busily take the cores from those that decode the next images: ResNet-18 on
        # two cores that others use too ran at 3.6 images a second with it, at 6 without.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        options.log_severity_level = 3  # what matters comes as an exception
        self._place = model if isinstance(model, Path | str) else "the graph"
        provider, settings = _provider(device)
        try:
            self.session = ort.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                options,
                providers=[provider],
                provider_options=[settings],
            )
        except Exception as error:  # its exceptions share no class of their own
            raise BadModelFile(
                f"{self._place}: ONNX Runtime {ort.__version__} cannot load it ({_reason(error)})"
            ) from error
        given = self.session.get_providers()[0]
        if given != provider:
            raise BadInput(
                f"the device {device!r} cannot be used here: ONNX Runtime fell back to {given}; "
                "check the CUDA and cuDNN libraries, or take --device cpu"
            )
        self._outputs = [output.name for output in self.session.get_outputs()]
        self.input_shapes = {x.name: tuple(x.shape) for x in self.session.get_inputs()}
        self.name = f"onnxruntime {ort.__version__} {given}"
        self.precision = precision

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The network's outputs for a batch; see `Backend.run`."""
        try:
            values = self.session.run(self._outputs, numpy_feeds(feeds))
        except Exception as error:
            raise BadModelFile(f"{self._place}: the network cannot be run ({_reason(error)})") from error
        return {name: _single(value) for name, value in zip(self._outputs, values, strict=True)}


def _provider(device: str) -> tuple[str, dict[str, Any]]:
    there = ort.get_available_providers()
    kind, _, number = device.partition(":")
    if kind == "auto":
        kind = "cuda" if "CUDAExecutionProvider" in there else "cpu"
    if kind == "cpu":
        return "CPUExecutionProvider", {}
    if kind != "cuda" or (number and not number.isdecimal()):
        raise BadInput(f"unknown device {device!r}; known are auto, cpu, cuda, cuda:N")
    if "CUDAExecutionProvider" not in there:
        raise BadInput(
            f"the device {device!r} needs ONNX Runtime's GPU package: pip install onnxruntime-gpu in place "
            "of onnxruntime; or take --device cpu"
        )
    # float32 means float32: TensorFloat-32 would keep 10 bits of its mantissa.
    return "CUDAExecutionProvider", {"device_id": number or "0", "use_tf32": "0"}


def _single(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _reason(error: Exception) -> str:
    """The first line of ONNX Runtime's message, without its numbers."""
    return str(error).partition("\n")[0].split(" : ")[-1].strip()[:200]
