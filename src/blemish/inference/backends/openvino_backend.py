"""OpenVINO: slower or faster than ONNX Runtime, depending on network and processor.

On processors with AVX2 alone both take about the same time; with AVX-512 or AMX, OpenVINO was measured up to
2.5 times as fast, and slower for some networks. The backend `auto` measures it; see `backend_choice`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput, BadModelFile, MissingExtra
from blemish.inference.backend import (
    BACKENDS,
    DeviceKind,
    available_cores,
    certified_backend,
    numpy_feeds,
    weight_precision,
)
from blemish.inference.cpu import computes_bf16
from blemish.model_file import ModelFile

# OpenVINO's precision of layers that are not quantized; it computes quantized ones in INT8 in any case.
PRECISIONS = {"fp32": "f32", "fp16": "f32", "int8": "f32", "bf16": "bf16"}


class OpenVinoBackend:
    """Runs a model file with OpenVINO; a forward pass has no time limit.

    Attributes:
        name: such as `openvino 2026.4.1 CPU`.
        precision: of the file's weights, or `bf16`. By default OpenVINO computes in bf16 on processors that
            support it, and then decides differently from the network that was certified; here it computes in
            bf16 only if that was requested.
        device_kind: CPU, or accelerator for any other device.
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
            model: the file, or a serialized graph.
            device: `auto` and `cpu` are the processor; other names are OpenVINO's: `GPU`, `NPU`.
            threads: Default: every core that this process may use.
            precision: of the file's weights, `fp32`, `fp16` or `int8`; or `bf16` to compute in it.

        Raises:
            MissingExtra: OpenVINO is not installed.
            BadInput: the device does not exist, or the precision is unknown.
            BadModelFile: OpenVINO cannot run the file.
        """
        try:
            import openvino
        except ImportError as error:
            raise MissingExtra("openvino", "the OpenVINO backend") from error
        if precision not in PRECISIONS:
            raise BadInput(
                f"precision of OpenVINO: expected {' or '.join(PRECISIONS)}, got {precision!r}",
                reason="precision",
            )
        place = str(model) if isinstance(model, Path | str) else "the graph"
        target = "CPU" if device in ("auto", "cpu") else device.upper()
        core = openvino.Core()
        if target.partition(".")[0] not in core.available_devices:
            raise BadInput(
                f"unknown device {device!r} of OpenVINO: expected {', '.join(core.available_devices)}",
                reason="unknown-device",
            )
        settings = {"INFERENCE_PRECISION_HINT": PRECISIONS[precision], "PERFORMANCE_HINT": "LATENCY"}
        if target == "CPU":
            settings["INFERENCE_NUM_THREADS"] = str(threads or available_cores())
        try:
            graph = core.read_model(model if isinstance(model, bytes) else str(model))
            self._compiled = core.compile_model(graph, target, settings)
        except RuntimeError as error:
            last_line = str(error).strip().splitlines()[-1][:200]
            raise BadModelFile(
                f"{place}: OpenVINO cannot load it ({last_line})", reason="cannot-load"
            ) from error
        self._names = [output.get_any_name() for output in self._compiled.outputs]
        self._requests = threading.local()
        version = openvino.__version__.partition("-")[0]
        self.name = f"openvino {version} {target}"
        self.precision = precision
        self.device_kind = DeviceKind.CPU if target == "CPU" else DeviceKind.ACCELERATOR

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the network's outputs for a batch; see `Backend.run`."""
        request = getattr(self._requests, "request", None)
        if request is None:  # a request may serve one thread at a time
            request = self._requests.request = self._compiled.create_infer_request()
        results = request.infer(numpy_feeds(feeds), share_inputs=True)
        return {name: np.array(results[i]) for i, name in enumerate(self._names)}


class OpenVinoBuilder:
    """Opens model files with OpenVINO; in bf16 only if asked, or if its certificate is of bf16."""

    joins_activations = True

    def is_installed(self) -> bool:
        """Return whether OpenVINO is installed."""
        return find_spec("openvino") is not None

    def precisions(self, model_file: ModelFile) -> tuple[str, ...]:
        """Return the precision of the file's weights, and bf16 if this processor computes in it."""
        weights = weight_precision(model_file)
        return (weights, "bf16") if weights == "fp32" and computes_bf16() else (weights,)

    def open(
        self,
        model_file: ModelFile,
        *,
        device: str,
        threads: int | None,
        spinning: bool,
        precision: str | None = None,
    ) -> OpenVinoBackend:
        """Return a backend; see `SelectsPrecision.open`. `spinning` has no effect."""
        certificate = model_file.contract.certificate
        if precision is None:
            precision = weight_precision(model_file)
            if certificate is not None and certified_backend(model_file) == "openvino":
                precision = certificate.precision
        return OpenVinoBackend(model_file.path, device=device, threads=threads, precision=precision)

    def open_graph(self, graph: bytes, *, precision: str) -> OpenVinoBackend:
        """Return a backend; see `OpensGraphs.open_graph`."""
        return OpenVinoBackend(graph, device="cpu", precision=precision)


BACKENDS.register("openvino", OpenVinoBuilder(), module=__name__)
