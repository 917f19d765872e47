"""PyTorch's legacy file format (before the zip archives of 1.6), read without PyTorch.

A legacy file is a sequence of pickles (magic number, protocol version, system information, the object, the
keys of its storages) and the storages' bytes. The unpickler knows ordered dictionaries and tensors and
nothing else: a pickle that names any other function or class is refused before anything of it is called.
"""

from __future__ import annotations

import collections
import io
import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadWeights

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_BYTES = 512 * 2**20
_DTYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclass(frozen=True)
class _StorageType:
    """The type of a storage, by its name in the file."""

    dtype: np.dtype[Any]


@dataclass(frozen=True)
class _Storage:
    """A storage that a tensor refers to."""

    key: str
    dtype: np.dtype[Any]
    size: int


@dataclass(frozen=True)
class _Tensor:
    """A tensor before its storage is read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _TensorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return _StorageType(_DTYPES[name])
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) != 6 or pid[0] != "storage":
            raise pickle.UnpicklingError("unknown kind of reference")
        _, kind, key, _, size, view = pid
        if view is not None or not isinstance(kind, _StorageType) or not isinstance(size, int):
            raise pickle.UnpicklingError("unknown kind of storage")
        return _Storage(str(key), kind.dtype, size)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _Tensor:
    whole = all(isinstance(x, int) and x >= 0 for x in (offset, *shape, *strides))
    if not isinstance(storage, _Storage) or not whole or len(shape) != len(strides):
        raise pickle.UnpicklingError("a damaged tensor")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def read_legacy_pth(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a legacy PyTorch file by name, in their order.

    Args:
        path: the file; an ordered dictionary of tensors (a state dict).

    Returns:
        Arrays of the tensors' shapes and types.

    Raises:
        BadWeights: missing, damaged, not of this format, or with anything but tensors in it.

    Source:
        `torch.serialization._legacy_load` of PyTorch; equal to `torch.load(path, weights_only=True)`.
    """
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise BadWeights(
            f"{path}: cannot be read ({error.strerror}). Check the path.", reason="missing-file"
        ) from error
    if size > MAX_BYTES:
        raise BadWeights(f"{path}: {size} bytes, more than the limit of {MAX_BYTES}.", reason="too-large")
    file = io.BytesIO(content)
    try:
        if _load(file) != MAGIC or _load(file) != PROTOCOL:
            raise pickle.UnpicklingError("another magic number or protocol version")
        _load(file)  # byte order and integer sizes of the machine that wrote it
        state = _load(file)
        keys = _load(file)
        if not isinstance(state, dict) or not isinstance(keys, list):
            raise pickle.UnpicklingError("not a dictionary of tensors")
        return _tensors(state, _storages(state, keys, file))
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise BadWeights(
            f"{path}: not a legacy PyTorch file of tensors alone ({error}). Use the published file.",
            reason="not-tensors",
        ) from error


def _load(file: io.BytesIO) -> Any:
    return _TensorUnpickler(file).load()


def _storages(state: dict[Any, Any], keys: Sequence[Any], file: io.BytesIO) -> dict[str, NDArray[Any]]:
    """Return the storages by key, each a flat array; the file lists them in the order of `keys`."""
    expected = {t.storage.key: t.storage for t in state.values() if isinstance(t, _Tensor)}
    out: dict[str, NDArray[Any]] = {}
    for key in keys:
        storage = expected[str(key)]
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.size:
            raise ValueError(f"storage {key} has {count} numbers, expected {storage.size}")
        raw = file.read(count * storage.dtype.itemsize)
        out[str(key)] = np.frombuffer(raw, storage.dtype, count)
    return out


def _tensors(state: dict[Any, Any], storages: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    out: dict[str, NDArray[Any]] = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise ValueError(f"{name!r} is not a tensor")
        flat = storages[tensor.storage.key][tensor.offset :]
        last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
        if any(n == 0 for n in tensor.shape) or last >= len(flat):
            raise ValueError(f"{name!r} is larger than its storage")
        strides = tuple(s * flat.itemsize for s in tensor.strides)
        out[name] = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False).copy()
    return out
