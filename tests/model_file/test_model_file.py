import base64
import hashlib
import json
import stat
import sys

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from blemish.errors import BadModelFile
from blemish.model_file import (
    FORMAT_VERSION,
    Contract,
    DecoderSpec,
    Fingerprints,
    InputSpec,
    LabelSpec,
    Licenses,
    OutputSpec,
    ParityCertificate,
    graph_digest,
    read_graph,
    read_model_file,
    write_atomically,
    write_model_file,
)
from blemish.model_file.protobuf import encode_entry
from blemish.structures import Task
from blemish.testing import raises

CONTRACT = Contract(
    architecture="tiny",
    task=Task.MULTILABEL,
    labels=(
        LabelSpec(name="F_Crushed", display_name="Front Crushed"),
        LabelSpec(name="Riß ☂", display_name="Riß"),
    ),
    inputs=(InputSpec(size_hw=(8, 9), resize="letterbox"),),
    outputs=(OutputSpec(name="logits", role="scores", activation="logits"),),
    decoder=DecoderSpec(name="scores", settings={"a": [1, 2, {"b": None}]}),
    temperature=1.25,
    thresholds={"Riß ☂": 0.375},
    metrics={"val": {"macro_f1": 0.1 + 0.2}},
    licenses=Licenses(weights="BSD-3-Clause", data="CC BY-NC-SA 4.0"),
    certificate=ParityCertificate(passed=True, images=9, decisions_changed=0, max_difference=1e-7),
)
# The smallest ONNX file: ir_version 8 and an empty graph.
GRAPH = b"\x08\x08\x3a\x00"
# Metadata of another program, which are kept.
OTHER_METADATA = b"\x72\x0a\x0a\x03abc\x12\x03xyz"


def fingerprints(count=5):
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**64, (6, count), dtype=np.uint64)
    return Fingerprints(words[0], words[1], words[2:].T, rng.integers(0, 2, count).astype(np.uint8))


@pytest.fixture
def path(tmp_path):
    write_model_file(tmp_path / "model.onnx", GRAPH + OTHER_METADATA, CONTRACT, fingerprints())
    return tmp_path / "model.onnx"


def test_read_model_file_returns_what_was_written(path):
    found = read_model_file(path)
    assert found.contract == CONTRACT
    assert found.contract.metrics["val"]["macro_f1"] == 0.1 + 0.2  # to the last bit
    assert found.contract.to_labels().display_name("F_Crushed") == "Front Crushed"
    assert found.contract.threshold_array().tolist() == [0.5, 0.375]
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.graph_digest == hashlib.sha256(GRAPH).hexdigest() == graph_digest(path.read_bytes())
    assert read_graph(path) == GRAPH
    for name in ("pixel", "perceptual", "detail", "split"):
        assert (getattr(found.fingerprints, name) == getattr(fingerprints(), name)).all()
    ones = int(fingerprints().split.sum())
    assert found.fingerprints.split_counts() == {"train": 5 - ones, "val": ones}
    assert fingerprints().split_counts() == {"train": 5 - ones, "val": ones}
    assert Fingerprints.none().split_counts() == {"train": 0, "val": 0}


def test_write_model_file_writes_a_file_that_onnx_reads(path):
    onnx = pytest.importorskip("onnx")
    properties = {p.key: p.value for p in onnx.load_model(str(path)).metadata_props}
    assert properties["abc"] == "xyz"
    assert json.loads(properties["blemish"])["labels"][1]["name"] == "Riß ☂"
    assert set(properties) == {"abc", "blemish", "blemish.fingerprints", "blemish.sha256"}


def test_read_model_file_accepts_a_file_that_onnx_wrote_again(path):
    onnx = pytest.importorskip("onnx")
    onnx.save_model(onnx.load_model(str(path)), str(path))
    assert read_model_file(path).contract == CONTRACT


def test_graph_digest_ignores_the_position_of_metadata(tmp_path):
    entry = encode_entry("blemish", CONTRACT.model_dump_json())
    first, second = GRAPH[:2], GRAPH[2:]
    for i, content in enumerate(
        [entry + GRAPH, first + entry + second + OTHER_METADATA, OTHER_METADATA + GRAPH + entry]
    ):
        path = tmp_path / f"{i}.onnx"
        path.write_bytes(content)
        found = read_model_file(path)
        assert found.graph_digest == hashlib.sha256(GRAPH).hexdigest()
        assert found.digest == hashlib.sha256(content).hexdigest()


def test_write_model_file_replaces_the_contract_and_keeps_the_graph(path):
    before = read_model_file(path)
    after = write_model_file(path, path.read_bytes(), CONTRACT.model_copy(update={"name": "second"}))
    assert after.contract.name == "second"
    assert after.graph_digest == before.graph_digest
    assert after.digest != before.digest
    assert after.fingerprints.pixel.size == 0
    assert path.read_bytes().count(b"format_version") == 1
    assert OTHER_METADATA in path.read_bytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not-onnx"),
        (b"PK\x03\x04" + bytes(100), "not-onnx"),
        (b"name: recipe\nepochs: 3\n", "not-onnx"),
        (b"\x08\x08", "not-onnx"),
        (GRAPH, "no-contract"),
        (GRAPH + OTHER_METADATA, "no-contract"),
        (b"\x08\x01" * 60_000 + GRAPH, "not-onnx"),
    ],
    ids=["empty", "png", "zip", "text", "no-graph", "onnx", "other-metadata", "too-many-fields"],
)
def test_read_model_file_names_a_file_of_another_kind(tmp_path, content, reason):
    path = tmp_path / "thing.onnx"
    path.write_bytes(content)
    with raises(f"bad-model-file.{reason}", path) as caught:
        read_model_file(path)
    assert caught.message.startswith(str(path))


def test_read_model_file_names_missing_files_folders_and_impossible_names(tmp_path):
    with raises("bad-model-file.missing-file", "none.onnx"):
        read_model_file(tmp_path / "none.onnx")
    with raises("bad-model-file.folder", tmp_path / "model.onnx"):
        read_model_file(tmp_path)
    with raises("bad-model-file.unreadable"):
        read_model_file("a\0b")
    with raises("bad-model-file.missing-file", "none.onnx"):
        read_graph(tmp_path / "none.onnx")


def with_contract(path, text):
    raw = text if isinstance(text, str) else json.dumps(text)
    path.write_bytes(GRAPH + encode_entry("blemish", raw))
    return path


def damaged(**changes):
    raw = json.loads(CONTRACT.model_dump_json())
    for key, value in changes.items():
        *places, last = key.split("__")
        part = raw
        for place in places:
            part = part[int(place) if place.isdecimal() else place]
        part[int(last) if last.isdecimal() else last] = value
    return raw


@pytest.mark.parametrize(
    ("raw", "fact"),
    [
        ("", "JSON"),
        ("[]", "format_version"),
        ('{"format_version": "1"}', "format_version"),
        ('{"format_version": true}', "format_version"),
        ('{"format_version": 1}', "architecture"),
        ('{"format_version": 2}', "architecture"),
        (damaged(task="clasification"), "task"),
        (damaged(labels=[]), "multilabel"),
        (damaged(labels__1={"name": "F_Crushed", "display_name": "x"}), "F_Crushed"),
        (damaged(labels__1={"name": " ", "display_name": "x"}), "label 1"),
        (damaged(labels__1={"name": "x", "title": "x"}), "labels.1"),
        (damaged(thresholds={"scratch": 0.5}), "scratch"),
        (damaged(thresholds={"F_Crushed": 1.5}), "thresholds.F_Crushed"),
        (damaged(temperature=0), "temperature"),
        (damaged(inputs=[]), "inputs"),
        (damaged(outputs=[]), "outputs"),
        (damaged(inputs__0__size_hw=[0, 8]), "inputs.0.size_hw.0"),
        (damaged(inputs__0__size_hw=[10**9, 10**9]), "inputs.0.size_hw.0"),
        (damaged(inputs__0__std=[1, 0, 1]), "inputs.0.std.1"),
        (damaged(inputs__0__mean=[0.5]), "mean and std: expected 3"),
        (damaged(inputs__0__white_level=0), "inputs.0.white_level"),
        (damaged(inputs__0__colour="yes"), "inputs.0.colour"),
        (damaged(outputs=[{"name": "a", "role": "x"}] * 2), "two outputs"),
    ],
)
def test_read_model_file_names_what_is_damaged_in_a_contract(tmp_path, raw, fact):
    with raises("bad-model-file.damaged-contract", "model.onnx", fact) as caught:
        read_model_file(with_contract(tmp_path / "model.onnx", raw))
    assert "\n" not in caught.message


def test_read_model_file_refuses_a_later_format(tmp_path):
    later = damaged(format_version=FORMAT_VERSION + 1, blemish_version="9.1")
    with raises("bad-model-file.later-format", "model.onnx", "9.1", FORMAT_VERSION + 1, FORMAT_VERSION):
        read_model_file(with_contract(tmp_path / "model.onnx", later))


def test_input_spec_refuses_another_number_of_means_than_channels():
    with pytest.raises(ValidationError, match="mean and std: expected 1"):
        InputSpec(size_hw=(8, 8), channels=1)


@pytest.mark.parametrize("text", ["?", "AAAA", "é", base64.b64encode(bytes(16)).decode()])
def test_fingerprints_from_text_refuses_damaged_text(text):
    with raises("bad-model-file.damaged-fingerprints"):
        Fingerprints.from_text(text)


def test_read_model_file_names_every_truncation(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BadModelFile):
            read_model_file(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_read_model_file_reads_or_names_any_mutation(path, data):
    whole = bytearray(model_file_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        if data.draw(st.booleans()):
            whole[at] = data.draw(st.integers(0, 255))
        else:
            whole[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=12))
            whole = whole or bytearray(b"\x00")
    path.write_bytes(bytes(whole))
    try:
        read_model_file(path)
    except BadModelFile as error:
        assert str(path) in str(error) or "fingerprints" in str(error)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
@example(b"\xff" * 50)
@example(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
def test_read_model_file_names_any_bytes(tmp_path, content):
    path = tmp_path / "any.onnx"
    path.write_bytes(content)
    with pytest.raises(BadModelFile):
        read_model_file(path)


def model_file_bytes():
    entries = {"blemish": CONTRACT.model_dump_json(), "blemish.fingerprints": fingerprints().to_text()}
    return GRAPH + OTHER_METADATA + b"".join(encode_entry(k, v) for k, v in entries.items())


def test_write_model_file_refuses_bytes_that_are_no_graph(tmp_path):
    for graph in (b"", b"nonsense", b"\x08\x08"):
        with raises("bad-model-file.not-onnx"):
            write_model_file(tmp_path / "model.onnx", graph, CONTRACT)
    assert list(tmp_path.iterdir()) == []


class FullDisk:
    """A file on a full disk."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data):
        self.file.write(bytes(data[: len(data) // 2]))
        raise OSError(28, "No space left on device")


def test_write_model_file_keeps_the_earlier_file_on_a_full_disk(path, monkeypatch):
    before = path.read_bytes()
    opened = type(path).open
    monkeypatch.setattr(type(path), "open", lambda self, mode="r", *a: FullDisk(opened(self, mode, *a)))
    with raises("storage-full", path, "No space left on device"):
        write_model_file(path, GRAPH, CONTRACT)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such permission there")
def test_write_atomically_names_a_file_in_a_read_only_folder(tmp_path):
    import os

    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with raises("storage-full.read-only", tmp_path / "a"):
            write_atomically(tmp_path / "a", b"1")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_write_atomically_names_a_file_in_the_place_of_its_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with raises("storage-full", tmp_path / "run" / "model.onnx"):
        write_atomically(tmp_path / "run" / "model.onnx", b"1")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"training": {"temperature_fitted_on": "val"}}, "val"),
        ({}, ""),
        ({"temperature": 1.5}, ""),
        ({"temperature": 1.5, "recipe": {"training": {}}}, "val"),
        ({"temperature": 1.5, "recipe": {"few": {}}}, "train (cross-validated)"),
    ],
)
def test_contract_temperature_fitted_on(tiny, fields, expected):
    assert tiny.contract(**fields).temperature_fitted_on == expected


def test_read_model_file_notices_every_flipped_bit(tmp_path, tiny):
    """In the weights, where no other check looks, and anywhere else."""
    path = tiny.write_scores_model(tmp_path / "model.onnx").path
    content = path.read_bytes()
    weights = tiny.scores_graph()
    start = content.index(onnx.load_from_string(weights).graph.initializer[0].raw_data)
    rng = np.random.default_rng(0)
    places = [*rng.integers(start, start + 8 * 8 * 3 * 2 * 4, 100), *rng.integers(0, len(content), 200)]
    before = read_model_file(path)
    for i, place in enumerate(places):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            after = read_model_file(path)
        except BadModelFile as error:
            assert i >= 100 or error.code == "bad-model-file.wrong-checksum"
        else:  # the bit is in the name of the checksum's own entry
            assert i >= 100 and b"blemish.sha256" in content[place - 14 : place + 14]
            assert (after.contract, after.graph_digest) == (before.contract, before.graph_digest)


def test_read_model_file_verifies_a_file_of_an_earlier_version_by_its_certificate(tmp_path, tiny):
    graph = tiny.scores_graph()
    proof = ParityCertificate(
        passed=True, images=1, decisions_changed=0, max_difference=0, graph_digest=graph_digest(graph)
    )
    contract = tiny.contract(certificate=proof)
    path = tmp_path / "model.onnx"
    path.write_bytes(graph + encode_entry("blemish", contract.model_dump_json()))
    assert read_model_file(path).contract == contract
    changed = bytearray(path.read_bytes())
    changed[changed.index(onnx.load_from_string(graph).graph.initializer[0].raw_data)] ^= 1
    path.write_bytes(changed)
    with raises("bad-model-file.wrong-checksum", path.name):
        read_model_file(path)


def test_read_model_file_does_not_depend_on_the_order_of_metadata(tmp_path, tiny):
    """Another program may add an entry and write all fields in another order."""
    path = tiny.write_scores_model(tmp_path / "model.onnx").path
    proto = onnx.load_from_string(path.read_bytes())
    entries = [(entry.key, entry.value) for entry in proto.metadata_props]
    del proto.metadata_props[:]
    content = proto.SerializeToString()
    for key, value in [*reversed(entries), ("author", "somebody")]:
        content += encode_entry(key, value)
    path.write_bytes(content)
    assert read_model_file(path).contract == tiny.contract()
