"""A real training, killed with -9 again and again, some of the time while it saves."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

KILLS = 20
EPOCHS = 30

# The child saves slowly at the two places where a kill hurts most: half written, and written but not renamed.
CHILD = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
from blemish import modelfile
from blemish.export.trained import write_weights
from blemish.training import learning, read_recipe
from blemish.training.run import train

real = os.fsync


def slow(number):
    Path(sys.argv[3]).write_text("saving")
    time.sleep(float(sys.argv[4]))
    real(number)
    time.sleep(float(sys.argv[4]))
    Path(sys.argv[3]).write_text("")


def keep(network, *, output, **_):
    write_weights(network, output / "weights.safetensors")
    return SimpleNamespace(path=output / "model.onnx")


if __name__ == "__main__":
    os.fsync = slow
    learning.export_trained = keep
    folder = Path(sys.argv[2])
    if (folder / "recipe.yaml").is_file():
        train(resume=folder, device="cpu")
    else:
        train(read_recipe(sys.argv[1]), output=folder, device="cpu")
"""


def start(tmp_path, name, pause):
    command = [
        sys.executable,
        tmp_path / "child.py",
        tmp_path / "recipe.yaml",
        tmp_path / name,
        tmp_path / "state",
        str(pause),
    ]
    return subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_killed_at_random_moments_the_weights_are_those_of_a_training_left_alone(recipe, tmp_path):
    chosen = recipe(
        training__epochs=EPOCHS, training__ema=0.9, training__patience=None, augmentation__horizontal_flip=0.5
    )
    (tmp_path / "child.py").write_text(CHILD)
    (tmp_path / "recipe.yaml").write_text(chosen.to_yaml())
    alone = start(tmp_path, "alone", 0)
    assert alone.wait(300) == 0, alone.stderr.read().decode()
    random = np.random.default_rng(0)
    kills = saving = 0
    checkpoints = tmp_path / "cut" / "checkpoints"
    while kills < KILLS:
        before = len(list(checkpoints.glob("epoch-*"))) and max(
            p.name for p in checkpoints.glob("epoch-*.ckpt")
        )
        child = start(tmp_path, "cut", 0.05)
        in_save = kills % 2 == 0
        deadline = time.monotonic() + 120
        # Let it come at least as far as its first save, so that twenty kills do not take for ever.
        while time.monotonic() < deadline and child.poll() is None:
            state = (tmp_path / "state").read_text() if (tmp_path / "state").exists() else ""
            newest = max((p.name for p in checkpoints.glob("epoch-*.ckpt")), default="")
            if (state == "saving") == in_save and (newest > (before or "") or in_save):
                break
            time.sleep(0.005)
        time.sleep(float(random.uniform(0, 0.04)))
        if child.poll() is not None:
            assert child.returncode == 0, child.stderr.read().decode()
            break
        saving += (tmp_path / "state").read_text() == "saving"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stderr.close()
        kills += 1
        if (
            max((p.name for p in checkpoints.glob("epoch-*.ckpt")), default="")
            >= f"epoch-{EPOCHS - 1:05d}.ckpt"
        ):
            break
    assert kills >= min(KILLS, EPOCHS - 2)
    assert saving >= 3
    last = start(tmp_path, "cut", 0)
    assert last.wait(300) == 0, last.stderr.read().decode()
    first, second = (load_file(tmp_path / name / "weights.safetensors") for name in ("alone", "cut"))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not list(checkpoints.glob(".*.tmp"))
