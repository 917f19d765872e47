import importlib.util
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from blemish.commands.output import Pictures
from blemish.commands.predict_command import predict
from blemish.errors import BadInput, BadModelFile, ImageTooLarge, StorageFull, WrongTask
from blemish.geometry import mask_from_array
from blemish.inference import load
from blemish.model_file import ParityCertificate, write_model_file
from blemish.structures import Task


def describe(prediction):
    return prediction.task.hook("describe")(prediction)


@pytest.fixture(scope="module")
def tiny():
    path = Path(__file__).parents[1] / "inference" / "tiny_models.py"
    spec = importlib.util.spec_from_file_location("tiny_models", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path, tiny):
    """A folder with a model file and images, one of them broken."""
    tiny.write_scores_model(tmp_path / "model.onnx", labels=("F_Crushed", "R_Normal"))
    rng = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    return tmp_path


def run(*arguments, stdin=None):
    app = typer.Typer()
    app.command()(predict)
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


def test_one_line_of_json_an_image_in_order(place):
    result = run(place / "photos", "--model", place / "model.onnx", "--json")
    assert result.exit_code == 0
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(a["path"]).relative_to(place / "photos").as_posix() for a in answers] == [
        "a/1.png",
        "a/2.png",
        "b/1.png",
    ]
    predictor = load(place / "model.onnx")
    assert answers[1] == predictor.predict(place / "photos/a/2.png").to_dict()
    assert result.stderr == ""


def test_a_broken_image_has_its_own_line_and_the_rest_goes_on(place):
    (place / "photos/a/10.jpg").write_bytes(b"nothing")
    result = run(place / "photos", "-m", place / "model.onnx", "--json", "--batch-size", 2)
    assert result.exit_code == 1
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert ["error" in a for a in answers] == [False, False, True, False]
    assert set(answers[2]) == {"path", "error"}
    assert answers[2]["path"].endswith("a/10.jpg")
    words = run(place / "photos", "-m", place / "model.onnx")
    assert words.exit_code == 1
    assert "10.jpg: this is no image" in words.stdout


def test_nothing_done_exits_with_2(place):
    (place / "broken.jpg").write_bytes(b"nothing")
    assert run(place / "broken.jpg", "-m", place / "model.onnx", "--json").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["missing.jpg", "-m", "model.onnx"], BadInput),
        (["photos", "-m", "missing.onnx"], BadModelFile),
        (["photos", "-m", "photos"], BadModelFile),
        (["photos", "-m", "photos/a/1.png"], BadModelFile),
        (["photos", "-m", "model.onnx", "--min-score", ".5"], WrongTask),
        (["photos", "-m", "model.onnx", "--backend", "tensorflow"], BadInput),
        (["photos", "-m", "model.onnx", "--device", "tpu"], BadInput),
    ],
)
def test_what_cannot_be_done_at_all_is_one_sentence(place, monkeypatch, arguments, error):
    monkeypatch.chdir(place)
    result = run(*arguments)
    assert isinstance(result.exception, error)
    assert "\n" not in str(result.exception)
    assert result.stdout == ""


def test_a_list_on_standard_input(place):
    listed = f"{place}/photos/b/1.png\n\n{place}/photos/gone.png\n"
    result = run("-", "-m", place / "model.onnx", "--json", stdin=listed)
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert first["path"].endswith("b/1.png")
    assert "no such file" in second["error"]
    assert result.exit_code == 1


def test_drawn_images_have_their_own_names_and_no_source_is_touched(place):
    pytest.importorskip("blemish.drawing")
    before = {p: p.read_bytes() for p in (place / "photos").rglob("*.png")}
    for _ in range(2):  # again: the same names, and drawn ones are no sources
        result = run(place / "photos", "-m", place / "model.onnx", "-o", place / "photos", "--json")
        drawn = [json.loads(line)["drawn"] for line in result.stdout.splitlines()]
        assert [Path(d).name for d in drawn] == ["1.blemish.jpg", "2.blemish.jpg", "1-2.blemish.jpg"]
    assert {p: p.read_bytes() for p in before} == before
    for name in drawn:
        with Image.open(name) as picture:
            assert picture.mode == "RGB"
            assert picture.size[0] >= 30


def test_a_full_disk_while_drawing_is_named(place):
    pytest.importorskip("blemish.drawing")
    (place / "taken").write_text("a file where the folder should be")
    result = run(place / "photos", "-m", place / "model.onnx", "-o", place / "taken")
    assert isinstance(result.exception, StorageFull)


def test_the_limit_is_the_callers(place):
    result = run(place / "photos/a/1.png", "-m", place / "model.onnx", "--json", "--limit-megapixels", 0.001)
    assert result.exit_code == 0  # 600 pixels
    Image.new("RGB", (100, 100)).save(place / "large.png")
    result = run(place / "large.png", "-m", place / "model.onnx", "--limit-megapixels", 0.001)
    assert result.exit_code == 2
    (outcome,) = load(place / "model.onnx").predict_many([place / "large.png"])
    assert not isinstance(outcome.error, ImageTooLarge)


def test_a_file_that_failed_its_certificate_is_said_so(place, tiny):
    certificate = ParityCertificate(
        passed=False,
        images=3,
        verdicts_changed=2,
        largest_difference=0.4,
        reasons=("2 verdicts changed",),
    )
    tiny.write_scores_model(place / "forced.onnx", certificate=certificate)
    result = run(place / "photos", "-m", place / "forced.onnx", "--json")
    assert result.exit_code == 0
    assert "did not pass (2 verdicts changed)" in result.stderr
    assert len(result.stdout.splitlines()) == 3


def test_file_names_that_cannot_be_shown_stop_nothing(place):
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


def test_the_whole_command_imports_neither_torch_nor_what_it_does_not_need(place):
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
    ("logits", "thresholds", "said"),
    [
        ([9.0, -9.0], {}, "F Crushed 100.0% (not: R Normal 0.0%)"),
        (
            [0.0, 1.0],
            {"R_Normal": 0.9, "F_Crushed": 0.9},
            "nothing found (not: R Normal 73.1%, F Crushed 50.0%)",
        ),
    ],
)
def test_a_multilabel_verdict_in_words(tmp_path, tiny, logits, thresholds, said):
    graph = tiny.fixed_graph(logits=np.array(logits, np.float32))
    labels = ({"name": "F_Crushed", "title": "F Crushed"}, {"name": "R_Normal", "title": "R Normal"})
    promise = tiny.contract(Task.MULTILABEL).model_dump() | {"labels": labels, "thresholds": thresholds}
    write_model_file(tmp_path / "m.onnx", graph, tiny.contract().model_validate(promise))
    assert describe(load(tmp_path / "m.onnx").predict(np.zeros((5, 5, 3), np.uint8))) == said


def test_a_verdict_on_boxes_in_words(tmp_path, tiny):
    graph = tiny.fixed_graph(
        boxes=np.array([[0, 0, 2, 2], [4, 4, 6, 6], [0, 4, 2, 6], [4, 0, 6, 2]], np.float32),
        scores=np.array([[0.6, 0], [0.9, 0], [0, 0.7], [0.2, 0]], np.float32),
    )
    promise = tiny.contract(
        Task.DETECTION,
        outputs=({"name": "boxes", "role": "boxes"}, {"name": "scores", "role": "scores"}),
        decoder={"name": "dense"},
        score_floor=0.1,
    )
    write_model_file(tmp_path / "m.onnx", graph, promise)
    answer = load(tmp_path / "m.onnx").predict(np.zeros((8, 8, 3), np.uint8))
    assert len(answer) == 4
    assert describe(answer) == "2 x Fine (best 90.0%), 1 x Dented (best 70.0%)"
    masks = tuple(mask_from_array(np.eye(8, dtype=bool) * (i != 1)) for i in range(4))
    drawn = replace(answer, task=Task.SEGMENTATION, masks=masks)
    assert describe(drawn) == f"{describe(answer)}; 1 without an outline"
    result = run(tmp_path, "-m", tmp_path / "m.onnx", "--max-detections", 2)
    assert isinstance(result.exception, BadInput)
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
def test_masks_are_in_the_json_as_polygons_and_runs(tmp_path, tiny):
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
    promise = tiny.contract(
        Task.SEGMENTATION,
        outputs=tuple({"name": r, "role": r, "activation": "probabilities"} for r in roles),
        decoder={"name": "final"},
    )
    write_model_file(tmp_path / "m.onnx", graph, promise)
    Image.new("RGB", (80, 40)).save(tmp_path / "p.png")
    result = run(tmp_path / "p.png", "-m", tmp_path / "m.onnx", "--json")
    (found,) = json.loads(result.stdout)["detections"]
    assert (found["label"], found["display_name"], found["positive"]) == ("fine", "Fine", True)
    assert found["box_xyxy"] == [10, 5, 50, 35]
    assert len(found["polygons"]) == 2
    drawn = pycoco.decode(found["rle"])
    assert drawn.shape == (40, 80)
    assert drawn.sum() == found["area"]
    assert not drawn[20, 30]
    assert drawn[8, 14]


def test_a_disk_that_fills_up_on_the_way_ends_with_1(place, monkeypatch):
    drawn = []

    def add(self, outcome):
        if drawn:
            raise StorageFull("out/2.jpg could not be written (No space left on device)")
        drawn.append(self.folder / "1.jpg")
        return drawn[0]

    monkeypatch.setattr(Pictures, "add", add)
    result = run(place / "photos", "-m", place / "model.onnx", "-o", place / "out", "--json")
    assert result.exit_code == 1
    assert "stopped after 1 images" in result.stderr
    assert len(result.stdout.splitlines()) == 1


def test_a_film_is_answered_frame_by_frame_and_drawn_as_a_film(place):
    pytest.importorskip("av")
    from blemish.inference.video import VideoWriter, frames

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
    drawn = list(frames(place / "out/walk.blemish.mp4"))
    assert [f.time_seconds for f in drawn] == pytest.approx([0, 0.2, 0.4], abs=0.002)
    words = run(*arguments[:1], *arguments[2:4])
    assert words.stdout.splitlines()[1].startswith(f"{place / 'walk.mp4'} frame 1: ")


def test_tiles_from_the_command_line(tmp_path, tiny):
    graph = tiny.fixed_graph(
        boxes=np.array([[2, 2, 4, 4]], np.float32),
        scores=np.array([0.9], np.float32),
        labels=np.array([1], np.int64),
    )
    roles = ("boxes", "scores", "labels")
    promise = tiny.contract(
        Task.DETECTION, outputs=tuple({"name": r, "role": r} for r in roles), decoder={"name": "final"}
    )
    write_model_file(tmp_path / "m.onnx", graph, promise)
    Image.new("RGB", (64, 32)).save(tmp_path / "p.png")
    arguments = (tmp_path / "p.png", "-m", tmp_path / "m.onnx", "--json", "--tile", 16, "--tile-overlap", 0)
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


def test_tiles_for_a_model_without_boxes_are_refused(place):
    result = run(place / "photos", "-m", place / "model.onnx", "--tile", 64)
    assert isinstance(result.exception, WrongTask)


def test_progress_counts_on_a_terminal():
    from rich.console import Console
    from rich.progress import Progress

    from blemish.commands.predict_command import _Shown

    with Progress(console=Console(file=io.StringIO(), force_terminal=True)) as bars:
        shown = _Shown(bars)
        shown.images(3, 1)
        shown.tiles(2, 9)
        images, tiles = bars.tasks
        assert (images.completed, images.description) == (3, "images, 1 failed")
        assert (tiles.completed, tiles.total) == (2, 9)
