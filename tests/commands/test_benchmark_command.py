import json
import subprocess
import sys

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from blemish.commands import benchmark_command as command
from blemish.inference import load
from blemish.inference.benchmark import measure, peak_memory_mib
from blemish.testing import raises


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny):
    return tiny.write_scores_model(tmp_path_factory.mktemp("model") / "model.onnx").path


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def run(*arguments):
    app = typer.Typer()
    app.command()(command.benchmark)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_measure_stages_add_up_and_percentiles_ascend(model, images):
    speed = measure(load(model), sorted(images.glob("*.png")) * 4, batch_size=4, load_seconds=1.5)
    assert speed.images == 12
    assert speed.load_seconds == 1.5
    assert speed.images_per_second > 1
    stages = speed.latency_ms
    assert list(stages) == ["read", "prepare", "infer", "decode", "total"]
    assert stages["total"]["mean"] == pytest.approx(sum(stages[s]["mean"] for s in list(stages)[:4]))
    for figures in stages.values():
        assert 0 < figures["p50"] <= figures["p95"] <= figures["p99"]
    assert speed.peak_memory_mib is None or speed.peak_memory_mib > 20
    json.dumps(speed.to_dict())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems include the memory of parent processes")
def test_peak_memory_excludes_parent_process():
    ballast = np.ones(40_000_000)  # 305 MiB, inherited by fork
    code = "from blemish.inference.benchmark import peak_memory_mib; print(peak_memory_mib())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 10 < float(done.stdout) < 200 < peak_memory_mib()
    assert ballast[0]


def test_measure_refuses_broken_image_and_no_images(model, images):
    (images / "broken.jpg").write_bytes(b"x")
    with raises("image-undecodable.unsupported-format", "broken.jpg"):
        measure(load(model), [images / "broken.jpg"])
    with raises("bad-input.no-images"):
        measure(load(model), [])


def test_benchmark_one_backend(model, images, monkeypatch):
    monkeypatch.setattr(command, "COLD_STARTS", 1)
    result = run(images, "--model", model, "--backend", "onnxruntime", "--count", 5, "--json")
    assert result.exit_code == 0, result.output
    speed = json.loads(result.stdout)
    assert speed["images"] == 5
    assert speed["backend"].startswith("onnxruntime")
    assert speed["cold_start_seconds"] > 0.05


@pytest.mark.slow
def test_benchmark_every_backend_in_its_own_process(model):
    pytest.importorskip("openvino")
    result = run("--model", model, "--count", 4, "--json")
    assert result.exit_code == 0, result.output
    names = [json.loads(line)["backend"].split()[0] for line in result.stdout.splitlines()]
    assert names == ["onnxruntime", "openvino"]
    shown = run("--model", model, "--count", 4)
    for word in ("network", "resize and normalize", "cold start", "openvino"):
        assert word in shown.stdout


def test_benchmark_prints_each_backend_when_it_ends_and_never_takes_torch(model, monkeypatch):
    """A run's folder contains what the backend torch needs; it is measured only if it is named."""
    for name in ("weights.safetensors", "recipe.yaml"):
        (model.parent / name).write_text("")
    asked = []

    def measured(arguments, **_):
        name = arguments[arguments.index("--backend") + 1]
        asked.append(name)
        if name == "openvino":
            error = {"schema_version": 1, "error": {"code": "missing-extra", "message": "not installed"}}
            return subprocess.CompletedProcess(arguments, 2, json.dumps(error), "")
        row = {
            "schema_version": 1,
            "backend": f"{name} 1.0",
            "images": 4,
            "latency_ms": {"total": {"p50": 2.0, "p95": 3.0}},
            "batch_size": 1,
            "images_per_second": 500.0,
            "peak_memory_mib": None,
            "load_seconds": 0.1,
            "cold_start_seconds": None,
        }
        return subprocess.CompletedProcess(arguments, 0, json.dumps(row), "")

    print_row = command._print_row

    def printed(row, **options):
        asked.append(f"printed {row['backend']}")
        print_row(row, **options)

    monkeypatch.setattr(subprocess, "run", measured)
    monkeypatch.setattr(command, "_print_row", printed)
    several = run("--model", model, "--backend", "onnxruntime", "--backend", "openvino", "--count", 4)
    assert asked == ["onnxruntime", "printed onnxruntime 1.0", "openvino"]
    assert several.exception.code == "missing-extra"
    assert "onnxruntime 1.0: 2.0 ms per image" in several.stdout  # what was measured is not lost
    asked.clear()
    monkeypatch.setattr(command, "_installed_backends", lambda: ["onnxruntime", "openvino"])
    run("--model", model.parent, "--count", 4, "--json")
    assert asked == ["onnxruntime", "printed onnxruntime 1.0", "openvino"]


def test_installed_backends_are_those_of_model_files():
    assert "torch" not in command._installed_backends()
    assert "onnxruntime" in command._installed_backends()


def test_benchmark_refuses_unknown_backend_and_missing_images(model, images):
    single = run(images, "--model", model, "--backend", "tensorflow")
    assert single.exception.code == "unknown-name.backend"
    several = run(images, "--model", model, "--backend", "tensorflow", "--backend", "onnxruntime")
    assert several.exception.code == "unknown-name.backend"
    assert "'tensorflow'" in str(several.exception)
    missing_model = run("--model", images / "gone.onnx")
    assert missing_model.exception.code == "bad-model-file.missing-file"
    missing = run(images / "gone", "--model", model, "--backend", "onnxruntime")
    assert missing.exception.code == "bad-input.not-found"
