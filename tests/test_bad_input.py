"""What a user does wrong: one clear sentence, exit code 2 (1 where part was done), never a traceback."""

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


def image(path, colour=(120, 60, 30), size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def world(tmp_path, monkeypatch, tiny):
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
        image(Path(f"one_label/scratched/{i}.png"), colour=(i, 0, 0))
        image(Path(f"two/{'fine' if i % 2 else 'dented'}/{i}.png"), colour=(i * 9, 40, 0))
        image(Path(f"table/{i}.png"), colour=(0, i * 9, 40))
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
    """The header of a PNG of 100 megapixels, and next to nothing behind it."""

    def chunk(kind, data):
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
CASES = {
    "missing image": ([*PREDICT, "gone.jpg"], "gone.jpg"),
    "missing model file": (["predict", "--model", "gone.onnx", "photo.jpg"], "gone.onnx: no such file"),
    "a folder as model": (["predict", "--model", "two", "photo.jpg"], "blemish: two: this is a folder"),
    "an empty model file": (["predict", "--model", "empty.onnx", "photo.jpg"], ": the file is empty"),
    "a text as model": (["predict", "--model", "text.onnx", "photo.jpg"], "no ONNX model file"),
    "noise as model": (["predict", "--model", "noise.onnx", "photo.jpg"], "no ONNX model file"),
    "a truncated model": (["predict", "--model", "truncated.onnx", "photo.jpg"], "cut short"),
    "an empty folder to look at": ([*PREDICT, "empty"], "empty"),
    "a corrupt image": ([*PREDICT, "corrupt.jpg"], "corrupt.jpg"),
    "noise as image": ([*PREDICT, "noise.jpg"], "noise.jpg"),
    "an empty image": ([*PREDICT, "zero.jpg"], "zero.jpg"),
    "a bomb of 100 megapixels": ([*PREDICT, "bomb.png"], "bomb.png"),
    "an unknown backend": ([*PREDICT, "photo.jpg", "--backend", "onnx"], "onnxruntime"),
    "no data": ([*TRAIN], "--data"),
    "missing data": ([*TRAIN, "--data", "gone"], "gone"),
    "an empty data folder": ([*TRAIN, "--data", "empty"], "empty"),
    "one label only": ([*TRAIN, "--data", "one_label"], "scratched"),
    "a table without header": ([*TRAIN, "--data", "table/headless.csv"], "header"),
    "a table with the wrong delimiter": ([*TRAIN, "--data", "table/pipes.csv"], "pipes.csv"),
    "a table that names a missing image": ([*TRAIN, "--data", "table/missing.csv"], "gone.png"),
    "a flag that is neither 0 nor 1": ([*TRAIN, "--data", "table/slip.csv"], "slip.csv:18: column 'rusty'"),
    "no input at all": ([*TRAIN, "--data", "two", "--set", "model.input_size=0"], "model.input_size"),
    "a beta above 1": ([*TRAIN, "--data", "two", "--set", "training.optimizer.betas=[1.5,2]"], "betas"),
    "an endless gamma": ([*TRAIN, "--data", "two", "--set", "training.loss.gamma=.inf"], "gamma"),
    "a white beyond 16 bits": ([*TRAIN, "--data", "two", "--set", "data.white_level=100000"], "white_level"),
    "an unreadable recipe": ([*TRAIN, "--data", "two", "--config", "broken.yaml"], "broken.yaml:"),
    "a missing recipe": ([*TRAIN, "--data", "two", "--config", "gone.yaml"], "gone.yaml"),
    "an unknown key": ([*TRAIN, "--data", "two", "--config", "unknown.yaml"], "did you mean 'epochs'"),
    "an impossible value": ([*TRAIN, "--data", "two", "--config", "impossible.yaml"], "training.batch_size"),
    "a setting without value": ([*TRAIN, "--data", "two", "--set", "training.epochs"], "key=value"),
    "an unknown architecture": ([*TRAIN, "--data", "two", "--model", "resnet19"], "did you mean 'resnet1"),
    "an unknown device": ([*TRAIN, "--data", "two", "--device", "gpu"], "gpu"),
    "missing weights": ([*TRAIN, "--data", "two", "--weights", "gone.pth"], "gone.pth"),
    "labels the model does not know": (
        ["evaluate", "--model", "model.onnx", "--data", "table/other.csv", "--images", "table"], "rusty"),
    "an unknown split": (["evaluate", "--model", "model.onnx", "--data", "two", "--split", "tset"], "tset"),
    "a map that is none": (["evaluate", "--model", "model.onnx", "--data", "two", "--label-map", "x"], "--label-map"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_and_exit_code_2(case, world, capsys, monkeypatch):
    arguments, named = CASES[case]
    code, out, err = run(arguments, capsys, monkeypatch)
    said = (out + err).strip()
    assert code == 2, said
    assert named in said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1, said
    assert not Path("run/model.onnx").exists()


def test_a_broken_image_among_good_ones_is_told_and_the_rest_goes_on(world, capsys, monkeypatch):
    code, out, _ = run([*PREDICT, "corrupt.jpg", "photo.jpg", "--json"], capsys, monkeypatch)
    assert code == 1
    assert [("error" in line) for line in out.splitlines()] == [True, False]


def test_an_unknown_verb_is_named(world, capsys, monkeypatch):
    code, _, err = run(["predcit"], capsys, monkeypatch)
    assert code == 2 and "predcit" in err


def test_a_missing_package_says_which_extra_to_install(world, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [n for n in sys.modules if n.startswith(("blemish.training.run", "blemish.models"))]:
        monkeypatch.delitem(sys.modules, name)
    code, _, err = run(["models"], capsys, monkeypatch)
    assert code == 2 and "[train]" in err


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files by a POSIX call")
def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(world):
    """A limit on file size stands for a full disk: writes fail the same way."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300));"
        "sys.argv = ['blemish', 'predict', 'photo.jpg', '--model', 'model.onnx', '--output', 'drawn'];"
        "from blemish.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and "could not be written" in done.stderr
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
