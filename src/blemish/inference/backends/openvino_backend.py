"""OpenVINO: about twice as fast as ONNX Runtime on Intel's and AMD's processors."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput, BadModelFile, MissingExtra
from blemish.inference.backend import available_cores, numpy_feeds

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoBackend:
    """Runs a model file with OpenVINO.

    Attributes:
        name: `openvino 2026.4.1 CPU`.
        precision: `fp32`, or `bf16` where asked for. Left alone, OpenVINO computes in bf16 on processors
            that can, and then decides otherwise than the network that was certified.
    """

    def __init__(
        self,
        model: Path | str | bytes,
        *,
        device: str = "auto",
        threads: int | None = None,
        precision: str = "fp32",
    ) -> None:
        """Compile a graph.

        Args:
            model: the file, or a serialised graph.
            device: `auto` and `cpu` are the processor; other names are OpenVINO's: `GPU`, `NPU`.
            threads: every core this process may use where not given.
            precision: `fp32` or `bf16`.

        Raises:
            MissingExtra: OpenVINO is not installed.
            BadInput: a device that is not there, or an unknown precision.
            BadModelFile: OpenVINO cannot run the file.
        """
        try:
            import openvino
        except ImportError as error:
            raise MissingExtra("openvino", "the OpenVINO backend") from error
        if precision not in PRECISIONS:
            raise BadInput(f"OpenVINO's precision is fp32 or bf16, not {precision!r}")
        place = model if isinstance(model, Path | str) else "the graph"
        target = "CPU" if device in ("auto", "cpu") else device.upper()
        core = openvino.Core()
        if target.partition(".")[0] not in core.available_devices:
            raise BadInput(
                f"OpenVINO has no device {device!r} here; it has {', '.join(core.available_devices)}"
            )
        settings = {"INFERENCE_PRECISION_HINT": PRECISIONS[precision], "PERFORMANCE_HINT": "LATENCY"}
        if target == "CPU":
            settings["INFERENCE_NUM_THREADS"] = str(threads or available_cores())
        try:
            graph = core.read_model(model if isinstance(model, bytes) else str(model))
            self._compiled = core.compile_model(graph, target, settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise BadModelFile(f"{place}: OpenVINO cannot load it ({reason})") from error
        self._names = [output.get_any_name() for output in self._compiled.outputs]
        self._requests = threading.local()
        version = openvino.__version__.partition("-")[0]
        self.name = f"openvino {version} {target}"
        self.precision = precision

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The network's outputs for a batch; see `Backend.run`."""
        request = getattr(self._requests, "request", None)
        if request is None:  # a request serves one thread at a time
            request = self._requests.request = self._compiled.create_infer_request()
        results = request.infer(numpy_feeds(feeds), share_inputs=True)
        return {name: np.array(results[i]) for i, name in enumerate(self._names)}
