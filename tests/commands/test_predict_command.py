import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from blemish.commands.output import DrawnWriter
from blemish.commands.predict_command import predict
from blemish.errors import ImageTooLarge, StorageFull
from blemish.geometry import mask_from_array
from blemish.inference import load
from blemish.model_file import ParityCertificate, write_model_file
from blemish.structures import Task


@pytest.fixture
def place(tmp_path, tiny):
    """A folder with a model file and three images."""
    tiny.write_scores_model(tmp_path / "model.onnx", labels=("F_Crushed", "R_Normal"))
    rng = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    return tmp_path


def describe(prediction):
    return prediction.task.hook("describe")(prediction)


def run(*arguments, stdin=None):
    app = typer.Typer()
    app.command()(predict)
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


def test_predict_json_one_line_per_image_in_order(place):
    result = run(place / "photos", "--model", place / "model.onnx", "--json")
    assert result.exit_code == 0
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(a["path"]).relative_to(place / "photos").as_posix() for a in answers] == [
        "a/1.png",
        "a/2.png",
        "b/1.png",
    ]
    predictor = load(place / "model.onnx")
    prediction = predictor.predict(place / "photos/a/2.png").to_dict()
    assert answers[1] == {"schema_version": 2, **prediction}
    assert result.stderr == ""


def test_predict_broken_image_gets_a_line_and_others_continue(place):
    (place / "photos/a/10.jpg").write_bytes(b"nothing")
    result = run(place / "photos", "-m", place / "model.onnx", "--json", "--batch-size", 2)
    assert result.exit_code == 1
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert ["error" in a for a in answers] == [False, False, True, False]
    assert set(answers[2]) == {"schema_version", "path", "error"}
    assert answers[2]["error"]["code"].startswith("image-undecodable")
    assert "10.jpg" in answers[2]["error"]["message"]
    assert answers[2]["path"].endswith("a/10.jpg")
    text = run(place / "photos", "-m", place / "model.onnx")
    assert text.exit_code == 1
    assert "10.jpg: " in text.stdout


def test_predict_exit_code_if_all_images_failed(place):
    (place / "broken.jpg").write_bytes(b"nothing")
    assert run(place / "broken.jpg", "-m", place / "model.onnx", "--json").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["missing.jpg", "-m", "model.onnx"], "bad-input.not-found"),
        (["https://example.org/car.jpg", "-m", "model.onnx"], "bad-input.url"),
        (["photos", "-m", "missing.onnx"], "bad-model-file"),
        (["photos", "-m", "photos"], "bad-model-file"),
        (["photos", "-m", "photos/a/1.png"], "bad-model-file"),
        (["photos", "-m", "model.onnx", "--min-score", ".5"], "wrong-task.needs-detections"),
        (["photos", "-m", "model.onnx", "--backend", "tensorflow"], "unknown-name.backend"),
        (["photos", "-m", "model.onnx", "--device", "tpu"], "bad-input.unknown-device"),
    ],
)
def test_predict_impossible_options_are_one_error(place, monkeypatch, arguments, code):
    monkeypatch.chdir(place)
    result = run(*arguments)
    assert result.exception.code == code or result.exception.code.startswith(f"{code}.")
    assert "\n" not in str(result.exception)
    assert result.stdout == ""


def test_predict_list_on_standard_input(place):
    listed = f"{place}/photos/b/1.png\n\n{place}/photos/gone.png\n"
    result = run("-", "-m", place / "model.onnx", "--json", stdin=listed)
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert first["path"].endswith("b/1.png")
    assert "gone.png" in second["error"]["message"]
    assert result.exit_code == 1


def test_predict_output_has_unique_names_and_keeps_sources(place):
    pytest.importorskip("blemish.drawing")
    before = {p: p.read_bytes() for p in (place / "photos").rglob("*.png")}
    for _ in range(2):  # twice: the names are the same, and drawn images are not sources
        result = run(place / "photos", "-m", place / "model.onnx", "-o", place / "photos", "--json")
        drawn = [json.loads(line)["drawn"] for line in result.stdout.splitlines()]
        assert [Path(d).name for d in drawn] == ["1.blemish.jpg", "2.blemish.jpg", "1-2.blemish.jpg"]
    assert {p: p.read_bytes() for p in before} == before
    for name in drawn:
        with Image.open(name) as drawn_image:
            assert drawn_image.mode == "RGB"
            assert drawn_image.size[0] >= 30


def test_predict_output_folder_that_cannot_be_written(place):
    pytest.importorskip("blemish.drawing")
    (place / "taken").write_text("a file where the folder should be")
    result = run(place / "photos", "-m", place / "model.onnx", "-o", place / "taken")
    assert result.exit_code == 2
    assert "taken" in "".join(re.split(r"[\s│]+", result.output))
    assert (place / "taken").read_text() == "a file where the folder should be"


def test_predict_max_megapixels(place):
    result = run(place / "photos/a/1.png", "-m", place / "model.onnx", "--json", "--max-megapixels", 0.001)
    assert result.exit_code == 0  # 600 pixels
    Image.new("RGB", (100, 100)).save(place / "large.png")
    result = run(place / "large.png", "-m", place / "model.onnx", "--max-megapixels", 0.001)
    assert result.exit_code == 2
    (result,) = load(place / "model.onnx").stream([place / "large.png"])
    assert not isinstance(result.error, ImageTooLarge)


def test_predict_warns_of_failed_certificate(place, tiny):
    certificate = ParityCertificate(
        passed=False,
        images=3,
        decisions_changed=2,
        max_difference=0.4,
        reasons=("2 verdicts changed",),
    )
    tiny.write_scores_model(place / "forced.onnx", certificate=certificate)
    result = run(place / "photos", "-m", place / "forced.onnx", "--json")
    assert result.exit_code == 0
    assert "forced.onnx" in result.stderr
    assert "2 verdicts changed" in result.stderr
    assert len(result.stdout.splitlines()) == 3


def test_predict_file_name_that_is_not_unicode(place):
    odd = os.fsencode(place) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(odd)).write_bytes((place / "photos/a/1.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    command = [sys.executable, "-m", "blemish", "predict", os.fsdecode(odd), "-m", str(place / "model.onnx")]
    for extra in ([], ["--json"]):
        done = subprocess.run([*command, *extra], capture_output=True, env=with_source(), check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(b"\n") == 1


def test_predict_imports_no_heavy_packages(place):
    code = (
        "import sys; sys.argv = ['blemish', 'predict', *sys.argv[1:]]\n"
        "from blemish.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'torchvision', 'onnx', 'cv2', 'matplotlib', 'scipy', 'rich.progress'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(place / "photos/a/1.png"), "-m", str(place / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, env=with_source(), check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def with_source():
    source = str(Path(__file__).parents[2] / "src")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))}


@pytest.mark.parametrize(
    ("logits", "thresholds", "sentence"),
    [
        ([9.0, -9.0], {}, "F Crushed 100.0% (not: R Normal 0.0%)"),
        (
            [0.0, 1.0],
            {"R_Normal": 0.9, "F_Crushed": 0.9},
            "nothing found (not: R Normal 73.1%, F Crushed 50.0%)",
        ),
    ],
)
def test_text_line_multilabel(tmp_path, tiny, logits, thresholds, sentence):
    graph = tiny.fixed_graph(logits=np.array(logits, np.float32))
    labels = (
        {"name": "F_Crushed", "display_name": "F Crushed"},
        {"name": "R_Normal", "display_name": "R Normal"},
    )
    model_contract = tiny.contract(Task.MULTILABEL).model_dump() | {
        "labels": labels,
        "thresholds": thresholds,
    }
    write_model_file(tmp_path / "m.onnx", graph, tiny.contract().model_validate(model_contract))
    assert describe(load(tmp_path / "m.onnx").predict(np.zeros((5, 5, 3), np.uint8))) == sentence


def test_text_line_and_drawing_of_detections(tmp_path, tiny):
    graph = tiny.fixed_graph(
        boxes=np.array([[0, 0, 2, 2], [4, 4, 6, 6], [0, 4, 2, 6], [4, 0, 6, 2]], np.float32),
        scores=np.array([[0.6, 0], [0.9, 0], [0, 0.7], [0.2, 0]], np.float32),
    )
    model_contract = tiny.contract(
        Task.DETECTION,
        outputs=({"name": "boxes", "role": "boxes"}, {"name": "scores", "role": "scores"}),
        decoder={"name": "dense"},
        min_score=0.1,
    )
    write_model_file(tmp_path / "m.onnx", graph, model_contract)
    answer = load(tmp_path / "m.onnx").predict(np.zeros((8, 8, 3), np.uint8))
    assert len(answer) == 4
    assert describe(answer) == "2 x Fine (best 90.0%), 1 x Dented (best 70.0%)"
    masks = tuple(mask_from_array(np.eye(8, dtype=bool) * (i != 1)) for i in range(4))
    drawn = replace(answer, task=Task.SEGMENTATION, masks=masks)
    assert describe(drawn) == f"{describe(answer)}; 1 without an outline"
    result = run(tmp_path, "-m", tmp_path / "m.onnx", "--max-detections", 2)
    assert result.exception.code == "bad-input.no-images"
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    result = run(tmp_path, "-m", tmp_path / "m.onnx", "--json", "--max-detections", 2)
    assert [o["score"] for o in json.loads(result.stdout)["detections"]] == pytest.approx([0.9, 0.7])
    assert len(answer.filter_scores()) == 3
    assert len(answer.filter_scores(0.8)) == 1
    run(tmp_path, "-m", tmp_path / "m.onnx", "-o", tmp_path / "own")
    run(tmp_path, "-m", tmp_path / "m.onnx", "-o", tmp_path / "all", "--min-score", 0.1)
    own, everything = (np.asarray(Image.open(tmp_path / x / "p.blemish.jpg"), int) for x in ("own", "all"))
    apart = np.abs(own - everything).max(2) > 60
    side = len(apart) // 2
    assert apart[:side, side:].any()  # the fourth box, which does not reach its threshold of .5
    assert not apart[side + 20 :, side + 20 :].any()


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools'
def test_predict_json_masks_as_polygons_and_rle(tmp_path, tiny):
    pycoco = pytest.importorskip("pycocotools.mask")
    grid = np.full((1, 28, 28), 0.9, np.float32)
    grid[:, 10:18, 10:18] = 0.1  # a hole
    graph = tiny.fixed_graph(
        boxes=np.array([[1, 1, 5, 7]], np.float32),
        scores=np.array([0.9], np.float32),
        labels=np.array([0], np.int64),
        masks=grid,
    )
    roles = ("boxes", "scores", "labels", "masks")
    model_contract = tiny.contract(
        Task.SEGMENTATION,
        outputs=tuple({"name": r, "role": r, "activation": "probabilities"} for r in roles),
        decoder={"name": "final"},
    )
    write_model_file(tmp_path / "m.onnx", graph, model_contract)
    Image.new("RGB", (80, 40)).save(tmp_path / "p.png")
    result = run(tmp_path / "p.png", "-m", tmp_path / "m.onnx", "--json", "--mask-format", "both")
    line = json.loads(result.stdout)
    assert line["schema_version"] == 2
    (found,) = line["detections"]
    assert (found["label"], found["display_name"], found["positive"]) == ("fine", "Fine", True)
    assert found["box_xyxy"] == [10, 5, 50, 35]
    assert len(found["polygons"]) == 2
    drawn = pycoco.decode(found["rle"])
    assert drawn.shape == (40, 80)
    assert drawn.sum() == found["area"]
    assert not drawn[20, 30]
    assert drawn[8, 14]
    for option, keys in ((None, {"rle"}), ("rle", {"rle"}), ("polygons", {"polygons"})):
        options = () if option is None else ("--mask-format", option)
        (one,) = json.loads(run(tmp_path / "p.png", "-m", tmp_path / "m.onnx", "--json", *options).stdout)[
            "detections"
        ]
        assert {k: v for k, v in one.items() if k in ("polygons", "rle")} == {k: found[k] for k in keys}


def test_predict_json_masks_below_the_threshold_only_if_asked_for(tmp_path, tiny):
    graph = tiny.fixed_graph(
        boxes=np.array([[1, 1, 5, 7], [2, 2, 6, 6]], np.float32),
        scores=np.array([0.9, 0.3], np.float32),
        labels=np.array([0, 0], np.int64),
        masks=np.full((2, 28, 28), 0.9, np.float32),
    )
    roles = ("boxes", "scores", "labels", "masks")
    model_contract = tiny.contract(
        Task.SEGMENTATION,
        outputs=tuple({"name": r, "role": r, "activation": "probabilities"} for r in roles),
        decoder={"name": "final"},
    )
    write_model_file(tmp_path / "m.onnx", graph, model_contract)
    Image.new("RGB", (80, 40)).save(tmp_path / "p.png")
    masks = {"area", "rle"}
    for options, expected in (((), [True, False]), (("--all-masks",), [True, True])):
        result = run(tmp_path / "p.png", "-m", tmp_path / "m.onnx", "--json", *options)
        found = json.loads(result.stdout)["detections"]
        assert [one["positive"] for one in found] == [True, False]
        assert [masks <= set(one) for one in found] == expected
        assert [bool(masks & set(one)) for one in found] == expected


def test_predict_disk_full_after_first_image(place, monkeypatch):
    drawn: list[Any] = []

    def add(self, result):
        if drawn:
            raise StorageFull("out/2.jpg could not be written (No space left on device)")
        drawn.append(self.folder / "1.jpg")
        return drawn[0]

    monkeypatch.setattr(DrawnWriter, "add", add)
    result = run(place / "photos", "-m", place / "model.onnx", "-o", place / "out", "--json")
    assert result.exit_code == 1
    assert "stopped after 1 images" in result.stderr
    assert len(result.stdout.splitlines()) == 1


def test_predict_video_frame_by_frame_and_drawn_as_video(place):
    pytest.importorskip("av")
    from blemish.inference.video import VideoWriter, read_frames

    with VideoWriter(place / "walk.mp4") as writer:
        for i in range(6):
            writer.write(Image.new("RGB", (64, 48), (40 * i, 90, 20)), i / 10)
    arguments = [
        place / "walk.mp4",
        place / "photos/a/1.png",
        "-m",
        place / "model.onnx",
        "-o",
        place / "out",
    ]
    result = run(*arguments, "--json", "--frame-step", 2)
    assert result.exit_code == 0, result.output
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [a.get("frame") for a in answers] == [0, 2, 4, None]
    assert [a.get("time_seconds") for a in answers] == [0.0, 0.2, 0.4, None]
    assert {Path(a["drawn"]).name for a in answers} == {"walk.blemish.mp4", "1.blemish.jpg"}
    drawn = list(read_frames(place / "out/walk.blemish.mp4"))
    assert [f.time_seconds for f in drawn] == pytest.approx([0, 0.2, 0.4], abs=0.002)
    text = run(*arguments[:1], *arguments[2:4])
    assert text.stdout.splitlines()[1].startswith(f"{place / 'walk.mp4'} frame 1: ")


def test_predict_tiles(tmp_path, tiny):
    graph = tiny.fixed_graph(
        boxes=np.array([[2, 2, 4, 4]], np.float32),
        scores=np.array([0.9], np.float32),
        labels=np.array([1], np.int64),
    )
    roles = ("boxes", "scores", "labels")
    model_contract = tiny.contract(
        Task.DETECTION, outputs=tuple({"name": r, "role": r} for r in roles), decoder={"name": "final"}
    )
    write_model_file(tmp_path / "m.onnx", graph, model_contract)
    Image.new("RGB", (64, 32)).save(tmp_path / "p.png")
    arguments = (
        tmp_path / "p.png",
        "-m",
        tmp_path / "m.onnx",
        "--json",
        "--tile-size",
        16,
        "--tile-overlap",
        0,
    )
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    boxes = {tuple(o["box_xyxy"]) for o in json.loads(result.stdout)["detections"]}
    assert {(4.0 + x, 4.0 + y, 8.0 + x, 8.0 + y) for x in range(0, 64, 16) for y in (0, 16)} <= boxes
    few = run(*arguments, "--max-detections", 3, "--batch-size", 4)
    assert len(json.loads(few.stdout)["detections"]) == 3
    (tmp_path / "broken.png").write_bytes(b"x")
    both = run(tmp_path / "broken.png", *arguments)
    assert both.exit_code == 1
    assert "error" in json.loads(both.stdout.splitlines()[0])


def test_predict_refuses_tiles_for_model_without_detections(place):
    result = run(place / "photos", "-m", place / "model.onnx", "--tile-size", 64)
    assert result.exception.code == "wrong-task.needs-detections"


def test_progress_bars_count_images_and_tiles():
    from rich.console import Console
    from rich.progress import Progress

    from blemish.commands.predict_command import _ProgressBars

    with Progress(console=Console(file=io.StringIO(), force_terminal=True)) as bars:
        shown = _ProgressBars(bars)
        shown.on_image(3, 1)
        shown.on_tiles(2, 9)
        images, tiles = bars.tasks
        assert (images.completed, images.description) == (3, "images, 1 failed")
        assert (tiles.completed, tiles.total) == (2, 9)


def test_predict_warns_of_unused_bits_and_passed_over_images(place):
    folder = place / "mixed"
    folder.mkdir()
    gray = np.linspace(0, 4095, 600).astype(np.uint16).reshape(20, 30)
    Image.fromarray(gray).save(folder / "a.png")
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "b.png")
    (folder / "c.HEIC").write_bytes(b"unread")
    result = run(folder, "--model", place / "model.onnx", "--json")
    assert result.exit_code == 0
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert "white is 4095" in rows[0]["warning"] and "warning" not in rows[1]
    assert "1 image may look nearly black" in result.stderr and "--white-level" in result.stderr
    assert "1 HEIC (c.HEIC)" in result.stderr
    given = run(folder, "--model", place / "model.onnx", "--json", "--white-level", 4095)
    assert "nearly black" not in given.stderr
    bright = json.loads(given.stdout.splitlines()[0])
    assert "warning" not in bright
    assert abs(bright["labels"][1]["score"] - rows[0]["labels"][1]["score"]) > 1e-4
    reference = load(place / "model.onnx").predict(np.clip(gray / 4095 * 65535, 0, 65535).astype(np.uint16))
    assert bright["labels"][0]["score"] == pytest.approx(float(reference.scores[0]), abs=1e-5)


def test_predict_output_of_an_image_wider_than_jpeg_allows(place):
    wide = place / "wide"
    wide.mkdir()
    Image.new("RGB", (70_000, 2), (90, 90, 90)).save(wide / "a.png")
    Image.new("RGB", (30, 20)).save(wide / "b.png")
    result = run(wide, "--model", place / "model.onnx", "--output", place / "out")
    assert result.exit_code == 0
    with Image.open(place / "out" / "a.blemish.jpg") as drawn:
        assert 30_000 <= drawn.width <= 65_500
    assert (place / "out" / "b.blemish.jpg").is_file()


@pytest.mark.parametrize("as_json", [True, False])
def test_predict_error_while_drawing_stays_with_its_image(place, monkeypatch, as_json):
    add = DrawnWriter.add

    def fail_once(self, result):
        if result.input.path.name == "2.png":
            raise ValueError("encoder error")
        return add(self, result)

    monkeypatch.setattr(DrawnWriter, "add", fail_once)
    options = ["--json"] if as_json else []
    result = run(place / "photos", "--model", place / "model.onnx", "--output", place / "out", *options)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    if as_json:
        row = json.loads(lines[1])
        assert row["drawing_error"]["code"] == "bad-image.not-drawn" and row["labels"]
    else:
        assert "not drawn" in lines[1] and "2.png" in lines[1]
