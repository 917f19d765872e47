"""Suppress the warnings and progress messages of torch, Lightning and the exporter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = (
    *("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning", "torch.distributed"),
    *("torch.onnx", "torch.export", "torch._dynamo", "torch.__trace", "onnxscript", "onnx_ir"),
)


@contextmanager
def silence() -> Iterator[None]:
    """Suppress these libraries' warnings and log records below ERROR inside the block."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
