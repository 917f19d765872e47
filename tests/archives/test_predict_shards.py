"""`blemish predict --output-shards` from the outside."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from blemish.commands.predict_command import predict

SOURCE = str(Path(__file__).parents[2] / "src")

# Kills itself at the Nth event of the interpreter's profiler: calls and returns, those of C functions such as
# os.replace included. Without such an event, it prints how many there were.
KILLED = """
import os, signal, sys
from blemish.cli import main
import blemish.commands.predict_shards

count, last = 0, int(sys.argv.pop(1))

def on_event(frame, event, argument):
    global count
    count += 1
    if count == last:
        os.kill(os.getpid(), signal.SIGKILL)

sys.setprofile(on_event)
try:
    main()
finally:
    sys.setprofile(None)
    print(count)
"""


def run(*arguments):
    app = typer.Typer()
    app.command()(predict)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def rows(folder):
    """Return the lines of all shards, in order."""
    return [line for path in sorted(folder.glob("shard-*.jsonl")) for line in path.read_text().splitlines()]


def content(folder):
    """Return the content of all files that a finished run leaves."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_predict_shards_writes_the_rows_of_json(photos, model, tmp_path):
    printed = run(photos, "-m", model, "--json")
    sharded = run(photos, "-m", model, "--output-shards", tmp_path / "out", "--shards", 4)
    assert sharded.exit_code == printed.exit_code == 1  # one image is damaged
    assert rows(tmp_path / "out") == printed.stdout.splitlines()
    assert len(list((tmp_path / "out").glob("shard-*-of-00004.jsonl"))) == 4
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [shard["rows"] for shard in manifest["shards"]] == [3, 4, 3, 4]
    assert [sum(shard["errors"].values()) for shard in manifest["shards"]] == [0, 0, 1, 0]
    assert sorted(content(tmp_path / "out"))[:2] == ["manifest.json", "shard-00000-of-00004.jsonl"]


def test_predict_shards_prints_a_summary(photos, model, tmp_path):
    result = run(photos, "-m", model, "--output-shards", tmp_path / "out", "--json")
    summary = json.loads(result.stdout)
    assert summary["rows"] == 14 and summary["failed"] == 1 and summary["shards"] == 1
    assert list(summary["errors"].values()) == [1]
    again = json.loads(
        run(photos, "-m", model, "--output-shards", tmp_path / "out", "--json", "--resume").stdout
    )
    assert again == {**summary, "reused_shards": 1}


def test_predict_shards_exit_codes(photos, model, tmp_path):
    assert run(photos / "a", "-m", model, "--output-shards", tmp_path / "good").exit_code == 0
    assert run(photos / "b/2.png", "-m", model, "--output-shards", tmp_path / "bad").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--shards", "4"], "bad-input.shards"),
        (["--output-shards", "out", "--shards", "15"], "bad-input.shards"),
        (["--output-shards", "out", "--output-json", "x.jsonl"], "bad-input.shards"),
        (["--output-shards", "out", "--frame-step", "2"], "bad-input.shards"),
        (["--output-shards", "s3://bucket/out"], "bad-input.remote-output"),
        (["--output-shards", "model.onnx"], "bad-input.not-a-folder"),
        (["--output-shards", "photos"], "bad-input.output-not-empty"),
        (["--output-shards", "photos", "--resume"], "bad-input.output-not-empty"),
        (["missing/", "--output-shards", "out"], "bad-input.not-found"),
        (["walk.mp4", "--output-shards", "out"], "bad-input.video"),
    ],
)
def test_predict_shards_refuses(photos, model, tmp_path, monkeypatch, arguments, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "walk.mp4").write_bytes(b"")
    result = run("photos", "-m", "model.onnx", *arguments)
    assert result.exception.code == code
    assert not (tmp_path / "out").exists()


def test_predict_shards_needs_resume_to_continue(photos, model, tmp_path):
    command = (photos, "-m", model, "--output-shards", tmp_path / "out", "--shards", 4)
    assert run(*command).exit_code == 1
    assert run(*command).exception.code == "bad-input.interrupted-run"
    assert run(*command, "--resume").exit_code == 1
    assert run(*command[:-2], "--resume").exit_code == 1  # the number of shards is that of the run


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("model", "model digest"),
        ("option", "max megapixels: 64.0"),
        ("shards", "shards: 4"),
        ("format", "format: jsonl"),
        ("new image", "number 1"),
        ("changed image", "12.png has changed"),
    ],
)
def test_predict_shards_resume_refuses_another_run_by_name(photos, model, tmp_path, tiny, change, named):
    pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    assert run(photos, "-m", model, "--output-shards", out, "--shards", 4).exit_code == 1
    before = content(out)
    more: dict[str, list[object]] = {
        "option": ["--max-megapixels", 3],
        "shards": ["--shards", 5],
        "format": ["--shard-format", "parquet"],
    }
    if change == "model":
        tiny.write_scores_model(model, seed=1)
    elif change == "new image":
        (photos / "0.png").write_bytes((photos / "a/0.png").read_bytes())
    elif change == "changed image":
        (photos / "a/12.png").write_bytes(b"other")
    result = run(photos, "-m", model, "--output-shards", out, "--resume", *more.get(change, []))
    assert result.exception.code == "bad-input.other-options"
    assert named in str(result.exception)
    assert {name: data for name, data in content(out).items() if name != ".lock"} == before


def test_predict_shards_resume_writes_damaged_shards_again(photos, model, tmp_path):
    out = tmp_path / "out"
    command = (photos, "-m", model, "--output-shards", out, "--shards", 5)
    run(*command)
    before = content(out)
    (out / "shard-00001-of-00005.jsonl").unlink()
    path = out / "shard-00003-of-00005.jsonl"
    path.write_bytes(path.read_bytes().replace(b"0", b"1"))
    result = run(*command, "--resume")
    assert "shard-00001-of-00005.jsonl" in result.stderr and "shard-00003-of-00005.jsonl" in result.stderr
    assert "3 of them from an earlier run" in result.stdout
    assert content(out) == before


def kill_and_resume(photos, model, tmp_path, kills, *options):
    """Kill runs at random moments, continue them, and compare them with one that was not killed."""

    def start(folder, last):
        arguments = (photos, "-m", model, "--output-shards", folder, "--shards", 7, "--resume", *options)
        command = [sys.executable, "-c", KILLED, str(last), "predict", *map(str, arguments)]
        environment = {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", "PATH": ""}
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    whole = start(tmp_path / "whole", 0)
    assert whole.returncode == 1, whole.stderr
    events = int(whole.stdout.splitlines()[-1])
    chance = random.Random(0)
    killed = runs = 0
    while killed < kills:
        runs += 1
        folder = tmp_path / f"killed-{runs}"
        while (done := start(folder, chance.randrange(1, events))).returncode == -9:
            killed += 1
            if killed == kills:
                done = start(folder, 0)
                break
        assert done.returncode == 1, done.stderr
        assert content(folder) == content(tmp_path / "whole")


def test_predict_shards_killed_twice_equals_an_uninterrupted_run(photos, model, tmp_path):
    kill_and_resume(photos, model, tmp_path, 2)


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--shard-format", "parquet", "--batch-size", "2")])
def test_predict_shards_killed_20_times_equals_an_uninterrupted_run(photos, model, tmp_path, options):
    if options:
        pytest.importorskip("pyarrow")
    kill_and_resume(photos, model, tmp_path, 20, *options)
