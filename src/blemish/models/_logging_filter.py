"""What torch, Lightning and the exporter tell their programmers, kept from people."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_CHATTY = (
    *("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning", "torch.distributed"),
    *("torch.onnx", "torch.export", "torch._dynamo", "torch.__trace", "onnxscript", "onnx_ir"),
)


@contextmanager
def silence() -> Iterator[None]:
    """While inside, their warnings and their progress reach nobody; their errors do."""
    levels = {name: logging.getLogger(name).level for name in _CHATTY}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
