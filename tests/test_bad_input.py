"""Mistakes of users: one message, exit code 2 (1 if a part was done), never a traceback."""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish import cli
from blemish.commands import BUILTIN


def image(path, color=(120, 60, 30), size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


@pytest.fixture
def project(tmp_path, monkeypatch, tiny):
    """A folder with a model file, images, tables and recipes, good and bad."""
    monkeypatch.chdir(tmp_path)
    tiny.write_scores_model(Path("model.onnx"))
    tiny.write_scores_model(Path("other.onnx"), labels=("good", "bad"))
    data = Path("model.onnx").read_bytes()
    Path("truncated.onnx").write_bytes(data[: len(data) // 2])
    Path("noise.onnx").write_bytes(np.random.default_rng(0).bytes(4000))
    Path("empty.onnx").touch()
    Path("text.onnx").write_text("not a model at all\n")
    image(Path("photo.jpg"))
    Path("corrupt.jpg").write_bytes(Path("photo.jpg").read_bytes()[:200])
    Path("noise.jpg").write_bytes(b"\xff\xd8\xff\xe0" + np.random.default_rng(1).bytes(2000))
    Path("zero.jpg").touch()
    Path("bomb.png").write_bytes(bomb())
    Path("empty").mkdir()
    for i in range(8):
        image(Path(f"one_label/scratched/{i}.png"), color=(i, 0, 0))
        image(Path(f"two/{'fine' if i % 2 else 'dented'}/{i}.png"), color=(i * 9, 40, 0))
        image(Path(f"table/{i}.png"), color=(0, i * 9, 40))
    lines = [f"{i}.png,{'fine' if i % 2 else 'dented'}" for i in range(8)]
    Path("table/headless.csv").write_text("\n".join(lines))
    Path("table/labels.csv").write_text("\n".join(["filename,label", *lines]))
    Path("table/missing.csv").write_text("\n".join(["filename,label", *lines, "gone.png,fine"]))
    Path("table/pipes.csv").write_text("\n".join(["filename§label", *(x.replace(",", "§") for x in lines)]))
    flags = [f"{i}.png,{i % 2},{i // 2 % 2}" for i in range(8)] * 2
    slip = "\n".join(["filename,dented,rusty", *flags, "0.png,0,2"])
    Path("table/slip.csv").write_text(slip)
    Path("table/other.csv").write_text(
        "\n".join(["filename,label", *(x.replace("fine", "rusty") for x in lines)])
    )
    Path("broken.yaml").write_text("training: [unclosed\n")
    Path("unknown.yaml").write_text("training: {epoch: 3}\n")
    Path("impossible.yaml").write_text("training: {batch_size: -3}\n")
    return tmp_path


def bomb() -> bytes:
    """Return a PNG whose header states 100 megapixels, with almost no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = (10_000).to_bytes(4, "big") * 2
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + b"\x08\x02\x00\x00\x00")
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


def run(arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["blemish", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


PREDICT = ["predict", "--model", "model.onnx"]
TRAIN = ["train", "--weights", "none", "--epochs", "1", "--output", "run"]
EVALUATE = ["evaluate", "--model", "model.onnx"]
CASES = {  # name: (arguments, error code, a fact that the message must contain)
    "missing image": ([*PREDICT, "gone.jpg"], "bad-input.not-found", "gone.jpg"),
    "missing model file": (
        ["predict", "--model", "gone.onnx", "photo.jpg"],
        "bad-model-file.missing-file",
        "gone.onnx",
    ),
    "folder as model": (["predict", "--model", "two", "photo.jpg"], "bad-model-file.folder", "two"),
    "empty model file": (
        ["predict", "--model", "empty.onnx", "photo.jpg"],
        "bad-model-file.empty",
        "empty.onnx",
    ),
    "text as model": (
        ["predict", "--model", "text.onnx", "photo.jpg"],
        "bad-model-file.not-onnx",
        "text.onnx",
    ),
    "noise as model": (
        ["predict", "--model", "noise.onnx", "photo.jpg"],
        "bad-model-file.not-onnx",
        "noise.onnx",
    ),
    "truncated model": (
        ["predict", "--model", "truncated.onnx", "photo.jpg"],
        "bad-model-file.truncated",
        "truncated",
    ),
    "empty folder": ([*PREDICT, "empty"], "bad-input.no-images", "empty"),
    "unknown backend": ([*PREDICT, "photo.jpg", "--backend", "onnx"], "unknown-name.backend", "onnxruntime"),
    "no data": (TRAIN, "bad-recipe", "--data"),
    "missing data": ([*TRAIN, "--data", "gone"], "bad-dataset", "gone"),
    "empty data folder": ([*TRAIN, "--data", "empty"], "bad-dataset.empty-folder", "empty"),
    "one label only": ([*TRAIN, "--data", "one_label"], "bad-dataset.too-few-labels", "scratched"),
    "table without header": (
        [*TRAIN, "--data", "table/headless.csv"],
        "bad-dataset.no-header",
        "headless.csv",
    ),
    "table with the wrong delimiter": (
        [*TRAIN, "--data", "table/pipes.csv"],
        "bad-dataset.one-column",
        "pipes.csv",
    ),
    "table that names a missing image": (
        [*TRAIN, "--data", "table/missing.csv"],
        "bad-dataset.missing-image",
        "gone.png",
    ),
    "flag that is neither 0 nor 1": (
        [*TRAIN, "--data", "table/slip.csv"],
        "bad-dataset.flag-value",
        "slip.csv:18: column 'rusty'",
    ),
    "input size of 0": (
        [*TRAIN, "--data", "two", "--set", "model.input_size=0"],
        "bad-recipe.invalid-value",
        "model.input_size",
    ),
    "beta above 1": (
        [*TRAIN, "--data", "two", "--set", "training.optimizer.betas=[1.5,2]"],
        "bad-recipe.invalid-value",
        "betas",
    ),
    "infinite gamma": (
        [*TRAIN, "--data", "two", "--set", "training.loss.gamma=.inf"],
        "bad-recipe.invalid-value",
        "gamma",
    ),
    "white level above 16 bits": (
        [*TRAIN, "--data", "two", "--set", "data.white_level=100000"],
        "bad-recipe.invalid-value",
        "white_level",
    ),
    "unreadable recipe": (
        [*TRAIN, "--data", "two", "--recipe", "broken.yaml"],
        "bad-recipe.invalid-yaml",
        "broken.yaml:2",
    ),
    "missing recipe": (
        [*TRAIN, "--data", "two", "--recipe", "gone.yaml"],
        "bad-recipe.recipe-not-found",
        "gone.yaml",
    ),
    "unknown key": (
        [*TRAIN, "--data", "two", "--recipe", "unknown.yaml"],
        "bad-recipe.unknown-key",
        "'epochs'",
    ),
    "impossible value": (
        [*TRAIN, "--data", "two", "--recipe", "impossible.yaml"],
        "bad-recipe.invalid-value",
        "training.batch_size",
    ),
    "setting without value": (
        [*TRAIN, "--data", "two", "--set", "training.epochs"],
        "bad-recipe.invalid-setting",
        "training.epochs",
    ),
    "unknown architecture": (
        [*TRAIN, "--data", "two", "--model", "resnet19"],
        "unknown-name.architecture",
        "'resnet1",
    ),
    "unknown device": ([*TRAIN, "--data", "two", "--device", "gpu"], "unknown-name.device", "gpu"),
    "missing weights": (
        [*TRAIN, "--data", "two", "--weights", "gone.pth"],
        "bad-weights.missing-file",
        "gone.pth",
    ),
    "label that the model does not have": (
        [*EVALUATE, "--data", "table/other.csv", "--images", "table"],
        "bad-input.label-not-in-model",
        "rusty",
    ),
    "unknown split": ([*EVALUATE, "--data", "two", "--split", "tset"], "unknown-name.split", "tset"),
    "malformed label map": (
        [*EVALUATE, "--data", "two", "--label-map", "x"],
        "bad-input.label-map",
        "--label-map",
    ),
}


# Images that cannot be used have their own line in the output; see test_an_unusable_image_has_its_own_line.
UNUSABLE = {
    "corrupt.jpg": "image-truncated",
    "noise.jpg": "image-truncated",
    "zero.jpg": "bad-image.empty-file",
    "bomb.png": "image-too-large.max-pixels",
}


@pytest.mark.parametrize("case", CASES)
def test_mistake_is_one_message_and_exit_code_2(case, project, capsys, monkeypatch):
    arguments, error_code, fact = CASES[case]
    code, out, err = run(arguments, capsys, monkeypatch)
    text = (out + err).strip()
    assert code == 2, text
    assert fact in text
    assert "Traceback" not in text
    assert len(text.splitlines()) == 1, text
    assert not Path("run/model.onnx").exists()
    code, out, err = run([*arguments, "--json"], capsys, monkeypatch)
    document = json.loads(out)
    assert code == 2 and (document["error"]["code"] + ".").startswith(error_code + ".")
    assert document["error"]["message"] in err


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_image_has_its_own_line(name, project, capsys, monkeypatch):
    code, out, err = run([*PREDICT, name], capsys, monkeypatch)
    assert code == 2 and name in out + err and len((out + err).strip().splitlines()) == 1
    code, out, err = run([*PREDICT, name, "--json"], capsys, monkeypatch)
    document = json.loads(out.splitlines()[0])
    assert code == 2 and name in document["path"]
    assert document["error"]["code"] == UNUSABLE[name]


def test_predict_continues_after_an_unusable_image(project, capsys, monkeypatch):
    code, out, _ = run([*PREDICT, "corrupt.jpg", "photo.jpg", "--json"], capsys, monkeypatch)
    assert code == 1
    assert [("error" in line) for line in out.splitlines()] == [True, False]


def test_unknown_command_is_named(project, capsys, monkeypatch):
    code, _, err = run(["predcit"], capsys, monkeypatch)
    assert code == 2 and "predcit" in err


def test_missing_package_names_the_extra(project, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [n for n in sys.modules if n.startswith(("blemish.training.run", "blemish.models"))]:
        monkeypatch.delitem(sys.modules, name)
    code, _, err = run(["models", "resnet18", "--layers"], capsys, monkeypatch)
    assert code == 2 and "[train]" in err


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files by a POSIX call")
def test_full_disk_is_one_message_and_leaves_no_partial_file(project):
    """A limit on the size of files acts as a full disk: writes fail in the same way."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300));"
        "sys.argv = ['blemish', 'predict', 'photo.jpg', '--model', 'model.onnx', '--output', 'drawn'];"
        "from blemish.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert "drawn" in done.stderr
    assert not list(Path("drawn").glob("*")) if Path("drawn").exists() else True


def test_version_and_help(capsys, monkeypatch):
    code, out, _ = run(["--version"], capsys, monkeypatch)
    assert code == 0 and out.startswith("blemish ")
    code, out, _ = run(["--help"], capsys, monkeypatch)
    assert code == 0
    for command in BUILTIN:
        assert command in out


@pytest.mark.parametrize("command", list(BUILTIN))
def test_help_of_every_command(command, capsys, monkeypatch):
    code, out, _ = run([command, "--help"], capsys, monkeypatch)
    assert code == 0 and "Usage" in out
