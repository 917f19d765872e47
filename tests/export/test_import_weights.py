import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from blemish.config.architectures import describe
from blemish.contrib.damagelens import architectures_plugin as architectures_plugin
from blemish.contrib.damagelens.fusion_checkpoint import fusion_tensor_names
from blemish.explanation.gradient_graph import GradientGraph
from blemish.export.import_weights import import_weights
from blemish.imaging import open_image
from blemish.inference import load
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.models import create
from blemish.models._safe_load import load_in_subprocess
from blemish.models._torch_backend import TorchBackend
from blemish.structures import GroundTruth, Labels, Sample, Task
from blemish.testing import raises

LABELS = Labels(("F_Breakage", "F_Crushed", "R_Normal"), ("Front Breakage", "Front Crushed", "Rear Normal"))
TINY = {"input_size": 32}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network: Any = create("timm/test_resnet", task="classification", label_count=3, **TINY)
    with torch.no_grad():
        network.head[-1].weight.mul_(20)
    return network.eval()


@pytest.fixture
def images(tmp_path):
    generator = np.random.default_rng(0)
    out = []
    for i in range(4):
        path = tmp_path / f"{i}.png"
        Image.fromarray(generator.integers(0, 256, (5, 5, 3), np.uint8)).resize((32, 32)).save(path)
        out.append(Sample(id=str(i), path=path))
    return out


def save(state, path):
    """Write a weights file; one of safetensors is read without starting a process, which imports PyTorch."""
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.fixture
def unexplained(monkeypatch):
    """Leave out the explanation graph, whose tracing takes as long as the rest."""
    monkeypatch.setattr("blemish.export.import_weights.write_explanation", lambda network, file: None)


def importing(path, output, **more):
    return import_weights(
        path, "timm/test_resnet", LABELS, output, task="classification", options=TINY, **more
    )


def test_import_weights_writes_a_certified_file(network, images, tmp_path):
    path = save(network.state_dict(), tmp_path / "w.safetensors")
    model_file = importing(path, tmp_path / "m.onnx", samples=images, weights_license="mine")
    assert model_file.contract.certificate.passed and model_file.contract.licenses.weights == "mine"
    assert model_file.contract.to_labels().display_names == LABELS.display_names
    predictor = load(model_file.path)
    prepared = [predictor.prepare(open_image(s.path)) for s in images]
    feeds = {"image": np.stack([p.feeds["image"] for p in prepared])}
    ours = predictor.backend.run(feeds)["logits"]
    np.testing.assert_allclose(ours, TorchBackend(network).run(feeds)["logits"], atol=1e-4)
    assert np.ptp(ours) > 0.01
    assert GradientGraph(model_file).layers == network.feature_layers, "imported models can be explained too"


@pytest.mark.usefixtures("unexplained")
def test_import_weights_converts_half_floats_and_removes_prefixes(network, tmp_path):
    state = {f"module.{name}": tensor.half() for name, tensor in network.state_dict().items()}
    model_file = importing(
        save({"model_state_dict": state, "epoch": 3}, tmp_path / "w.pth"), tmp_path / "m.onnx"
    )
    feeds = {"image": np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)}
    ours = load(model_file.path).backend.run(feeds)["logits"]
    theirs = TorchBackend(network).run(feeds)["logits"]
    assert ours.dtype == np.float32
    assert 0 < np.abs(ours - theirs).max() < 0.02 * np.abs(theirs).max()


def test_import_weights_lists_unmatched_tensors(network, tmp_path):
    state = dict(network.state_dict())
    state["surprise.weight"] = torch.zeros(2)
    missing = next(name for name in state if name.startswith("backbone"))
    del state[missing]
    path = save(state, tmp_path / "w.safetensors")
    with raises("bad-weights.tensor-mismatch", missing) as caught:
        importing(path, tmp_path / "m.onnx", allow_unused=True)
    assert "surprise" not in caught.message
    with raises("bad-weights.tensor-mismatch", missing, "surprise.weight (2,)"):
        importing(path, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_import_weights_names_another_number_of_labels(network, tmp_path):
    path = save(network.state_dict(), tmp_path / "w.safetensors")
    with raises("bad-weights.label-mismatch", path, "2 labels", "3"):
        import_weights(
            path, "timm/test_resnet", Labels(("a", "b")), tmp_path / "m.onnx", task="multilabel", options=TINY
        )
    with raises("wrong-task.ambiguous", "timm/test_resnet", "--task"):
        import_weights(path, "timm/test_resnet", LABELS, tmp_path / "m.onnx")


def test_import_weights_names_a_file_of_another_architecture(network, tmp_path):
    path = save({f"layer{i}.weight": torch.zeros(2) for i in range(400)}, tmp_path / "w.safetensors")
    with raises("bad-weights.other-architecture", path) as caught:
        importing(path, tmp_path / "m.onnx")
    assert "\n" not in caught.message


def test_import_weights_refuses_no_labels_and_its_own_file_as_output(network, tmp_path):
    path = save(network.state_dict(), tmp_path / "w.safetensors")
    before = path.read_bytes()
    with raises("bad-input.output-is-source", path, "--output"):
        importing(path, path)
    assert path.read_bytes() == before
    with raises("bad-input.no-labels"):
        import_weights(path, "timm/test_resnet", Labels(()), tmp_path / "m.onnx", task="classification")


def test_import_weights_ignores_ground_truth_with_other_labels(network, images, tmp_path):
    foreign = Labels(("cat", "dog"))
    ground_truth = GroundTruth(
        task=Task.CLASSIFICATION, labels=foreign, size_hw=(32, 32), label_index=np.array([1])
    )
    path = save(network.state_dict(), tmp_path / "w.safetensors")
    samples = [replace(sample, ground_truth=ground_truth) for sample in images]
    certificate = importing(path, tmp_path / "m.onnx", samples=samples).contract.certificate
    assert certificate.passed and certificate.images == 4 and certificate.metric == ""


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (self.marker, "w"))


@pytest.mark.parametrize("legacy", [True, False])
def test_load_in_subprocess_does_not_execute_code(legacy, tmp_path):
    path, marker = tmp_path / "w.pth", tmp_path / "ran"
    payload = {"w": torch.zeros(1), "x": Evil(str(marker))}
    if legacy:
        path.write_bytes(pickle.dumps(payload))
    else:
        torch.save(payload, path)
    with raises("bad-weights.unsafe-pickle", path) as caught:
        load_in_subprocess(path)
    assert not marker.exists()
    assert "\n" not in caught.message


def test_load_in_subprocess_returns_the_same_tensors(network, tmp_path):
    state = network.state_dict()
    read = load_in_subprocess(save(state, tmp_path / "w.pth"))
    assert set(read) == set(state)
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())
    with raises("bad-weights.missing-file", "none.pth"):
        load_in_subprocess(tmp_path / "none.pth")
    (tmp_path / "short.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:1000])
    with raises("bad-weights.unreadable", "short.pth"):
        load_in_subprocess(tmp_path / "short.pth")


@pytest.mark.slow
def test_damagelens_fusion_checkpoint(tmp_path):
    """Half floats under DamageLens' names become a model file."""
    torch.manual_seed(0)
    network = create("fusion", task="classification", label_count=3).eval()
    state = {}
    for name, tensor in network.state_dict().items():
        (key,) = fusion_tensor_names(name)
        assert key.split(".")[0] in ("eff_features", "cnx_backbone", "fusion_head")
        tensor = tensor.flatten() if key.endswith("layer_scale_parameter") else tensor
        state[key] = tensor.half() if tensor.is_floating_point() else tensor
    assert len(state) == len(network.state_dict())
    path = save(state, tmp_path / "fusion_fp16.pth")
    model_file = import_weights(path, "fusion", LABELS, tmp_path / "m.onnx", task="classification")
    generator = np.random.default_rng(0)
    feeds = {s.name: generator.normal(size=(1, 3, *s.size_hw)).astype(np.float32) for s in network.inputs}
    ours = load(model_file.path).backend.run(feeds)["logits"]
    theirs = TorchBackend(network).run(feeds)["logits"]
    assert np.ptp(theirs) > 1e-3
    np.testing.assert_allclose(ours, theirs, atol=0.05 * np.ptp(theirs) + 1e-3)


@pytest.mark.usefixtures("unexplained")
def test_import_weights_names_the_head_of_a_torchvision_file(tmp_path):
    from torchvision.models import resnet18

    theirs = resnet18(num_classes=3).eval()
    path = save(theirs.state_dict(), tmp_path / "plain.safetensors")
    labels = Labels(("a", "b", "c"))
    how: dict[str, Any] = {"task": "classification", "options": {"input_size": 32}}
    with raises("bad-weights.head-mismatch", path, "--set 'head={}'"):
        import_weights(path, "resnet18", labels, tmp_path / "no.onnx", **how)
    how["options"]["head"] = {}
    model_file = import_weights(path, "resnet18", labels, tmp_path / "plain.onnx", **how)
    image = torch.randn(2, 3, 32, 32)
    found = OnnxRuntimeBackend(model_file.path, device="cpu").run({"image": image.numpy()})["logits"]
    np.testing.assert_allclose(found, theirs(image).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_import_weights_refuses_quantized_tensors(network, tmp_path):
    whole = network.state_dict()
    name = next(name for name in whole if name.startswith("backbone"))
    path = save({**whole, name: whole[name].to(torch.int8)}, tmp_path / "int8.safetensors")
    with raises("bad-weights.tensor-mismatch", f"(1):\n  {name}"):
        importing(path, tmp_path / "int8.onnx")


@pytest.mark.parametrize("name", ["yolov8s", "yolo11n-seg", "rfdetr-nano"])
def test_weights_of_other_packages_get_their_filter(name):
    assert describe(name).imported_options == {"interpolation": "linear-plain"}


@pytest.mark.usefixtures("unexplained")
@pytest.mark.parametrize(("options", "expected"), [({}, "linear-plain"), ({"interpolation": "box"}, "box")])
def test_imported_options_hold_unless_the_user_sets_others(network, tmp_path, monkeypatch, options, expected):
    entry = replace(describe("timm/test_resnet"), imported_options={"interpolation": "linear-plain"})
    monkeypatch.setattr("blemish.export.import_weights.describe", lambda name: entry)
    path = save(network.state_dict(), tmp_path / "w.safetensors")
    file = import_weights(
        path, "timm/test_resnet", LABELS, tmp_path / "m.onnx", task="classification", options=TINY | options
    )
    assert file.contract.inputs[0].interpolation == expected
