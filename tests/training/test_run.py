"""Trainings of a tiny network: the files of a run, determinism, resuming, interruptions, refusals."""

import csv
import gc
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import blemish
from blemish.config.key_names import RenamedKeyWarning
from blemish.model_file import read_model_file
from blemish.structures import Task
from blemish.testing import raises
from blemish.training import checkpoint
from blemish.training.lightning_module import ImageLightningModule
from blemish.training.run import paused_garbage_collection, train


def weights_of(run):
    return load_file(run.path / "weights.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_paused_garbage_collection_sets_objects_aside_at_the_first_import_only(monkeypatch):
    set_aside = []
    monkeypatch.setattr(gc, "freeze", lambda: set_aside.append(gc.isenabled()))
    with paused_garbage_collection():  # PyTorch is imported already: old trainings may be garbage
        assert not gc.isenabled()
    assert gc.isenabled() and not set_aside
    monkeypatch.delitem(sys.modules, "lightning.pytorch", raising=False)
    with pytest.raises(RuntimeError), paused_garbage_collection():
        raise RuntimeError
    assert gc.isenabled() and set_aside == [False]


def test_no_step_waits_for_packages_that_only_tensorboard_or_the_export_need(recipe, tmp_path):
    """What they import costs as much CPU as many steps, so that it is imported when it is used."""
    (tmp_path / "r.yaml").write_text(recipe(training__tensorboard=True).to_yaml())
    script = f"""
import os, sys
from blemish.training.callback_registry import Callback
from blemish.training.run import train

class Loaded(Callback):
    def on_train_start(self, recipe, folder):
        late = ("torch.utils.tensorboard", "tensorboard", "boto3", "s3fs", "blemish.export.run_export")
        print([name for name in late if name in sys.modules], flush=True)
        os._exit(0)

train({str(tmp_path / "r.yaml")!r}, output={str(tmp_path / "run")!r}, device="cpu", callbacks=[Loaded()])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_validation_runs_the_averaged_network_in_evaluation_mode(recipe, tmp_path, monkeypatch):
    modes = []
    real = ImageLightningModule.validation_step

    def step(module, batch, batch_idx):
        modes.append({part.training for part in module.eval_network.modules()})
        real(module, batch, batch_idx)

    monkeypatch.setattr(ImageLightningModule, "validation_step", step)
    for name, settings in (("plain", {}), ("averaged", {"training__ema": 0.9})):
        train(recipe(training__epochs=2, **settings), output=tmp_path / name, device="cpu")
    assert len(modes) >= 4 and all(mode == {False} for mode in modes)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Return a function that trains a recipe, and gives the same run for an equal recipe."""
    runs = {}

    def run_of(chosen):
        key = chosen.to_yaml()
        if key not in runs:
            runs[key] = train(chosen, output=tmp_path_factory.mktemp("whole") / "run", device="cpu")
        return runs[key]

    return run_of


@pytest.mark.usefixtures("exported")
def test_train_writes_every_file_of_a_run(recipe, tmp_path):
    run = train(
        recipe(augmentation__horizontal_flip=0.5, training__tensorboard=True),
        output=tmp_path / "run",
        device="cpu",
    )
    for name in (
        "recipe.yaml",
        "split.csv",
        "weights.safetensors",
        "model.onnx",
        "metrics.csv",
        "train.log",
        "losses.png",
        "metrics.png",
    ):
        assert (tmp_path / "run" / name).stat().st_size, name
    (events,) = (tmp_path / "run" / "tensorboard").glob("events*")
    board = EventAccumulator(str(events)).Reload()
    assert [(e.step, e.value) for e in board.Scalars("val_loss")] == [
        (i + 1, pytest.approx(row["val_loss"])) for i, row in enumerate(run.history)
    ]
    with (run.path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["macro_f1"]) == pytest.approx(run.history[-1]["macro_f1"])
    made = read_model_file(run.model_file)
    assert made.contract.certificate.passed
    assert made.contract.certificate.decisions_changed == 0
    assert made.contract.training["best_epoch"] == run.best_epoch
    assert made.contract.metrics["val"]["macro_f1"] == pytest.approx(run.metrics["macro_f1"])
    assert [label.display_name for label in made.contract.labels] == ["Dark", "Light"]
    assert len(made.fingerprints.pixel) == 18
    assert set(made.fingerprints.split.tolist()) == {0, 1}


@pytest.mark.usefixtures("exported")
def test_validation_metrics_equal_evaluate(recipe, table, tmp_path):
    run = train(recipe(table, training__epochs=2), output=tmp_path / "run", device="cpu")
    contract = read_model_file(run.model_file).contract
    assert contract.thresholds_tuned_on == "val"
    assert set(contract.thresholds) == {"crack", "inactive"}
    tuned = contract.metrics["val at chosen thresholds"]
    assert tuned["tuned"] is True
    assert tuned["macro_f1"] >= run.metrics["macro_f1"] - 1e-6
    with (run.path / "split.csv").open() as file:
        split_of = {row["id"]: row["split"] for row in csv.DictReader(file)}
    data = blemish.open_dataset(table).with_splits(split_of)
    predictor = blemish.load(run.model_file)
    from blemish.evaluation.build_report import score_predictions

    held = data.of_split("val")
    predictions = [predictor.predict(s.path) for s in held]
    report = score_predictions(predictions, [s.ground_truth for s in held], intervals=False)
    known = {name: value for name, value in tuned.items() if name != "tuned"}
    assert set(known) == set(Task.MULTILABEL.fields.validation_metrics)
    for name, value in known.items():  # one name for one metric in training and evaluate
        assert report.value(name) == pytest.approx(value, abs=2e-5), name


def test_train_is_deterministic(recipe, tmp_path):
    chosen = recipe(training__epochs=2, augmentation__horizontal_flip=0.5)
    first, second = (train(chosen, output=tmp_path / n, device="cpu") for n in "ab")
    assert same(weights_of(first), weights_of(second))
    other = train(chosen.changed({"training.seed": 1}), output=tmp_path / "c", device="cpu")
    assert not same(weights_of(first), weights_of(other))


def test_last_step_with_fewer_batches_is_not_smaller(recipe, tmp_path):
    plain = {"training__epochs": 1, "training__batch_size": 4, "training__optimizer": {"name": "sgd"}}
    first = train(recipe(**plain, training__accumulate_grad_batches=64), output=tmp_path / "64", device="cpu")
    batches = -(-(first.path / "split.csv").read_text().count(",train") // 4)
    second = train(
        recipe(**plain, training__accumulate_grad_batches=batches), output=tmp_path / "all", device="cpu"
    )
    assert batches > 1
    for name, weight in weights_of(first).items():
        torch.testing.assert_close(weight, weights_of(second)[name], rtol=1e-5, atol=1e-6)


HARD = {
    "augmentation__horizontal_flip": 0.5,
    "augmentation__rotation_degrees": 10,
    "augmentation__random_resized_crop": {"scale": [0.5, 1]},
    "augmentation__mixup": 0.2,
    "training__ema": 0.9,
    "training__epochs": 4,
}
SCHEDULES = [
    {"name": "one-cycle"},
    {"name": "cosine", "warmup_epochs": 1.5},
    {"name": "plateau", "patience": 0, "metric": "val_loss"},
    {"name": "cosine", "warmup_steps": 5},
]


@pytest.mark.parametrize(
    "changes",
    [
        {**HARD, "training__schedule": SCHEDULES[0]},
        {
            **HARD,
            "training__schedule": SCHEDULES[1],
            "training__accumulate_grad_batches": 2,
            "training__optimizer": {"name": "sgd"},
        },
        {
            **HARD,
            "training__schedule": SCHEDULES[2],
            "training__balanced_sampling": True,
            "training__gradient_clip_val": 1.0,
        },
        {"training__epochs": 4, "training__precision": "bf16"},
        {
            **HARD,
            "augmentation__horizontal_flip": 0.5,
            "augmentation__vertical_flip": 0.5,
            "augmentation__quarter_turn": 0.5,
            "training__schedule": SCHEDULES[3],
            "training__optimizer": {"layer_decay": 0.7},
            "training__export_epoch": "last",
        },
    ],
    ids=["one-cycle", "cosine, sgd, accumulated", "plateau, balanced, clipped", "bf16", "fine-tuning"],
)
@pytest.mark.parametrize("after", [1, 3])
def test_resumed_training_ends_bit_for_bit_the_same(
    recipe, uninterrupted, tmp_path, stop_after, changes, after
):
    chosen = recipe(**changes)
    whole = uninterrupted(chosen)
    with stop_after(after):
        train(chosen, output=tmp_path / "cut", device="cpu")
    torch.manual_seed(12345)  # the random state of the new process does not matter
    resumed = train(resume=tmp_path / "cut", device="cpu")
    assert same(weights_of(whole), weights_of(resumed))

    def kept(run):
        timed = ("seconds", "ms_per_image")
        return [{k: v for k, v in row.items() if k not in timed} for row in run.history]

    assert kept(whole) == kept(resumed)
    assert whole.best_epoch == resumed.best_epoch


def test_resume_skips_a_damaged_checkpoint(recipe, uninterrupted, tmp_path, stop_after):
    chosen = recipe(training__epochs=4)
    whole = uninterrupted(chosen)
    with stop_after(3):
        train(chosen, output=tmp_path / "cut", device="cpu")
    newest = tmp_path / "cut" / "checkpoints" / "epoch-00003.ckpt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(bytes(content))
    resumed = train(resume=tmp_path / "cut", device="cpu")
    assert "epoch-00003.ckpt: the checkpoint is damaged" in (tmp_path / "cut" / "train.log").read_text()
    assert same(weights_of(whole), weights_of(resumed))


def test_resume_without_an_intact_checkpoint_is_refused(recipe, tmp_path, stop_after):
    with stop_after(2):
        train(recipe(training__epochs=3), output=tmp_path / "cut", device="cpu")
    for best in (tmp_path / "cut" / "checkpoints").glob("best-*.ckpt"):
        best.write_bytes(best.read_bytes()[:-1])
    with raises("training-failed.no-intact-checkpoint", tmp_path / "cut", "best-0000"):
        train(resume=tmp_path / "cut", device="cpu")


def test_resume_does_not_need_the_weights_file(recipe, tmp_path, stop_after):
    first = train(recipe(training__epochs=1), output=tmp_path / "first", device="cpu")
    weights = tmp_path / "w.safetensors"
    shutil.copy(first.path / "weights.safetensors", weights)
    chosen = recipe(training__epochs=2, model__weights=str(weights), training__batch_norm="frozen")
    whole = train(chosen, output=tmp_path / "whole", device="cpu")
    with stop_after(1):
        train(chosen, output=tmp_path / "cut", device="cpu")
    weights.unlink()
    assert same(weights_of(whole), weights_of(train(resume=tmp_path / "cut", device="cpu")))


def test_resume_of_a_finished_run_changes_nothing(recipe, tmp_path):
    run = train(recipe(training__epochs=2), output=tmp_path / "run", device="cpu")
    before = weights_of(run)
    assert same(before, weights_of(train(resume=tmp_path / "run", device="cpu")))


def test_full_disk_leaves_the_last_checkpoint_intact(recipe, uninterrupted, tmp_path, monkeypatch):
    import os

    chosen = recipe(training__epochs=3)
    whole = uninterrupted(chosen)
    real = os.fsync
    calls = []

    def inodes(pattern):
        return [path.stat().st_ino for path in (tmp_path / "full" / "checkpoints").glob(pattern)]

    def fsync(number):
        if f"{os.fstat(number).st_ino}" in map(str, inodes("*epoch-00002*")):
            calls.append(number)
            raise OSError(28, "No space left on device")
        return real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    with raises("training-failed.checkpoint", "epoch 2", "No space left on device", "--resume"):
        train(chosen, output=tmp_path / "full", device="cpu")
    assert calls
    monkeypatch.setattr(os, "fsync", real)
    folder = tmp_path / "full" / "checkpoints"
    assert checkpoint.read_checkpoint(folder / "epoch-00001.ckpt")["epoch"] == 1
    assert not list(folder.glob(".*.tmp"))
    assert same(weights_of(whole), weights_of(train(resume=tmp_path / "full", device="cpu")))


def test_early_stopping_after_patience(recipe, tmp_path):
    run = train(
        recipe(training__epochs=9, training__patience=2, training__optimizer__learning_rate=1e-9),
        output=tmp_path / "run",
        device="cpu",
    )
    assert run.best_epoch <= len(run.history) - 2
    assert len(run.history) < 9


def test_export_epoch_last_exports_the_last_epoch(recipe, tmp_path):
    keys = {"training__epochs": 4, "training__optimizer__learning_rate": 1e-9, "training__patience": None}
    best = train(recipe(**keys), output=tmp_path / "best", device="cpu")
    last = train(recipe(**keys, training__export_epoch="last"), output=tmp_path / "last", device="cpu")
    assert best.best_epoch < 4
    assert last.best_epoch == 4
    assert last.metrics["macro_f1"] == pytest.approx(last.history[-1]["macro_f1"])
    names = [path.name for path in (tmp_path / "last" / "checkpoints").glob("best-*.ckpt")]
    assert "best-00004.ckpt" in names
    assert len(names) <= 2


def test_export_epoch_last_still_stops_early(recipe, tmp_path):
    run = train(
        recipe(training__epochs=9, training__patience=2, training__optimizer__learning_rate=1e-9,
               training__export_epoch="last"),
        output=tmp_path / "run",
        device="cpu",
    )  # fmt: skip
    assert run.best_epoch == len(run.history) < 9


def test_frozen_stages_keep_weights_and_statistics(recipe, tmp_path):
    chosen = recipe(
        model__trainable=["layer4"], training__optimizer__lr_by_stage={"layer4": 1e-3, "head": 1e-2}
    )
    run = train(chosen, output=tmp_path / "run", device="cpu")
    other = train(
        chosen.changed({"training.epochs": 1, "training.optimizer.learning_rate": 0.5}),
        output=tmp_path / "b",
        device="cpu",
    )
    first, second = weights_of(run), weights_of(other)
    for name in first:
        frozen = not name.startswith(("backbone.layer4", "head."))
        assert torch.equal(first[name], second[name]) == frozen or "num_batches" in name, name


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_train_localization_predicts_in_pixels_of_the_image(recipe, boxes, tmp_path):
    for number, scale in enumerate(("image", "coord_max")):
        run = train(
            recipe(boxes, model__options={"box_scale": scale}, model__resize_to=36, training__epochs=2,
                   augmentation__horizontal_flip=0.5, augmentation__rotation_degrees=5),
            output=tmp_path / str(number), device="cpu",
        )  # fmt: skip
        assert 0 <= run.metrics["mean_iou"] <= 1
        box = blemish.load(run.model_file).predict(boxes.parent / "0.png").boxes_xyxy
        assert box.shape == (1, 4)
        assert read_model_file(run.model_file).contract.certificate.passed


@pytest.mark.parametrize(
    ("changes", "code", "facts"),
    [
        ({"data": "nowhere"}, "bad-dataset.no-such-file", ("nowhere",)),
        ({"model__name": "resnet_18"}, "unknown-name.architecture", ("'resnet_18'", "'resnet18'")),
        ({"model__input_size": {"imag": 32}}, "bad-recipe.unknown-input", ("'imag'", "'image'")),
        ({"model__trainable": ["layer9"]}, "unknown-name.stage", ("layer9",)),
        ({"training__optimizer": {"lr_by_stage": {"layer9": 1e-3}}}, "unknown-name.stage", ("layer9",)),
        (
            {"training__loss": {"name": "bce"}},
            "bad-recipe.loss-of-another-task",
            ("bce", "cross-entropy, focal"),
        ),
        ({"training__loss": {"name": "focl"}}, "unknown-name.loss", ("'focl'", "'focal'")),
        ({"training__precision": "fp16"}, "bad-recipe.precision", ("training.precision", "fp16")),
        (
            {"training__monitor": "macro_f2"},
            "bad-recipe.unknown-metric",
            ("training.monitor", "'macro_f2'", "'macro_f1'"),
        ),
        (
            {"training__schedule": {"name": "plateau", "metric": "mean_iou"}},
            "bad-recipe.unknown-metric",
            ("training.schedule.metric", "classification", "'mean_iou'"),
        ),
        ({"training__loggers": [{"name": "mlfow"}]}, "unknown-name.logger", ("'mlflow'",)),
        (
            {"training__optimizer": {"learning_rate": 1e30}},
            "training-failed.loss-not-finite",
            ("training.optimizer.learning_rate",),
        ),
        (
            {"training__optimizer": {"learning_rate": 1e30}, "training__batch_size": 64},  # one step an epoch
            "training-failed.outputs-not-finite",
            ("training.optimizer.learning_rate",),
        ),
        ({"model__options": {"patch": 3}}, "bad-recipe.unknown-option", ("patch",)),
        ({"data__options": {"colums": {}}}, "bad-recipe.unknown-option", ("'colums'", "'columns'")),
        (
            {"augmentation__transforms": [{"name": "brightnes"}]},
            "unknown-name.transform",
            ("'brightness'",),
        ),
        (
            {"augmentation__quarter_turn": 0.5, "model__input_size": (32, 48)},
            "bad-recipe.input-not-square",
            ("augmentation.quarter_turn", "32 x 48"),
        ),
        ({"training__callbacks": [{"name": "none"}]}, "unknown-name.callback", ("'none'",)),
    ],
)
def test_train_refuses_impossible_recipes(recipe, tmp_path, changes, code, facts):
    with raises(code, *facts):
        train(recipe(**changes), output=tmp_path / "run", device="cpu")


def test_missing_download_is_reported_before_any_work(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with raises("no-network", "--weights none"):
        train(recipe(model__weights="default"), output=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_unreadable_images_are_listed_before_training(recipe, folders, tmp_path):
    shutil.copytree(folders, tmp_path / "data")
    (tmp_path / "data" / "dark" / "0.png").write_bytes(b"no image")
    whole = (tmp_path / "data" / "light" / "1.png").read_bytes()
    (tmp_path / "data" / "light" / "1.png").write_bytes(whole[: len(whole) // 2])
    with raises("bad-dataset.unreadable-images", "2 images") as caught:
        train(recipe(tmp_path / "data"), output=tmp_path / "run", device="cpu")
    assert "dark/0.png" in caught.message.replace("\\", "/")
    assert "light/1.png" in caught.message.replace("\\", "/")
    assert not (tmp_path / "run").exists()


def test_train_does_not_overwrite_a_run(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("name: mine")
    with raises("bad-input.run-exists", tmp_path / "run", "--resume"):
        train(recipe(), output=tmp_path / "run", device="cpu")
    with raises("bad-input.not-a-run", tmp_path / "nowhere", "recipe.yaml"):
        train(resume=tmp_path / "nowhere", device="cpu")


HOLD_RUN = """
import sys
from blemish.model_file import lock_file
file = open(sys.argv[1], "ab")
print(lock_file(file), flush=True)
sys.stdin.read()
"""


def test_a_second_training_in_the_folder_of_a_running_one_is_refused(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", HOLD_RUN, str(tmp_path / "run" / "train.log")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "True\n"
        with raises("bad-input.in-use", tmp_path / "run"):
            train(recipe(), output=tmp_path / "run", device="cpu")
        other.communicate()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["train.log"]


def test_spawned_workers_give_the_same_weights(recipe, tmp_path):
    chosen = recipe(training__epochs=1, augmentation__horizontal_flip=0.5)
    alone = train(chosen, output=tmp_path / "a", device="cpu")
    helped = train(
        chosen.changed({"training.workers": 1, "training.start_method": "spawn"}),
        output=tmp_path / "b",
        device="cpu",
    )
    assert same(weights_of(alone), weights_of(helped))


@pytest.mark.parametrize(
    ("pressed", "step", "saved"),
    [("SIGINT", "training_step", 1), ("SIGTERM", "training_step", 1), ("SIGTERM", "validation_step", 2)],
)
def test_interrupted_training_is_saved_and_resumes(
    recipe, uninterrupted, tmp_path, monkeypatch, pressed, step, saved
):
    import os
    import signal

    from blemish.training.lightning_module import ImageLightningModule
    from blemish.training.progress import TrainingInterrupted

    chosen = recipe(training__epochs=3)
    whole = uninterrupted(chosen)
    number = signal.Signals[pressed]
    before = signal.getsignal(number)
    original = getattr(ImageLightningModule, step)

    def stopping(self, batch, batch_idx):
        if self.epoch == 1:
            os.kill(os.getpid(), number)
            monkeypatch.setattr(ImageLightningModule, step, original)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ImageLightningModule, step, stopping)
    with raises("training-failed.interrupted", f"epoch {saved} ", f"--resume {tmp_path / 'cut'}") as caught:
        train(chosen, output=tmp_path / "cut", device="cpu")
    assert isinstance(caught.value, TrainingInterrupted)
    assert signal.getsignal(number) is before
    assert same(weights_of(whole), weights_of(train(resume=tmp_path / "cut", device="cpu")))


def test_loaded_weights_are_logged(recipe, tmp_path, capsys):
    torch.manual_seed(0)
    from blemish.models import create

    other = create("timm/test_resnet", task="classification", label_count=7, input_size=32)
    torch.save(other.state_dict(), tmp_path / "w.pth")
    chosen = recipe(model__weights=str(tmp_path / "w.pth"), training__epochs=1)
    train(chosen, output=tmp_path / "run", device="cpu", progress=True)
    shown = capsys.readouterr().err
    assert "tensors loaded, 2 skipped (head.0.weight, head.0.bias)" in shown
    assert "epoch 1/1" in shown
    assert "train_loss" not in shown
    assert "tensors loaded" in (tmp_path / "run" / "train.log").read_text()


def test_lightning_loggers_by_name(recipe, tmp_path):
    loggers = [{"name": "csv", "options": {"save_dir": str(tmp_path / "log"), "name": "", "version": ""}}]
    train(recipe(training__loggers=loggers, training__epochs=2), output=tmp_path / "run", device="cpu")
    with (tmp_path / "log" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2]
    assert all(0 <= float(row["macro_f1"]) <= 1 for row in rows)


def test_unknown_logger_is_refused_before_any_image_is_opened(recipe, folders, tmp_path):
    shutil.copytree(folders, tmp_path / "data")
    (tmp_path / "data" / "dark" / "0.png").write_bytes(b"no image")
    chosen = recipe(tmp_path / "data", training__loggers=[{"name": "mlfow"}])
    with raises("unknown-name.logger", "'mlfow'", "'mlflow'"):
        train(chosen, output=tmp_path / "run", device="cpu")


def test_resume_of_a_run_with_old_key_names(recipe, uninterrupted, tmp_path, stop_after):
    schedule = {"name": "plateau", "patience": 0, "min_lr_ratio": 0.1}
    chosen = recipe(
        training__epochs=3,
        training__schedule=schedule,
        training__gradient_clip_val=1.0,
        training__accumulate_grad_batches=2,
    )
    whole = uninterrupted(chosen)
    with stop_after(1):
        train(chosen, output=tmp_path / "cut", device="cpu")
    path = tmp_path / "cut" / "recipe.yaml"
    values = yaml.safe_load(path.read_text())
    del values["schema_version"]
    training = values["training"]
    training["clip_gradient"] = training.pop("gradient_clip_val")
    training["accumulate"] = training.pop("accumulate_grad_batches")
    training["schedule"]["min_factor"] = training["schedule"].pop("min_lr_ratio")
    training["schedule"]["final_factor"] = 0.0
    training["optimizer"]["groups"] = training["optimizer"].pop("lr_by_stage")
    path.write_text(yaml.safe_dump(values))
    with pytest.warns(RenamedKeyWarning, match="training.accumulate -> ") as caught:
        resumed = train(resume=tmp_path / "cut", device="cpu")
    assert len([w for w in caught if issubclass(w.category, RenamedKeyWarning)]) == 1
    assert same(weights_of(whole), weights_of(resumed))
    saved = yaml.safe_load(path.read_text())
    assert saved["schema_version"] == 2
    assert saved["training"]["gradient_clip_val"] == 1.0
