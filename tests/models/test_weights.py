"""Weights are found, read safely and loaded where they match, or refused with a code."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from blemish.models import create
from blemish.models._state_dict import read_state_dict
from blemish.models._weights import find_weights, load_weights
from blemish.testing import raises


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create("timm/test_resnet", task="classification", label_count=3, input_size=64)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {f"module.{k}": v for k, v in s.items()}])
def test_load_weights_fills_the_network(network, tmp_path, suffix, wrap):
    state = {k: v.clone() + 1 for k, v in network.state_dict().items()}
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": wrap(state), "epoch": 3}, path)
    else:
        save_file(wrap(state), path)
    (report,) = load_weights(network, [path])
    assert not report.skipped
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


def test_load_weights_converts_half_floats(network, tmp_path):
    torch.save({k: v.half() for k, v in network.state_dict().items()}, tmp_path / "w.pth")
    load_weights(network, [tmp_path / "w.pth"])
    assert next(network.parameters()).dtype is torch.float32


def test_load_weights_reports_a_head_of_another_size(network, tmp_path):
    other = create("timm/test_resnet", task="classification", label_count=5, input_size=64)
    torch.save(other.state_dict(), tmp_path / "w.pth")
    (report,) = load_weights(network, [tmp_path / "w.pth"])
    assert "2 skipped (head.0.weight, head.0.bias)" in report.summary()
    assert report.missing == ("head.0.weight", "head.0.bias")


def test_load_weights_refuses_another_architecture(network, tmp_path):
    other = create("torchvision/mobilenet_v2", task="classification", label_count=3)
    torch.save(other.state_dict(), tmp_path / "w.pth")
    with raises("bad-weights.other-architecture", "w.pth"):
        load_weights(network, [tmp_path / "w.pth"])


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the file ran code')",))


def test_read_state_dict_does_not_execute_code(tmp_path):
    torch.save({"weights": Bomb()}, tmp_path / "w.pth")
    with raises("bad-weights.unsafe-pickle", "w.pth", "state_dict"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "unreadable"), (b"no weights at all", "unsafe-pickle"), (pickle.dumps([1, 2]), "unreadable")],
    ids=["empty", "text", "list"],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_read_state_dict_refuses_other_files(tmp_path, content, reason, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with raises(f"bad-weights.{'unreadable' if suffix == '.safetensors' else reason}", path.name):
        read_state_dict(path)


def test_read_state_dict_refuses_a_checkpoint_without_state_dict(tmp_path):
    torch.save({"epoch": 3, "model": [1, 2]}, tmp_path / "w.pth")
    with raises("bad-weights.no-state-dict", "w.pth"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("file", ["resnet50-19c8e357.pth", "resnet50-11ad3fa6.pth"])
@pytest.mark.parametrize("name", ["resnet50", "resnet50-scratch"])
def test_find_weights_uses_the_hub_cache(hub, name, file):
    (hub / file).write_bytes(b"")
    assert find_weights(name, "default") == (hub / file,)


def test_find_weights_without_network_names_the_remedy(hub):
    for name in ("resnet18-scratch", "fusion", "torchvision/mobilenet_v2", "timm/test_resnet"):
        with raises("no-network", "--weights none"):
            find_weights(name, "default")


def test_find_weights_none_gives_no_file_and_names_a_missing_one():
    assert find_weights("resnet18", "none") == ()
    with raises("bad-weights.missing-file", "nowhere.pth"):
        find_weights("resnet18", "nowhere.pth")
