import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from blemish.commands.predict_command import predict
from blemish.commands.prediction_file import PredictionFile
from blemish.errors import BadModelFile, StorageFull
from blemish.inference import load
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.model_file import lock_file
from blemish.testing import raises

SOURCE = str(Path(__file__).parents[2] / "src")


def run(*arguments):
    app = typer.Typer()
    app.command()(predict)
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def place(tmp_path, tiny):
    """A folder with a model file, six images of four names and a damaged one."""
    tiny.write_scores_model(tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/3.png", "c/1.png", "c/4.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    (tmp_path / "photos/b/2.png").write_bytes(b"nothing")
    return tmp_path


def command(place, name, *more):
    return [
        *(place / "photos", "--model", place / "model.onnx"),
        *("--output-json", place / f"{name}.jsonl", *more),
    ]


def interrupt_after(monkeypatch, count):
    """Fail when the result after `count` results is appended."""
    add = PredictionFile.add
    seen: list[Any] = []

    def fail(self, *arguments, **options):
        if len(seen) == count:
            raise StorageFull("no space")
        seen.append(1)
        add(self, *arguments, **options)

    monkeypatch.setattr(PredictionFile, "add", fail)


def test_predict_output_json_is_what_json_prints(place):
    printed = run(*command(place, "out", "--json"))
    assert printed.exit_code == 1  # one image is damaged
    assert (place / "out.jsonl").read_text() == printed.stdout
    assert [p.name for p in place.iterdir() if "out" in p.name] == ["out.jsonl"]
    assert run(*command(place, "out")).exit_code == 1  # a complete file is replaced
    assert (place / "out.jsonl").read_text() == printed.stdout


@pytest.mark.parametrize("count", [1, 3, 6])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_predict_resume_does_only_what_is_missing(place, monkeypatch, count, batch_size):
    options = ("--batch-size", batch_size)
    assert run(*command(place, "whole", *options)).exit_code == 1
    with monkeypatch.context() as patch:
        interrupt_after(patch, count)
        stopped = run(*command(place, "cut", *options))
    assert stopped.exit_code == 1 and "--resume" in stopped.stderr
    assert not (place / "cut.jsonl").exists()
    again = run(*command(place, "cut", *options))
    assert again.exception.code == "bad-input.interrupted-run"
    resumed = run(*command(place, "cut", "--resume", *options))
    assert resumed.exit_code == 1
    assert len(resumed.stdout.splitlines()) == 7 - count // batch_size * batch_size
    assert (place / "cut.jsonl").read_bytes() == (place / "whole.jsonl").read_bytes()
    assert not (place / "cut.jsonl.partial").exists()
    assert run(*command(place, "cut", "--resume", *options)).exception.code == "bad-input.nothing-to-resume"


def test_predict_resume_starts_a_run_that_was_never_begun(place):
    assert run(*command(place, "out", "--resume")).exit_code == 1
    assert len((place / "out.jsonl").read_text().splitlines()) == 7


def test_predict_resume_without_a_file(place):
    result = run(place / "photos", "-m", place / "model.onnx", "--resume")
    assert result.exception.code == "bad-input.resume"


@pytest.mark.parametrize("change", ["model", "option", "both"])
def test_predict_resume_refuses_another_model_and_other_options(place, tiny, monkeypatch, change):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        run(*command(place, "out"))
    before = (place / "out.jsonl.partial").read_bytes()
    if change != "option":
        tiny.write_scores_model(place / "model.onnx", seed=1)
    more = [] if change == "model" else ["--max-megapixels", 3]
    result = run(*command(place, "out", "--resume", *more))
    assert result.exception.code == "bad-input.other-options"
    assert ("model digest" in str(result.exception)) == (change != "option")
    assert ("max megapixels: 64" in str(result.exception)) == (change != "model")
    assert (place / "out.jsonl.partial").read_bytes() == before


def test_predict_resume_sees_changed_new_and_vanished_images(place, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 5)
        run(*command(place, "out", "--output", place / "drawn"))
    (place / "photos/a/2.png").unlink()
    Image.new("RGB", (9, 9), "red").save(place / "photos/a/1.png")
    Image.new("RGB", (9, 9), "blue").save(place / "photos/a/0.png")
    (place / "drawn/3.blemish.jpg").unlink()
    resumed = run(*command(place, "out", "--resume", "--output", place / "drawn"))
    assert resumed.exit_code == 1
    names = [Path(line.split(": ")[0]).relative_to(place / "photos") for line in resumed.stdout.splitlines()]
    assert [n.as_posix() for n in names] == ["a/0.png", "a/1.png", "b/3.png", "c/1.png", "c/4.png"]
    rows = [json.loads(line) for line in (place / "out.jsonl").read_text().splitlines()]
    fresh = run(*command(place, "fresh", "--json"))
    keys = ("path", "labels", "error")
    expected = [json.loads(line) for line in fresh.stdout.splitlines()]
    assert [[r.get(k) for k in keys] for r in rows] == [[r.get(k) for k in keys] for r in expected]
    drawn = [Path(r["drawn"]) for r in rows if "drawn" in r]
    assert len(set(drawn)) == len(drawn) == 6 and all(p.is_file() for p in drawn)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"a table\n1,2\n", "partial-file"),
        (b"[1]\n", "partial-file"),
        (b'{"blemish_predict": 9, "options": {}}\n', "other-options"),
        (b"", None),
        (b'{"blemish_pre', None),
    ],
)
def test_predict_resume_from_another_file(place, content, code):
    (place / "out.jsonl.partial").write_bytes(content)
    result = run(*command(place, "out", "--resume"))
    if code is None:
        assert result.exit_code == 1
        assert len((place / "out.jsonl").read_text().splitlines()) == 7
    else:
        assert result.exception.code == f"bad-input.{code}"
        assert (place / "out.jsonl.partial").read_bytes() == content


@pytest.mark.parametrize("damage", ["cut", "zeros", "other bit"])
def test_predict_resume_repeats_what_follows_damage(place, monkeypatch, damage):
    run(*command(place, "whole"))
    with monkeypatch.context() as patch:
        interrupt_after(patch, 5)
        run(*command(place, "out"))
    partial = place / "out.jsonl.partial"
    content = bytearray(partial.read_bytes())
    if damage == "cut":
        del content[-20:]
    elif damage == "zeros":
        content[-600:] = bytes(600)
    else:
        content[content.rindex(b'"score"') + 12] ^= 1
    partial.write_bytes(content)
    assert run(*command(place, "out", "--resume")).exit_code == 1
    assert (place / "out.jsonl").read_bytes() == (place / "whole.jsonl").read_bytes()


def test_predict_output_json_of_a_run_in_progress(place):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    partial = place / "out.jsonl.partial"
    code = (
        "import sys; from blemish.model_file import lock_file\n"
        "file = open(sys.argv[1], 'a+b'); assert lock_file(file)\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, partial],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )
    with holder:
        assert holder.stdout.readline() == b"locked\n"
        result = run(*command(place, "out", "--resume"))
        holder.stdin.close()
    assert result.exception.code == "bad-input.in-use"
    assert partial.exists()


def test_lock_file_is_released_with_its_file(tmp_path):
    for _ in range(2):
        with (tmp_path / "x").open("wb") as file:
            assert lock_file(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs limits of POSIX")
def test_predict_full_disk_keeps_what_is_done(place):
    """The limit of file sizes takes the place of a full disk; the partial file meets it first."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))\n"
        "sys.argv = ['blemish', 'predict', *sys.argv[2:]]\n"
        "from blemish.cli import main\nmain()\n"
    )
    environment = {**os.environ, "PYTHONPATH": SOURCE, "PYTHONDONTWRITEBYTECODE": "1"}
    arguments = [sys.executable, "-c", code, "2000", *command(place, "out")]
    done = subprocess.run(
        [str(a) for a in arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr and "--resume" in done.stderr
    assert not (place / "out.jsonl").exists()
    assert run(*command(place, "out", "--resume")).exit_code == 1
    run(*command(place, "whole"))
    assert (place / "out.jsonl").read_bytes() == (place / "whole.jsonl").read_bytes()


def test_predict_resume_repeats_a_video_that_was_not_drawn_to_its_end(place, monkeypatch):
    pytest.importorskip("av")
    from blemish.inference.video import VideoWriter, read_frames

    with VideoWriter(place / "photos/walk.mp4") as writer:
        for i in range(6):
            writer.write(Image.new("RGB", (64, 48), (40 * i, 90, 20)), i / 10)
    sources = (place / "photos/a/1.png", place / "photos/walk.mp4", place / "photos/a/2.png")
    arguments = [*sources, *command(place, "out", "--output", place / "drawn")[1:]]
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4)
        run(*arguments)
    resumed = run(*arguments, "--resume")
    assert len(resumed.stdout.splitlines()) == 7
    assert len(list(read_frames(place / "drawn/walk.blemish.mp4"))) == 6
    assert len((place / "out.jsonl").read_text().splitlines()) == 8


def test_stream_error_of_the_network_stays_with_its_image(place, monkeypatch):
    """A network may fail on one image, such as one without a single candidate."""
    inner = OnnxRuntimeBackend.run

    def fail_on_dark(self, feeds):
        if (feeds["image"].reshape(len(feeds["image"]), -1).mean(axis=1) < -1).any():
            raise BadModelFile("m.onnx: cannot run", reason="cannot-run")
        return inner(self, feeds)

    monkeypatch.setattr(OnnxRuntimeBackend, "run", fail_on_dark)
    images = [np.full((9, 9, 3), value, np.uint8) for value in (200, 0, 150, 100)]
    results = list(load(place / "model.onnx").stream(images, 4))
    assert [r.error is None for r in results] == [True, False, True, True]
    assert results[1].error.code == "bad-model-file.cannot-run"


def test_stream_unexpected_error_stays_with_its_image(place, monkeypatch):
    predictor = load(place / "model.onnx")
    prepare = predictor.prepare
    images = [np.full((9, 9, 3), value, np.uint8) for value in (200, 0, 150)]

    def fail(image):
        if not image.pixels.any():
            raise ZeroDivisionError("an error that nobody expects")
        return prepare(image)

    monkeypatch.setattr(predictor, "prepare", fail)
    results = list(predictor.stream(images))
    assert [r.error and r.error.code for r in results] == [None, "bad-image.unexpected", None]
    with raises("bad-image.unexpected", "image 1"):
        raise results[1].error


DRIVER = """
import json, os, random, signal, sys
from pathlib import Path

root, kills = Path(sys.argv[1]), int(sys.argv[2])
from blemish.commands import output, predict_command, prediction_file
from blemish.model_file import atomic_write
import blemish.drawing, blemish.inference, rich.progress, typer, onnxruntime

real_write, real_fsync, real_replace = prediction_file.PredictionFile._append, os.fsync, Path.replace
steps = 0


def die_at(step):
    def count():
        global steps
        steps += 1
        return steps == step

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def append(self, line):
        if count():
            self._file.write(line[: len(line) // 2])
            self._file.flush()
            die()
        real_write(self, line)
        if count():
            die()

    def fsync(number):
        if count():
            die()
        real_fsync(number)

    def replace(self, target):
        if count():
            die()
        real_replace(self, target)
        if count():
            die()

    prediction_file.PredictionFile._append = append
    os.fsync, Path.replace = fsync, replace


def start(name, step):
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    die_at(step)
    app = typer.Typer()
    app.command()(predict_command.predict)
    os.chdir(root / name)
    images = ["../photos", "-m", "../model.onnx"]
    app([*images, "--output-json", "out.jsonl", "--resume", "--output", "drawn"])


draw = random.Random(0)
codes = {"cut": []}
assert os.waitstatus_to_exitcode(start("alone", 0)) == 1
for _ in range(kills):
    code = os.waitstatus_to_exitcode(start("cut", draw.randint(1, 14)))
    codes["cut"].append(code)
    if code == 1:
        break
    assert code == -signal.SIGKILL, code
codes["end"] = os.waitstatus_to_exitcode(start("cut", 0)) if code != 1 else code
print(json.dumps(codes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_predict_killed_at_random_moments_equals_an_uninterrupted_run(place):
    for name in ("alone", "cut"):
        (place / name).mkdir()
    (place / "driver.py").write_text(DRIVER)
    done = subprocess.run(
        [sys.executable, str(place / "driver.py"), str(place), "40"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": SOURCE},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout.splitlines()[-1])
    assert codes["end"] == 1 and codes["cut"].count(-9) >= 3
    trees = [
        {p.relative_to(place / name): p.read_bytes() for p in (place / name).rglob("*") if p.is_file()}
        for name in ("alone", "cut")
    ]
    assert sorted(trees[0]) == sorted(trees[1])
    assert trees[0] == trees[1]
