"""Push and fetch against a stub of the Hub on this machine."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from blemish import hub
from blemish.errors import BadInput, BadModelFile, NoNetwork, StorageFull
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


@pytest.fixture
def stub(tmp_path, monkeypatch):
    place = Path(__file__).with_name("hub_stub.py")
    spec = importlib.util.spec_from_file_location("hub_stub", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.serving() as server:
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


def test_what_is_pushed_comes_back_and_works_offline(stub, model, monkeypatch):
    beside = model.path.with_suffix(".explain.onnx")
    beside.write_bytes(b"explanation graph")
    url = push(model.path, "ada/cells")
    assert url.endswith("/ada/cells") and stub.commits == 1, "one commit, so that nobody sees half of it"
    assert set(stub.files) == {"model.onnx", "model.explain.onnx", "SHA256SUMS", "README.md"}
    assert stub.files["model.onnx"] == model.path.read_bytes()
    fetched = local_file("hf://ada/cells")
    assert fetched != model.path and read_model_file(fetched).digest == model.digest
    assert not fetched.with_suffix(".explain.onnx").exists(), "prediction does not pay for explanation"
    explained = local_file("hf://ada/cells@v2/model.onnx", explanation=True)
    assert explained.with_suffix(".explain.onnx").read_bytes() == b"explanation graph"
    stub.shutdown()
    stub.server_close()
    assert local_file("hf://ada/cells") == fetched
    assert local_file("hf://ada/cells/model.onnx") == fetched
    with pytest.raises(NoNetwork, match="not on this machine"):
        local_file("hf://ada/other/model.onnx")


def test_what_was_changed_on_the_way_is_refused(stub, model):
    push(model.path, "ada/cells")
    changed = bytearray(stub.files["model.onnx"])
    changed[-1] ^= 1
    stub.files["model.onnx"] = bytes(changed)
    with pytest.raises(BadModelFile, match="SHA-256 differs"):
        local_file("hf://ada/cells")


def test_a_second_file_keeps_the_firsts_digest(stub, model):
    push(model.path, "ada/cells")
    half = model.path.with_name("model-fp16.onnx")
    half.write_bytes(model.path.read_bytes())
    push(half, "ada/cells")
    assert len(stub.files["SHA256SUMS"].splitlines()) == 2
    assert local_file("hf://ada/cells/model-fp16.onnx").is_file()
    stub.files["model.onnx"] = stub.files["model.onnx"][:-1]
    with pytest.raises(BadModelFile, match="SHA-256 differs"):
        local_file("hf://ada/cells/model.onnx")


def test_a_copy_that_was_damaged_here_can_be_fetched_again(stub, model):
    push(model.path, "ada/cells")
    kept = local_file("hf://ada/cells").resolve()
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(BadModelFile, match="SHA-256 differs") as told:
        local_file("hf://ada/cells")
    Path(re.search("delete (.+) and fetch", str(told.value))[1]).unlink()
    assert read_model_file(local_file("hf://ada/cells")).digest == model.digest


@pytest.mark.parametrize(
    ("status", "told"),
    [(401, "hf auth login"), (403, "token's rights"), (429, "too often"), (500, "later"), (503, "later")],
)
def test_a_hub_that_refuses_is_quoted_and_the_cache_does(status, told, stub, model):
    stub.refusal = status
    with pytest.raises(NoNetwork, match=rf"refused \({status}\).*{told}"):
        push(model.path, "ada/cells")
    with pytest.raises(NoNetwork, match=rf"not on this machine yet, and the Hub refused \({status}\)"):
        local_file("hf://ada/cells")
    stub.refusal = None
    push(model.path, "ada/cells")
    fetched = local_file("hf://ada/cells")
    stub.refusal = status
    assert local_file("hf://ada/cells") == fetched


def test_a_cache_that_cannot_be_written_is_named(stub, model, tmp_path, monkeypatch):
    push(model.path, "ada/cells")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageFull, match="HF_HUB_CACHE"):
        local_file("hf://ada/cells")


def test_nobody_logged_in_sends_no_token(stub, model, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    stub.refusal = 401
    with pytest.raises(NoNetwork, match="hf auth login, or set HF_TOKEN"):
        push(model.path, "ada/cells")


def test_without_digests_the_hubs_own_is_checked(stub, model):
    push(model.path, "ada/cells")
    del stub.files["SHA256SUMS"]
    assert local_file("hf://ada/cells").is_file()
    stub.files["other.onnx"] = b"x" * 100
    stub.etags["other.onnx"] = "0" * 64
    with pytest.raises(BadModelFile, match="SHA-256 differs"):
        local_file("hf://ada/cells/other.onnx")


def test_a_repository_with_one_model_of_another_name(stub, model):
    push(model.path, "ada/cells")
    stub.files["half.onnx"] = stub.files.pop("model.onnx")
    stub.files.pop("SHA256SUMS")
    assert local_file("hf://ada/cells").name == "half.onnx"
    stub.files["third.onnx"] = b"x"
    with pytest.raises(BadInput, match=r"half\.onnx, third\.onnx; name one"):
        local_file("hf://ada/cells@v2")


def test_what_is_not_there_is_said_in_one_sentence(stub, model):
    push(model.path, "ada/cells")
    with pytest.raises(BadInput, match=r"no none\.onnx in this repository"):
        local_file("hf://ada/cells/none.onnx")
    with pytest.raises(BadInput, match="no revision v9"):
        local_file("hf://ada/cells@v9/model.onnx")
    with pytest.raises(BadInput, match="no such repository"):
        local_file("hf://ada/nothing")


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "pytorch_model.bin", "weights.ckpt"])
def test_formats_that_can_run_code_are_refused_before_anything_is_fetched(stub, name):
    with pytest.raises(BadInput, match="can run foreign code"):
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
def test_addresses_that_are_none(text):
    with pytest.raises(BadInput, match="write hf://user/name"):
        HubAddress.parse(text)


@pytest.mark.parametrize("text", ["hf://ada/cells", "hf://ada/cells@v1.2", "hf://ada/cells@main/sub/m.onnx"])
def test_addresses_read_as_they_are_written(text):
    assert str(HubAddress.parse(text)) == text


def test_paths_are_left_alone(tmp_path):
    assert local_file(tmp_path / "m.onnx") == tmp_path / "m.onnx"
    assert not hub.is_address("runs/model.onnx")


def test_only_model_files_are_pushed(stub, tmp_path):
    bare = helper.make_model(
        helper.make_graph([], "g", [], [], [onnx.numpy_helper.from_array(np.zeros(1), "x")])
    )
    (tmp_path / "bare.onnx").write_bytes(bare.SerializeToString())
    with pytest.raises(BadModelFile, match="without Blemish's contract"):
        push(tmp_path / "bare.onnx", "ada/cells")
    assert not stub.requests


def test_a_label_cannot_break_the_cards_table(model):
    labels = (LabelSpec(name="a|b", display_name="A\n# B"), *model.contract.labels[1:])
    contract = model.contract.model_copy(update={"labels": labels})
    card = model_card(replace(model, contract=contract), "ada/cells")
    assert "| a\\|b | A # B | the likeliest label is the verdict |" in card.splitlines()


def test_the_card_says_use_data_figures_limits_and_licenses(model):
    card = model_card(model, "ada/cells")
    for part in (
        "license: other",
        "pipeline_tag: image-classification",
        "| b | B | the likeliest label is the verdict |",
        "70 train, 15 val",
        "| val | accuracy | 0.812 | |",
        "| val with intervals (thresholds chosen on it) | macro_f1 | 0.750 | 0.700 to 0.800 |",
        "Certificate: passed",
        "## Limits",
        "Weights: BSD-3-Clause",
        "Data: CC BY-NC-SA 4.0",
        "--model hf://ada/cells/model.onnx",
        "trust those of a test set",
        model.digest,
    ):
        assert part in card, part
