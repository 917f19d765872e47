"""`blemish demo --train` continues an interrupted training of the same recipe, and starts any other again."""

import pytest
import torch
from safetensors.torch import load_file

from blemish import demo
from blemish.training.run import train


def run(recipe, folder):
    messages: list[str] = []
    return demo._train(recipe, folder, "cpu", messages.append, progress=False), messages


@pytest.fixture
def named(recipe):
    return lambda **changes: recipe(name="cells", task="classification", **changes)


def test_train_continues_an_interrupted_training(named, tmp_path, stop_after):
    chosen = named(training__epochs=3, training__ema=0.9, training__export_epoch="last")
    whole = train(chosen, output=tmp_path / "whole", device="cpu")
    with stop_after(1):
        run(chosen, tmp_path / "cut")
    torch.manual_seed(4321)
    resumed, messages = run(chosen, tmp_path / "cut")
    assert len(messages) == 1
    assert str(tmp_path / "cut") in messages[0]
    first, second = (load_file(made.path / "weights.safetensors") for made in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_train_starts_again_for_another_recipe(named, tmp_path, stop_after):
    with stop_after(1):
        run(named(training__epochs=2, training__seed=1), tmp_path / "cut")
    started, messages = run(named(training__epochs=1, training__seed=2), tmp_path / "cut")
    assert messages == []
    assert len(started.history) == 1


@pytest.mark.usefixtures("exported")
def test_train_replaces_a_finished_training(named, tmp_path):
    chosen = named(training__epochs=1)
    first, _ = run(chosen, tmp_path / "run")
    (first.path / "note.txt").write_text("of the first run")
    second, messages = run(chosen, tmp_path / "run")
    assert messages == []
    assert not (second.path / "note.txt").exists()
