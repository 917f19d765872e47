"""A training that is killed with SIGKILL repeatedly, half of the time while it saves a checkpoint."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

KILLS = 24
EPOCHS = 16

# One process imports everything and then forks a training for each kill, which saves minutes of imports.
# The training saves slowly where a kill hurts most: half written, and written but not yet renamed.
DRIVER = """
import json, os, random, signal, sys, time, warnings
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch, matplotlib.figure, timm, torch
from blemish.export.run_export import write_weights
from blemish import export
from blemish.training import read_recipe, trainer
from blemish.training.run import train

torch.set_num_threads(1)
recipe, root, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
checkpoints = root / "cut" / "checkpoints"
real = os.fsync
pause = 0.0


def slow(number):
    (root / "state").write_text("saving")
    time.sleep(pause)
    real(number)
    time.sleep(pause)
    (root / "state").write_text("")


def keep(network, *, output, **_):
    write_weights(network, output / "weights.safetensors")
    return SimpleNamespace(path=output / "model.onnx")


def one(name):
    folder = root / name
    if (folder / "recipe.yaml").is_file():
        train(resume=folder, device="cpu")
    else:
        train(read_recipe(recipe), output=folder, device="cpu")


def start(name):
    pid = os.fork()
    if pid:
        return pid
    try:
        one(name)
    except BaseException as error:
        (root / "error").write_text(repr(error))
        os._exit(1)
    os._exit(0)


def newest():
    return max((p.name for p in checkpoints.glob("epoch-*.ckpt")), default="")


os.fsync = slow
export.export_trained = keep
os.waitpid(start("alone"), 0)
pause = 0.02
draw = random.Random(0)
done = {"kills": 0, "saving": 0, "finished": 0}
while done["kills"] < kills:
    (root / "state").write_text("")
    before, in_save = newest(), done["kills"] % 2 == 0
    child = start("cut")
    ended = False
    while not ended:
        ended = os.waitpid(child, os.WNOHANG)[0] == child
        saving = (root / "state").read_text() == "saving"
        if saving == in_save and (in_save or newest() > before):
            break
        time.sleep(0.001)
    if ended:
        done["finished"] += 1
        break
    time.sleep(draw.uniform(0, 0.03))
    done["saving"] += (root / "state").read_text() == "saving"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    done["kills"] += 1
pause = 0.0
os.waitpid(start("cut"), 0)
print(json.dumps(done))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_killed_and_resumed_training_ends_with_the_same_weights(recipe, tmp_path):
    chosen = recipe(
        training__epochs=EPOCHS, training__ema=0.9, training__patience=None, augmentation__horizontal_flip=0.5
    )
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "recipe.yaml").write_text(chosen.to_yaml())
    command = [sys.executable, tmp_path / "driver.py", tmp_path / "recipe.yaml", tmp_path, KILLS]
    made = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, timeout=900)
    assert made.returncode == 0, made.stderr
    assert not (tmp_path / "error").exists(), (tmp_path / "error").read_text()
    done = json.loads(made.stdout.strip().splitlines()[-1])
    assert done["kills"] >= 20
    assert done["saving"] >= 8
    first, second = (load_file(tmp_path / name / "weights.safetensors") for name in ("alone", "cut"))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not list((tmp_path / "cut" / "checkpoints").glob(".*.tmp"))
