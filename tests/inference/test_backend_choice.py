"""`auto` takes the fastest certified backend, measured once; `certified` and `NAME:PRECISION`."""

import json

import pytest

from blemish.inference import BACKENDS, backend_choice, load, open_backend
from blemish.inference.backend_choice import certified_candidates, installed_candidates
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.inference.latency import Latency
from blemish.model_file import ParityCertificate, read_model_file, write_model_file
from blemish.testing import raises


class StubBuilder:
    """A runtime `stub` that computes in fp32 and bf16; it counts what it opens."""

    def __init__(self):
        self.opened = []

    def is_installed(self):
        return True

    def precisions(self, model_file):
        return ("fp32", "bf16")

    def open(self, model_file, *, device, threads, spinning, precision=None):
        self.opened.append(precision)
        backend = OnnxRuntimeBackend(model_file.path, device="cpu", precision=precision or "fp32")
        backend.name = "stub 1.0 CPU"
        return backend


@pytest.fixture
def stub(monkeypatch, tmp_path):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BLEMISH_AUTO_BACKEND", raising=False)
    builder = StubBuilder()
    BACKENDS.register("stub", builder, module=__name__)
    yield builder
    BACKENDS.unregister("stub")


@pytest.fixture
def times(monkeypatch):
    """Seconds that each candidate takes, and how often they were measured."""
    seconds = {"onnxruntime:fp32": 0.010, "stub:fp32": 0.008, "stub:bf16": 0.004}
    measured = []

    def compare(backends, contract, **options):
        measured.append(sorted(backends))
        return {
            name: Latency(seconds[name], seconds[name], seconds[name], seconds[name], 1) for name in backends
        }

    monkeypatch.setattr(backend_choice, "compare_backends", compare)
    return seconds, measured


def certified(tiny, path, *others, digest=None):
    """Write a model file that is certified for ONNX Runtime and for others: (backend, precision, passed)."""
    file = tiny.write_scores_model(path)

    def proof(backend, precision="fp32", passed=True):
        return ParityCertificate(
            passed=passed,
            images=3,
            decisions_changed=0,
            max_difference=0.0,
            backend=backend,
            precision=precision,
            graph_digest=digest or file.graph_digest,
        )

    contract = file.contract.model_copy(
        update={
            "certificate": proof("onnxruntime 1.31.1 CPUExecutionProvider"),
            "other_certificates": tuple(proof(*other) for other in others),
        }
    )
    return write_model_file(path, tiny.scores_graph(), contract)


def test_auto_measures_once_and_takes_the_fastest_certified_backend(tmp_path, tiny, stub, times):
    file = certified(tiny, tmp_path / "m.onnx", ("stub 1.0 CPU", "fp32"), ("stub 1.0 CPU", "bf16"))
    first = load(file.path)
    assert (first.backend.name.split()[0], first.backend.precision) == ("stub", "bf16")
    assert first.warnings == ()
    assert times[1] == [["onnxruntime:fp32", "stub:bf16", "stub:fp32"]]
    assert load(file.path).backend.precision == "bf16"
    assert len(times[1]) == 1, "the cache answers"
    assert backend_choice.remembered_choice(read_model_file(file.path))["stub:bf16"] == 4.0
    load(file.path, threads=3)
    assert len(times[1]) == 2, "another number of threads is measured again"


def test_auto_leaves_out_what_did_not_pass_or_is_of_another_graph(tmp_path, tiny, stub, times):
    failed = certified(tiny, tmp_path / "a.onnx", ("stub 1.0 CPU", "bf16", False), ("stub 1.0 CPU", "fp32"))
    assert [str(c) for c in certified_candidates(failed)] == ["onnxruntime:fp32", "stub:fp32"]
    assert load(failed.path).backend.precision == "fp32" and load(failed.path).backend.name.startswith("stub")
    other = certified(tiny, tmp_path / "b.onnx", ("stub 1.0 CPU", "bf16"), digest="00" * 32)
    assert certified_candidates(other) == ()
    assert load(other.path).backend.name.startswith("onnxruntime")
    missing = certified(tiny, tmp_path / "c.onnx", ("absent 1.0 CPU", "fp32"))
    assert load(missing.path).backend.name.startswith("onnxruntime")


def test_auto_keeps_the_certified_backend_for_a_small_gain(tmp_path, tiny, stub, times):
    times[0].update({"stub:fp32": 0.0098})
    file = certified(tiny, tmp_path / "m.onnx", ("stub 1.0 CPU", "fp32"))
    assert load(file.path).backend.name.startswith("onnxruntime")


def test_auto_measures_nothing_if_it_is_off(tmp_path, tiny, stub, times, monkeypatch):
    file = certified(tiny, tmp_path / "m.onnx", ("stub 1.0 CPU", "bf16"))
    assert load(file.path, backend="certified").backend.name.startswith("onnxruntime")
    monkeypatch.setenv("BLEMISH_AUTO_BACKEND", "certified")
    assert load(file.path).backend.name.startswith("onnxruntime")
    monkeypatch.delenv("BLEMISH_AUTO_BACKEND")
    monkeypatch.setenv("BLEMISH_CACHE", "")  # each start would measure again
    assert load(file.path).backend.name.startswith("onnxruntime")
    assert not times[1] and not stub.opened


def test_auto_measures_again_if_the_cache_is_damaged(tmp_path, tiny, stub, times):
    file = certified(tiny, tmp_path / "m.onnx", ("stub 1.0 CPU", "fp32"))
    load(file.path)
    (stored,) = (tmp_path / "cache").glob("backend-*.json")
    stored.write_text(json.dumps({**json.loads(stored.read_text()), "content": {"x": "y"}}))
    assert load(file.path).backend.name.startswith("stub")
    assert len(times[1]) == 2


def test_auto_measures_real_backends(tmp_path, tiny, stub):
    file = certified(tiny, tmp_path / "m.onnx", ("stub 1.0 CPU", "fp32"))
    load(file.path)
    found = backend_choice.remembered_choice(read_model_file(file.path))
    assert set(found) == {"onnxruntime:fp32", "stub:fp32"} and min(found.values()) > 0


def test_backend_with_precision(tmp_path, tiny, stub):
    file = tiny.write_scores_model(tmp_path / "m.onnx")
    assert load(file.path, backend="stub:bf16").backend.precision == "bf16"
    assert [str(c) for c in installed_candidates(file) if c.name == "stub"] == ["stub:fp32", "stub:bf16"]
    assert open_backend(file, backend="onnxruntime:fp32").precision == "fp32"
    for name in ("stub:int8", "stub:", "onnxruntime:bf16"):
        with raises("bad-input.precision", name):
            load(file.path, backend=name)
    with raises("unknown-name.backend", "'stubb'"):
        load(file.path, backend="stubb:bf16")


def test_backend_without_certificate_warns_in_bf16(tmp_path, tiny, stub):
    file = certified(tiny, tmp_path / "m.onnx")
    assert "stub in bf16" in load(file.path, backend="stub:bf16").warnings[0]
    assert load(file.path, backend="stub").warnings == ()
    failed = certified(tiny, tmp_path / "f.onnx", ("stub 1.0 CPU", "bf16", False))
    assert "did not pass" in load(failed.path, backend="stub:bf16").warnings[0]
