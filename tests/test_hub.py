"""Push and fetch against a stub of the Hub on this machine."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from blemish import hub
from blemish.hub import HubAddress, local_file, model_card, push
from blemish.model_file import (
    Contract,
    DecoderSpec,
    InputSpec,
    LabelSpec,
    Licenses,
    OutputSpec,
    ParityCertificate,
    read_model_file,
    write_model_file,
)
from blemish.testing import raises
from tests.hub_stub import serving


@pytest.fixture
def stub(tmp_path, monkeypatch):
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", True)
        yield server


@pytest.fixture
def model(tmp_path):
    node = helper.make_node("ReduceMean", ["image"], ["logits"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    contract = Contract(
        name="solar",
        architecture="resnet18",
        task="classification",
        labels=[LabelSpec(name=n, display_name=n.upper()) for n in "abc"],
        inputs=[InputSpec(size_hw=(8, 8))],
        outputs=[OutputSpec(name="logits", role="scores", activation="logits")],
        decoder=DecoderSpec(name="scores"),
        data={"counts": {"train": 70, "val": 15}},
        metrics={
            "val": {"accuracy": 0.8125},
            "val with intervals": {"macro_f1": {"value": 0.75, "low": 0.7, "high": 0.8}, "tuned": True},
        },
        licenses=Licenses(weights="BSD-3-Clause", data="CC BY-NC-SA 4.0"),
        certificate=ParityCertificate(passed=True, images=15, decisions_changed=0, max_difference=1e-6),
    )
    return write_model_file(tmp_path / "run" / "model.onnx", proto.SerializeToString(), contract)


def test_push_and_local_file_round_trip_and_work_offline(stub, model, monkeypatch):
    beside = model.path.with_suffix(".explain.onnx")
    beside.write_bytes(b"explanation graph")
    url = push(model.path, "ada/cells")
    assert url.endswith("/ada/cells") and stub.commits == 1, "one commit, so that no reader sees a part of it"
    assert set(stub.files) == {"model.onnx", "model.explain.onnx", "SHA256SUMS", "README.md"}
    assert stub.files["model.onnx"] == model.path.read_bytes()
    fetched = local_file("hf://ada/cells")
    assert fetched != model.path and read_model_file(fetched).digest == model.digest
    assert not fetched.with_suffix(".explain.onnx").exists(), (
        "prediction does not fetch the explanation graph"
    )
    explained = local_file("hf://ada/cells@v2/model.onnx", explanation=True)
    assert explained.with_suffix(".explain.onnx").read_bytes() == b"explanation graph"
    stub.shutdown()
    stub.server_close()
    assert local_file("hf://ada/cells") == fetched
    assert local_file("hf://ada/cells/model.onnx") == fetched
    with raises("no-network.not-cached", "hf://ada/other/model.onnx"):
        local_file("hf://ada/other/model.onnx")


def test_local_file_refuses_a_changed_file(stub, model):
    push(model.path, "ada/cells")
    changed = bytearray(stub.files["model.onnx"])
    changed[-1] ^= 1
    stub.files["model.onnx"] = bytes(changed)
    with raises("bad-model-file.wrong-digest", "hf://ada/cells"):
        local_file("hf://ada/cells")


def test_push_keeps_the_digests_of_other_files(stub, model):
    push(model.path, "ada/cells")
    half = model.path.with_name("model-fp16.onnx")
    half.write_bytes(model.path.read_bytes())
    push(half, "ada/cells")
    assert len(stub.files["SHA256SUMS"].splitlines()) == 2
    assert local_file("hf://ada/cells/model-fp16.onnx").is_file()
    stub.files["model.onnx"] = stub.files["model.onnx"][:-1]
    with raises("bad-model-file.wrong-digest", "hf://ada/cells"):
        local_file("hf://ada/cells/model.onnx")


def test_local_file_names_a_damaged_copy_in_the_cache(stub, model):
    push(model.path, "ada/cells")
    kept = local_file("hf://ada/cells").resolve()
    kept.write_bytes(kept.read_bytes()[:-1])
    with raises("bad-model-file.wrong-digest", kept):
        local_file("hf://ada/cells")
    kept.unlink()
    assert read_model_file(local_file("hf://ada/cells")).digest == model.digest


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "hf auth login"), (403, "token"), (429, "wait"), (500, "later"), (503, "later")],
)
def test_local_file_uses_the_cache_if_the_hub_refuses(status, remedy, stub, model):
    stub.refusal = status
    with raises("no-network.refused", status, remedy):
        push(model.path, "ada/cells")
    with raises("no-network.not-cached", "hf://ada/cells", status):
        local_file("hf://ada/cells")
    stub.refusal = None
    push(model.path, "ada/cells")
    fetched = local_file("hf://ada/cells")
    stub.refusal = status
    assert local_file("hf://ada/cells") == fetched


def test_local_file_names_a_cache_that_cannot_be_written(stub, model, tmp_path, monkeypatch):
    push(model.path, "ada/cells")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    with raises("storage-full", "HF_HUB_CACHE"):
        local_file("hf://ada/cells")


def test_push_without_login_names_the_remedy(stub, model, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    stub.refusal = 401
    with raises("no-network.refused", "hf auth login", "HF_TOKEN"):
        push(model.path, "ada/cells")


def test_local_file_checks_the_hubs_digest_without_sha256sums(stub, model):
    push(model.path, "ada/cells")
    del stub.files["SHA256SUMS"]
    assert local_file("hf://ada/cells").is_file()
    stub.files["other.onnx"] = b"x" * 100
    stub.etags["other.onnx"] = "0" * 64
    with raises("bad-model-file.wrong-digest", "hf://ada/cells"):
        local_file("hf://ada/cells/other.onnx")


def test_local_file_uses_the_only_model_of_a_repository(stub, model):
    push(model.path, "ada/cells")
    stub.files["half.onnx"] = stub.files.pop("model.onnx")
    stub.files.pop("SHA256SUMS")
    assert local_file("hf://ada/cells").name == "half.onnx"
    stub.files["third.onnx"] = b"x"
    with raises("bad-input.ambiguous-file", "half.onnx, third.onnx"):
        local_file("hf://ada/cells@v2")


def test_local_file_names_a_missing_file_revision_and_repository(stub, model):
    push(model.path, "ada/cells")
    with raises("bad-input.missing-file", "hf://ada/cells", "none.onnx"):
        local_file("hf://ada/cells/none.onnx")
    with raises("bad-input.missing-revision", "v9"):
        local_file("hf://ada/cells@v9/model.onnx")
    with raises("bad-input.missing-repository", "hf://ada/nothing"):
        local_file("hf://ada/nothing")


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "pytorch_model.bin", "weights.ckpt"])
def test_local_file_refuses_formats_that_can_execute_code(stub, name):
    with raises("bad-input.unsafe-format", name, ".onnx"):
        local_file(f"hf://ada/cells/{name}")
    assert not stub.requests


@pytest.mark.parametrize(
    "text",
    [
        "hf://",
        "hf://ada",
        "hf://ada/",
        "hf://a b/c",
        "hf://ada/cells@",
        "hf://ada//x",
        "hf://ada/../x.onnx",
        "hf://ada/x/../../y.onnx",
    ],
)
def test_hub_address_parse_refuses_other_text(text):
    with raises("bad-input.hub-address", "hf://user/name"):
        HubAddress.parse(text)


@pytest.mark.parametrize("text", ["hf://ada/cells", "hf://ada/cells@v1.2", "hf://ada/cells@main/sub/m.onnx"])
def test_hub_address_round_trips(text):
    assert str(HubAddress.parse(text)) == text


def test_local_file_returns_paths_unchanged(tmp_path):
    assert local_file(tmp_path / "m.onnx") == tmp_path / "m.onnx"
    assert not hub.is_address("runs/model.onnx")


def test_push_refuses_a_file_without_contract(stub, tmp_path):
    bare = helper.make_model(
        helper.make_graph([], "g", [], [], [onnx.numpy_helper.from_array(np.zeros(1), "x")])
    )
    (tmp_path / "bare.onnx").write_bytes(bare.SerializeToString())
    with raises("bad-model-file.no-contract", "bare.onnx"):
        push(tmp_path / "bare.onnx", "ada/cells")
    assert not stub.requests


def test_model_card_escapes_labels(model):
    labels = (LabelSpec(name="a|b", display_name="A\n# B"), *model.contract.labels[1:])
    contract = model.contract.model_copy(update={"labels": labels})
    card = model_card(replace(model, contract=contract), "ada/cells")
    assert "| a\\|b | A # B | the label with the highest score |" in card.splitlines()


def test_model_card_states_use_data_metrics_limits_and_licenses(model):
    card = model_card(model, "ada/cells")
    for part in (
        "license: other",
        "pipeline_tag: image-classification",
        "| b | B | the label with the highest score |",
        "70 train, 15 val",
        "| val | accuracy | 0.812 | |",
        "| val with intervals (thresholds chosen on it) | macro_f1 | 0.750 | 0.700 to 0.800 |",
        "Certificate: passed",
        "## Limits",
        "Weights: BSD-3-Clause",
        "Data: CC BY-NC-SA 4.0",
        "--model hf://ada/cells/model.onnx",
        "rely on those of a test split",
        model.digest,
    ):
        assert part in card, part
