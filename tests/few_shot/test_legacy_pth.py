"""The restricted reader of PyTorch's legacy files."""

import collections
import io
import pickle
import struct

import numpy as np
import pytest

from blemish.few_shot.legacy_pth import MAGIC, PROTOCOL, read_legacy_pth
from blemish.testing import raises


class _Reference:
    """Stands for a function of another module in a pickle."""

    def __init__(self, module, name, *arguments):
        self.module, self.name, self.arguments = module, name, arguments


def _write(path, state_pickle, storages=()):
    out = io.BytesIO()
    for value in (MAGIC, PROTOCOL, {"little_endian": True}):
        pickle.dump(value, out, protocol=2)
    out.write(state_pickle)
    pickle.dump([key for key, _ in storages], out, protocol=2)
    for _, array in storages:
        out.write(struct.pack("<q", array.size) + array.tobytes())
    path.write_bytes(out.getvalue())
    return path


def _calls(module, name, argument=b"echo harmless"):
    """A pickle that would call module.name(argument)."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + pickle.dumps((argument,), 2)[2:-1] + b"R."


def test_read_legacy_pth_equals_torch(tmp_path):
    torch = pytest.importorskip("torch")
    state = collections.OrderedDict(
        weight=torch.randn(3, 4, 2),
        transposed=torch.randn(5, 7).t(),
        view=torch.arange(20.0)[4:10],
        count=torch.tensor(7),
        half=torch.randn(4).half(),
        flags=torch.tensor([True, False]),
    )
    path = tmp_path / "w.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    read = read_legacy_pth(path)
    assert list(read) == list(state)
    for name, tensor in state.items():
        assert np.array_equal(read[name], tensor.numpy()), name
        assert read[name].dtype == tensor.numpy().dtype


@pytest.mark.parametrize(
    "module, name",
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("collections", "Counter"),
        ("torch._utils", "x"),
    ],
)
def test_read_legacy_pth_refuses_any_other_call(tmp_path, module, name):
    path = _write(tmp_path / "bad.pth", _calls(module, name))
    with raises("bad-weights.not-tensors", "bad.pth", f"{module}.{name}"):
        read_legacy_pth(path)


@pytest.mark.parametrize("value", [[1, 2], {"a": 3}, {"a": "text"}, "text", {3: None}])
def test_read_legacy_pth_refuses_anything_but_tensors(tmp_path, value):
    path = _write(tmp_path / "bad.pth", pickle.dumps(value, 2))
    with raises("bad-weights.not-tensors", "bad.pth"):
        read_legacy_pth(path)


def test_read_legacy_pth_refuses_cut_and_changed_files(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pth"
    torch.save({"a": torch.randn(30, 30)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for cut in (0, 3, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with raises("bad-weights.not-tensors", "w.pth"):
            read_legacy_pth(path)


def test_read_legacy_pth_refuses_a_tensor_larger_than_its_storage(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(4, 4)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    shape = b"K\x04K\x04\x86"
    assert whole.count(shape) >= 1
    path.write_bytes(whole.replace(shape, b"K\xffK\x04\x86", 1))
    with raises("bad-weights.not-tensors", "larger than its storage"):
        read_legacy_pth(path)


def test_read_legacy_pth_missing_file(tmp_path):
    with raises("bad-weights.missing-file", "none.pth"):
        read_legacy_pth(tmp_path / "none.pth")
