"""Several processes: ranks, the images each validates, and who writes and deletes files."""

import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from blemish.config.training_schema import TrainingConfig
from blemish.data.write_dataset import write_dataset
from blemish.structures import Dataset, GroundTruth, Labels, Sample, Task
from blemish.testing import raises
from blemish.training import run
from blemish.training.dataloaders import DataModule
from blemish.training.distributed import is_started_externally, rank_of
from blemish.training.run import train
from blemish.training.trainer import Run


class Numbers(torch.utils.data.Dataset[int]):
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return index


@pytest.mark.parametrize(("count", "world"), [(3, 4), (1, 2), (5, 2), (8, 4)])
def test_val_dataloader_gives_every_process_images_and_covers_all(count, world):
    seen = []
    for rank in range(world):
        part = TrainingConfig(batch_size=8, tensorboard=False)
        loaders = DataModule(Numbers(count), Numbers(count), part)
        loaders.trainer = SimpleNamespace(global_rank=rank, world_size=world)
        own = [position for batch in loaders.val_dataloader().batch_sampler for _, position in batch]
        assert own  # a process without images would block the others
        seen += own
    assert set(seen) == set(range(count))
    assert len(seen) == max(count, world)


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_process_deletes_the_tiles(recipe, tmp_path, monkeypatch, rank):
    samples = []
    images = tmp_path / "images"
    images.mkdir()
    for i in range(4):
        path = images / f"{i}.png"
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (70, 70, 3), np.uint8)).save(path)
        ground_truth = GroundTruth(
            task=Task.DETECTION, labels=Labels(("dent",)), size_hw=(70, 70), label_index=np.array([0]),
            boxes_xyxy=np.array([[5.0, 5, 30, 30]]),
        )  # fmt: skip
        split = "train" if i < 3 else "val"
        samples.append(
            Sample(id=path.name, path=path, size_hw=(70, 70), split=split, ground_truth=ground_truth)
        )
    whole = Dataset(task=Task.DETECTION, labels=Labels(("dent",)), samples=tuple(samples), root=images)
    write_dataset(whole, tmp_path / "set", "coco")
    monkeypatch.setenv("RANK", str(rank))
    untrained = SimpleNamespace(chosen_options={})
    monkeypatch.setattr("blemish.training.network_setup.prepare_network", lambda *_: untrained)
    monkeypatch.setattr("blemish.training.optimizers.lr_of_pretrained_stages", lambda *_: {})
    trained = Run(tmp_path, {}, tmp_path / "model.onnx", 1, [])
    trainer = SimpleNamespace(run=lambda: trained)
    monkeypatch.setattr("blemish.training.trainer.Trainer", lambda *_, **__: trainer)
    chosen = recipe(
        tmp_path / "set",
        task="detection",
        model__name="ssd300-resnet50",
        model__head=None,
        data__tiles={"size": 64},
        training__nodes=2,
    )
    assert run.train(chosen, output=tmp_path / "run", device="cpu") is trained
    assert (tmp_path / "run" / "tiles").exists() == (rank == 1)


@pytest.mark.parametrize(
    ("devices", "nodes", "variables", "rank", "external"),
    [
        (1, 1, {"RANK": "1", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, 0, False),
        (2, 1, {}, 0, False),
        (2, 1, {"SLURM_PROCID": "1", "SLURM_NTASKS": "8"}, 0, False),  # one of eight independent trainings
        (2, 1, {"SLURM_PROCID": "1"}, 0, False),
        (2, 1, {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, 1, True),
        (2, 1, {"RANK": "1"}, 1, True),
        (1, 2, {"NODE_RANK": "1"}, 1, True),
        (2, 2, {"NODE_RANK": "1", "LOCAL_RANK": "1"}, 3, True),
        (2, 2, {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, 3, True),
    ],
)
def test_rank_of_by_environment(monkeypatch, devices, nodes, variables, rank, external):
    for name in ("RANK", "SLURM_PROCID", "SLURM_NTASKS", "NODE_RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = TrainingConfig(devices=devices, nodes=nodes)
    assert (rank_of(config), is_started_externally(config)) == (rank, external)


TWO = """
import json, sys
from blemish.training import read_recipe
from blemish.training.run import train

if __name__ == "__main__":
    run = train(read_recipe(sys.argv[1]), output=sys.argv[2], device="cpu")
    print(json.dumps(run.history))
"""


@pytest.mark.slow
def test_two_processes_train_together(recipe, tmp_path):
    chosen = recipe(training__devices=2, training__epochs=2, augmentation__horizontal_flip=0.5)
    (tmp_path / "two.py").write_text(TWO)
    (tmp_path / "recipe.yaml").write_text(chosen.to_yaml())
    made = subprocess.run(
        [sys.executable, tmp_path / "two.py", tmp_path / "recipe.yaml", tmp_path / "run"],
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    history = json.loads(made.stdout.strip().splitlines()[-1])
    assert [row["epoch"] for row in history] == [1, 2]
    assert (tmp_path / "run" / "model.onnx").exists()
    assert "epoch 2" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.slow
def test_torchrun_trains_the_same_weights_as_two_processes_and_logs_one_run(recipe, tmp_path):
    chosen = recipe(training__devices=2, training__epochs=2)
    (tmp_path / "two.py").write_text(TWO)
    (tmp_path / "recipe.yaml").write_text(chosen.to_yaml())
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    own = ["train", "--recipe", "recipe.yaml", "--device", "cpu", "--logger", "mlflow", "--output"]
    for command in ([*launcher, "-m", "blemish", *own, "torchrun"], ["two.py", "recipe.yaml", "own"]):
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=tmp_path, timeout=500, check=False
        )
        assert done.returncode == 0, done.stderr
    first, second = (load_file(tmp_path / name / "weights.safetensors") for name in ("torchrun", "own"))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert len(list((tmp_path / "mlruns").rglob("recipe.yaml"))) == 1


@pytest.mark.slow
def test_two_nodes_train_together_and_the_first_one_writes(recipe, tmp_path):
    chosen = recipe(training__nodes=2, training__epochs=2)
    (tmp_path / "two.py").write_text(TWO)
    (tmp_path / "recipe.yaml").write_text(chosen.to_yaml())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = [
        subprocess.Popen(
            [sys.executable, tmp_path / "two.py", tmp_path / "recipe.yaml", tmp_path / "run"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "NODE_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        )
        for rank in (0, 1)
    ]  # fmt: skip
    results = [node.communicate(timeout=500) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], results
    first, second = (json.loads(out.strip().splitlines()[-1]) for out, _ in results)
    timed = ("seconds", "ms_per_image")
    assert [{k: v for k, v in row.items() if k not in timed} for row in first] == [
        {k: v for k, v in row.items() if k not in timed} for row in second
    ]
    assert (tmp_path / "run" / "model.onnx").exists()
    assert (tmp_path / "run" / "train.log").read_text().count("model file") == 1


@pytest.mark.parametrize(
    ("changes", "output", "key"),
    [({}, None, "--output"), ({"training__batch_size": "auto"}, "run", "training.batch_size")],
)
def test_check_agreement_refuses_what_nodes_would_choose_differently(recipe, tmp_path, changes, output, key):
    with raises("bad-recipe.processes-disagree", key):
        train(recipe(training__nodes=2, **changes), output=output and tmp_path / output, device="cpu")
