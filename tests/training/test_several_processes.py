"""Several processes that learn together: who looks at what, who is who, and who may remove what all read."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from blemish.config.training_schema import TrainingConfig
from blemish.data.write_dataset import write_dataset
from blemish.structures import Dataset, GroundTruth, Labels, Sample, Task
from blemish.training import run
from blemish.training.dataloaders import DataModule
from blemish.training.distributed import rank_of, started_by_others


@pytest.mark.parametrize(("count", "world"), [(3, 4), (1, 2), (5, 2), (8, 4)])
def test_every_process_validates_something_and_all_of_them_everything(count, world):
    seen = []
    for rank in range(world):
        part = TrainingConfig(batch_size=8, tensorboard=False)
        loaders = DataModule(range(count), range(count), part)
        loaders.trainer = SimpleNamespace(global_rank=rank, world_size=world)
        mine = [position for batch in loaders.val_dataloader().batch_sampler for _, position in batch]
        assert mine  # or the others wait for this one for ever
        seen += mine
    assert set(seen) == set(range(count))
    assert len(seen) == max(count, world)


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_process_removes_tiles_that_it_still_judges_by(recipe, tmp_path, monkeypatch, rank):
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
    monkeypatch.setattr(run, "prepare_network", lambda *_: None)
    monkeypatch.setattr(run, "pretrained_rates", lambda *_: {})
    monkeypatch.setattr(run, "Learning", lambda *_, **__: SimpleNamespace(run=lambda: "learned"))
    chosen = recipe(tmp_path / "set", training__nodes=2, data__tiles={"size": 64}, task="detection")
    assert run.train(chosen, output=tmp_path / "run", device="cpu") == "learned"
    assert (tmp_path / "run" / "tiles").exists() == (rank == 1)


@pytest.mark.parametrize(
    ("devices", "nodes", "told", "rank", "others"),
    [
        (1, 1, {"RANK": "1", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, 0, False),
        (2, 1, {}, 0, False),
        (2, 1, {"SLURM_PROCID": "1", "SLURM_NTASKS": "8"}, 0, False),  # one of eight trainings side by side
        (2, 1, {"SLURM_PROCID": "1"}, 0, False),
        (2, 1, {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, 1, True),
        (2, 1, {"RANK": "1"}, 1, True),
        (1, 2, {"NODE_RANK": "1"}, 1, True),
        (2, 2, {"NODE_RANK": "1", "LOCAL_RANK": "1"}, 3, True),
        (2, 2, {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, 3, True),
    ],
)
def test_a_process_that_starts_the_others_is_the_first(monkeypatch, devices, nodes, told, rank, others):
    for name in ("RANK", "SLURM_PROCID", "SLURM_NTASKS", "NODE_RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    part = TrainingConfig(devices=devices, nodes=nodes)
    assert (rank_of(part), started_by_others(part)) == (rank, others)
