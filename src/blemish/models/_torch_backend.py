"""`TorchBackend`: a torch network as an inference backend, for validation during training and for export."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from blemish.inference.backend import DeviceKind
from blemish.models._network import Network


class TorchBackend:
    """A backend that runs a network on the device of its weights; a forward pass has no time limit.

    Attributes:
        name: such as `torch 2.15.0 cpu`.
        precision: of its weights: `fp32`, `fp16`, `bf16` or `fp64`.
        device_kind: CPU, or accelerator for any other device.
        network: in evaluation mode during each call, in its earlier mode afterwards.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        weight = next(network.parameters(), torch.zeros(0))
        self.device = weight.device
        self.dtype = weight.dtype
        is_cpu = self.device.type == "cpu"
        self.device_kind = DeviceKind.CPU if is_cpu else DeviceKind.ACCELERATOR
        self.name = f"torch {torch.__version__.split('+')[0]} {self.device}"
        self.precision = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64"}.get(
            self.dtype, "fp32"
        )

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the network's outputs for a batch.

        Args:
            feeds: by input name, (b, c, h, w) float32, as `preprocessing` returns them.

        Returns:
            By output name; the first axis is the batch, and half floats become float32.
        """
        batch = [
            torch.as_tensor(feeds[spec.name]).to(self.device, self.dtype) for spec in self.network.inputs
        ]
        modes = [(module, module.training) for module in self.network.modules()]
        self.network.eval()
        try:
            with torch.inference_mode():
                outputs = self.network(*batch)
        finally:
            for module, training in modes:
                module.training = training
        return {
            spec.name: _to_numpy(tensor) for spec, tensor in zip(self.network.outputs, outputs, strict=True)
        }


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    return tensor.cpu().numpy()
