"""Weights: found, read safely, put where they fit, or refused in one sentence."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from blemish.errors import BadWeights, NoNetwork
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
def test_a_file_fills_the_network(network, tmp_path, suffix, wrap):
    state = {k: v.clone() + 1 for k, v in network.state_dict().items()}
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": wrap(state), "epoch": 3}, path)
    else:
        save_file(wrap(state), path)
    (report,) = load_weights(network, [path])
    assert not report.skipped
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


def test_halves_become_floats(network, tmp_path):
    torch.save({k: v.half() for k, v in network.state_dict().items()}, tmp_path / "w.pth")
    load_weights(network, [tmp_path / "w.pth"])
    assert next(network.parameters()).dtype is torch.float32


def test_another_head_is_skipped_and_said(network, tmp_path):
    other = create("timm/test_resnet", task="classification", label_count=5, input_size=64)
    torch.save(other.state_dict(), tmp_path / "w.pth")
    (report,) = load_weights(network, [tmp_path / "w.pth"])
    assert "2 skipped (head.0.weight, head.0.bias)" in report.summary()
    assert report.missing == ("head.0.weight", "head.0.bias")


def test_weights_of_another_architecture_are_refused(network, tmp_path):
    other = create("torchvision/mobilenet_v2", task="classification", label_count=3)
    torch.save(other.state_dict(), tmp_path / "w.pth")
    with pytest.raises(BadWeights, match="another architecture"):
        load_weights(network, [tmp_path / "w.pth"])


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the file ran code')",))


def test_a_file_with_code_is_never_run(tmp_path):
    torch.save({"weights": Bomb()}, tmp_path / "w.pth")
    with pytest.raises(BadWeights, match="state_dict"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "content", [b"", b"no weights at all", pickle.dumps([1, 2])], ids=["empty", "text", "list"]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_none_is_refused(tmp_path, content, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(BadWeights, match=path.name):
        read_state_dict(path)


@pytest.mark.parametrize("file", ["resnet50-19c8e357.pth", "resnet50-11ad3fa6.pth"])
@pytest.mark.parametrize("name", ["resnet50", "resnet50-scratch"])
def test_default_weights_are_found_in_the_hub_cache(hub, name, file):
    (hub / file).write_bytes(b"")
    assert find_weights(name, "default") == (hub / file,)


def test_no_network_is_one_sentence_with_the_remedy(hub):
    for name in ("resnet18-scratch", "fusion", "torchvision/mobilenet_v2", "timm/test_resnet"):
        with pytest.raises(NoNetwork, match="--weights none"):
            find_weights(name, "default")


def test_none_is_none_and_a_missing_file_is_told():
    assert find_weights("resnet18", "none") == ()
    with raises("bad-weights.missing-file", "nowhere.pth"):
        find_weights("resnet18", "nowhere.pth")
