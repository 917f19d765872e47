import base64
import hashlib
import json
import stat
import sys
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from blemish.errors import BadModelFile, StorageFull
from blemish.model_file import (
    Contract,
    DecoderSpec,
    Fingerprints,
    InputSpec,
    LabelSpec,
    Licences,
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

# An ONNX file of format 1 as Blemish 0.1 wrote it: image (b, 3, 2, 2) -> logits (b, 2); deflated, base64.
VERSION_1 = """
eNq1VN2q20YQjl0nx1FbSNwEUkrBbHt1kI1kWXZsKMV2fiDQkCb0og1BWa1G1hJJK3ZXPj49GHrRx2ihb9IH6Et1duW/lt5WoNXuN7Mz882P
ut3eRZxDwVU2/63tfOXc5gVdQ6+T5lSTi2e4aigvP3Y6dMvVo9YfrbZDHCt17lwBX2fa6cScqt6dXKy5VqTzHIqi19G8vL6sup902/day73m
i/e3/ufn8oH1ZyN60W2wX7796esDrS+cz7ut3kPnonc7ppplTrv7Eb5t88ZfOnsOvc+c+6j26blae9lxbt27L39vOQ/2CRumvFyDrCQv8c6v
rcX3i8OzOu4W3x13y8V/PU9P2/Vx9+QEnowuT9vnJzk7t/WN/Ouucyho78+7NyQVsqA62oBUXJRk7rtkLz5hxBv6Q4+4pKQF4DHlUmk8Usky
roHpWhpYgipB+49Roqn6gAjLqVI85YxqY8glOY0hV2T+9uZg61m0krXKIDG3uM4tJkWp+wd85x6VX0cvTbj5me5roLK/R3fvXMLLqtb/8GAr
izcU/xmi7ApFI3eEmhguIqigMiE1WEYNFmlB5oGxpbF8Im+in5OY57xEf6hYAEXkrTccPw5dXMOJWb0J2lU6sZLRaOaadWzXECUso2Vp+aNx
xaglUJfceL4ymYxy2EBO5pMwDEKXVDSJNjSvUc33x5g9wGGTsdhGNOdrExEDE6IlLmr9b+b7iUNawrpSTCBBUzim+ebAaq9lbCTARIL25kcT
xysKfWM7o/2b3Q7TD0UFkjaVx+ZAJEPFTOSJVTk/R7ouIYmsM2PJmIzSXAh05JmryTV64yyys0TmWtbgkhSs9Sin1yYiYqvDeAVn0TWNaJxJ
yksMz8gUYNPMPUQTqqlBmKhLk5mbRo/MR4ZCAVpyZmFMsvkUlEkRpb4JaxoanZxjhhlYpeYfhVuyfPNkEAxWOa2VaazGDVmt+ssfBy9XgzeL
/tiOi0kmChYVZRkMRoihSQZSNyNhmVQ4ISbehnSVCS3WklYZ+sGK4wgmnGkVmdZZW15miOQa2zVKeJqCNPFhCWAwPVBCl0cmByyKAScdGmZH
kKame/ZYTNkHKNEFEWW5lZgyXkDfHwb+0O+vXv3wdAusNj3zSooNN22C8ZqS7H8SaRWMDOmqxgPdbM3BUsFATbyITsIpC/w0nExY4oejZOZN
xymAl7B4TGcQTEIvmfnJdDIFNoPJeOrPAi9AJT8MRrOZb3uAKlGaNn+32/0NKCLo8Q==
"""

CONTRACT = Contract(
    architecture="tiny",
    task=Task.MULTILABEL,
    labels=(LabelSpec(name="F_Crushed", title="Front Crushed"), LabelSpec(name="Riß ☂", title="Riß")),
    inputs=(InputSpec(size_hw=(8, 9), resize="letterbox"),),
    outputs=(OutputSpec(name="logits", role="scores", activation="logits"),),
    decoder=DecoderSpec(name="scores", settings={"a": [1, 2, {"b": None}]}),
    temperature=1.25,
    thresholds={"Riß ☂": 0.375},
    metrics={"val": {"macro_f1": 0.1 + 0.2}},
    licences=Licences(weights="BSD-3-Clause", data="CC BY-NC-SA 4.0"),
    certificate=ParityCertificate(passed=True, images=9, verdicts_changed=0, largest_difference=1e-7),
)
# The least an ONNX file can be: ir_version 8 and an empty graph.
GRAPH = b"\x08\x08\x3a\x00"
# Somebody else's metadata, which stay.
OTHERS = b"\x72\x0a\x0a\x03abc\x12\x03xyz"


def prints(count=5):
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**64, (6, count), dtype=np.uint64)
    return Fingerprints(words[0], words[1], words[2:].T, rng.integers(0, 2, count).astype(np.uint8))


@pytest.fixture
def path(tmp_path):
    write_model_file(tmp_path / "model.onnx", GRAPH + OTHERS, CONTRACT, prints())
    return tmp_path / "model.onnx"


def test_what_was_promised_is_read_back(path):
    found = read_model_file(path)
    assert found.contract == CONTRACT
    assert found.contract.metrics["val"]["macro_f1"] == 0.1 + 0.2  # to the last bit
    assert found.contract.label_vocabulary().display_name("F_Crushed") == "Front Crushed"
    assert found.contract.threshold_array().tolist() == [0.5, 0.375]
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.graph_digest == hashlib.sha256(GRAPH).hexdigest() == graph_digest(path.read_bytes())
    assert read_graph(path) == GRAPH
    for name in ("pixel", "perceptual", "detail", "split"):
        assert (getattr(found.fingerprints, name) == getattr(prints(), name)).all()


def test_onnx_reads_the_file_and_its_metadata(path):
    onnx = pytest.importorskip("onnx")
    properties = {p.key: p.value for p in onnx.load_model(str(path)).metadata_props}
    assert properties["abc"] == "xyz"
    assert json.loads(properties["blemish"])["labels"][1]["name"] == "Riß ☂"
    assert set(properties) == {"abc", "blemish", "blemish.fingerprints"}


def test_a_file_that_onnx_wrote_again_has_the_same_contract(path):
    onnx = pytest.importorskip("onnx")
    onnx.save_model(onnx.load_model(str(path)), str(path))
    assert read_model_file(path).contract == CONTRACT


def test_the_graph_digest_does_not_mind_where_metadata_stand(tmp_path):
    entry = encode_entry("blemish", CONTRACT.model_dump_json())
    first, second = GRAPH[:2], GRAPH[2:]
    for i, content in enumerate([entry + GRAPH, first + entry + second + OTHERS, OTHERS + GRAPH + entry]):
        path = tmp_path / f"{i}.onnx"
        path.write_bytes(content)
        found = read_model_file(path)
        assert found.graph_digest == hashlib.sha256(GRAPH).hexdigest()
        assert found.digest == hashlib.sha256(content).hexdigest()


def test_writing_again_replaces_the_contract_and_leaves_the_graph(path):
    before = read_model_file(path)
    after = write_model_file(path, path.read_bytes(), CONTRACT.model_copy(update={"name": "second"}))
    assert after.contract.name == "second"
    assert after.graph_digest == before.graph_digest
    assert after.digest != before.digest
    assert after.fingerprints.pixel.size == 0
    assert path.read_bytes().count(b"format_version") == 1
    assert OTHERS in path.read_bytes()


def test_a_file_of_version_1_still_loads(tmp_path):
    path = tmp_path / "old.onnx"
    path.write_bytes(zlib.decompress(base64.b64decode(VERSION_1)))
    found = read_model_file(path)
    contract = found.contract
    assert contract.format_version == 1
    assert contract.task is Task.CLASSIFICATION
    assert contract.label_vocabulary().display_names == ("Front Crushed", "Rear Normal")
    assert contract.inputs[0].mean == (0.485, 0.456, 0.406)
    assert contract.certificate.passed
    assert contract.certificate.graph_digest == found.graph_digest
    assert len(found.fingerprints.pixel) == 2

    from blemish.inference import load

    answer = load(path).predict(np.full((5, 6, 3), 128, np.uint8))
    assert answer.label_names == ("R_Normal",)
    assert answer.label_scores[1] == pytest.approx(0.7310585786300049, abs=1e-6)  # logits 0 and 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "no ONNX"),
        (b"PK\x03\x04" + bytes(100), "no ONNX"),
        (b"name: recipe\nepochs: 3\n", "no ONNX"),
        (b"\x08\x08", "no ONNX"),
        (GRAPH, "without Blemish's contract"),
        (GRAPH + OTHERS, "without Blemish's contract"),
        (b"\x08\x01" * 60_000 + GRAPH, "no ONNX"),
    ],
    ids=["empty", "png", "zip", "text", "no-graph", "onnx", "others-metadata", "millions-of-fields"],
)
def test_what_is_no_model_file_is_named(tmp_path, content, said):
    path = tmp_path / "thing.onnx"
    path.write_bytes(content)
    with pytest.raises(BadModelFile, match=said) as caught:
        read_model_file(path)
    assert str(caught.value).startswith(str(path))


def test_missing_files_folders_and_impossible_names_are_named(tmp_path):
    with pytest.raises(BadModelFile, match="no such file"):
        read_model_file(tmp_path / "none.onnx")
    with pytest.raises(BadModelFile, match="this is a folder; did you mean"):
        read_model_file(tmp_path)
    with pytest.raises(BadModelFile):
        read_model_file("a\0b")
    with pytest.raises(BadModelFile):
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
    ("raw", "said"),
    [
        ("", "damaged"),
        ("[]", "names no format"),
        ('{"format_version": "1"}', "names no format"),
        ('{"format_version": true}', "names no format"),
        ('{"format_version": 1}', "damaged at architecture"),
        ("[" * 100_000, "damaged"),
        (damaged(format_version=2, blemish_version="9.1"), "written by Blemish 9.1 in format 2"),
        (damaged(task="clasification"), "damaged at task"),
        (damaged(labels=[]), "without labels"),
        (damaged(labels__1={"name": "F_Crushed", "title": "x"}), "'F_Crushed' appears twice"),
        (damaged(labels__1={"name": " ", "title": "x"}), "label 1"),
        (damaged(thresholds={"scratch": 0.5}), "labels that do not exist: scratch"),
        (damaged(thresholds={"F_Crushed": 1.5}), "damaged at thresholds"),
        (damaged(temperature=0), "damaged at temperature"),
        (damaged(temperature=float("nan")), "damaged at temperature"),
        (damaged(inputs=[]), "damaged at inputs"),
        (damaged(outputs=[]), "damaged at outputs"),
        (damaged(inputs__0__size_hw=[0, 8]), "damaged at inputs.0.size_hw"),
        (damaged(inputs__0__size_hw=[10**9, 10**9]), "damaged at inputs.0.size_hw"),
        (damaged(inputs__0__std=[1, 0, 1]), "damaged at inputs.0.std"),
        (damaged(inputs__0__mean=[0.5]), "one number for each of 3 channels"),
        (damaged(inputs__0__white_level=0), "damaged at inputs.0.white_level"),
        (damaged(inputs__0__colour="yes"), "damaged at inputs.0.colour"),
        (damaged(outputs=[{"name": "a", "role": "x"}] * 2), "two outputs of one name"),
    ],
)
def test_a_damaged_contract_is_named(tmp_path, raw, said):
    with pytest.raises(BadModelFile, match=said) as caught:
        read_model_file(with_contract(tmp_path / "model.onnx", raw))
    assert "model.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_contract_that_cannot_be_is_not_even_made():
    with pytest.raises(ValidationError, match="one number for each of 1 channels"):
        InputSpec(size_hw=(8, 8), channels=1)


@pytest.mark.parametrize("text", ["?", "AAAA", "é", base64.b64encode(bytes(16)).decode()])
def test_damaged_fingerprints_are_named(text):
    with pytest.raises(BadModelFile, match="fingerprints are damaged"):
        Fingerprints.from_text(text)


def test_every_truncation_is_named(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BadModelFile):
            read_model_file(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mutation_is_read_or_named(path, data):
    whole = bytearray(modelfile_bytes())
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
def test_any_bytes_are_named(tmp_path, content):
    path = tmp_path / "any.onnx"
    path.write_bytes(content)
    with pytest.raises(BadModelFile):
        read_model_file(path)


def modelfile_bytes():
    entries = {"blemish": CONTRACT.model_dump_json(), "blemish.fingerprints": prints().to_text()}
    return GRAPH + OTHERS + b"".join(encode_entry(k, v) for k, v in entries.items())


def test_only_a_graph_can_be_written(tmp_path):
    for graph in (b"", b"nonsense", b"\x08\x08"):
        with pytest.raises(BadModelFile):
            write_model_file(tmp_path / "model.onnx", graph, CONTRACT)
    assert list(tmp_path.iterdir()) == []


class FullDisk:
    """A file that takes no more."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data):
        self.file.write(bytes(data[: len(data) // 2]))
        raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_the_earlier_file_intact(path, monkeypatch):
    before = path.read_bytes()
    opened = type(path).open
    monkeypatch.setattr(type(path), "open", lambda self, mode="r", *a: FullDisk(opened(self, mode, *a)))
    with pytest.raises(StorageFull, match="No space left on device"):
        write_model_file(path, GRAPH, CONTRACT)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such permission there")
def test_a_read_only_folder_is_named(tmp_path):
    import os

    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(StorageFull, match="could not be written"):
            write_atomically(tmp_path / "a", b"1")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(StorageFull):
        write_atomically(tmp_path / "run" / "model.onnx", b"1")
