"""Retake beside predictions: one image, streams, tiles, and model files without limits."""

import numpy as np
import pytest
from PIL import Image

from blemish.errors import BadInput
from blemish.evaluation.capture_calibration import calibrate_capture
from blemish.inference import load
from blemish.inference.inputs import ImageInput
from blemish.inference.predictor import Predictor
from blemish.inference.tiles import Tiling
from blemish.model_file import InputSpec, read_model_file
from blemish.structures import Task

SPEC = InputSpec(size_hw=(32, 32))


def scene(seed, side=48):
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(60, 200, (6, 6, 3))
    smooth = Image.fromarray(coarse.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    fine = np.asarray(smooth, float) + rng.normal(0, 20, (side, side, 1))
    return Image.fromarray(np.clip(fine, 0, 255).astype(np.uint8))


@pytest.fixture
def folder(tmp_path):
    for i in range(40):
        scene(i).save(tmp_path / f"usual{i}.png")
    return tmp_path


@pytest.fixture
def gated(folder, tiny):
    tiny.write_scores_model(folder / "plain.onnx", inputs=(SPEC,))
    return calibrate_capture(folder / "plain.onnx", [folder], output=folder / "gated.onnx")


def test_calibrate_capture_keeps_the_network_and_its_predictions(gated, folder):
    plain, file = read_model_file(folder / "plain.onnx"), gated.model_file
    assert plain.graph_digest == file.graph_digest and plain.contract.capture is None
    assert gated.limits == file.contract.capture == read_model_file(file.path).contract.capture
    assert (gated.limits.images, gated.unreadable) == (40, 0)
    before, after = (
        load(path, check_capture=True).predict(folder / "usual3.png") for path in (plain.path, file.path)
    )
    assert np.array_equal(before.label_scores, after.label_scores)
    assert before.capture is None and after.capture is not None and not after.capture.retake
    assert before.to_dict()["capture"] is None and after.to_dict()["capture"]["retake"] is False


def test_calibrate_capture_refuses_few_images_and_impossible_rates(folder, tiny):
    tiny.write_scores_model(folder / "plain.onnx", inputs=(SPEC,))
    with pytest.raises(BadInput) as few:
        calibrate_capture(folder / "plain.onnx", [folder / "usual1.png"])
    assert few.value.code == "bad-input.few-images"
    with pytest.raises(BadInput) as rate:
        calibrate_capture(folder / "plain.onnx", [folder], rate=1.0)
    assert rate.value.code == "bad-input.rate"


def codes(prediction):
    return {reason.code for reason in prediction.capture.reasons}


def test_predict_states_faults_if_it_is_asked_to(gated):
    predictor = load(gated.model_file, check_capture=True)
    dark = Image.fromarray((np.asarray(scene(99), float) * 0.1).astype(np.uint8))
    assert codes(predictor.predict(scene(99))) == set()
    assert "underexposed" in codes(predictor.predict(dark))
    assert "too-small" in codes(predictor.predict(scene(99).resize((20, 20))))
    assert load(gated.model_file).predict(dark).capture is None


def test_streams_name_the_earlier_image_of_a_near_duplicate(gated, folder, tmp_path):
    scene(1).resize((60, 60)).save(tmp_path / "copy.png")
    predictor = load(gated.model_file, check_capture=True)
    paths = [folder / "usual0.png", folder / "usual1.png", tmp_path / "copy.png", folder / "usual2.png"]
    found = predictor.predict(paths)
    assert [codes(p) & {"near-duplicate"} for p in found] == [set(), set(), {"near-duplicate"}, set()]
    assert found[2].capture.reasons[-1].other == str(folder / "usual1.png")
    batches = [r.prediction for r in predictor.stream(paths, batch_size=3)]
    assert [codes(p) for p in batches] == [codes(p) for p in found]
    assert predictor.predict(tmp_path / "copy.png").capture.retake is False  # alone
    predictor.compares_images = False
    assert all("near-duplicate" not in codes(p) for p in predictor.predict(paths))


def test_frames_of_a_video_are_not_compared(gated, folder):
    predictor = load(gated.model_file, check_capture=True)
    from blemish.imaging import LoadedImage

    frame = LoadedImage(scene(1))
    inputs = [ImageInput.from_frame(folder / "walk.mp4", i, i / 25, frame) for i in range(3)]
    assert all(not r.prediction.capture.retake for r in predictor.stream(inputs))


def test_tiles_are_judged_by_the_whole_image(folder, tiny, gated):
    boxes = tiny.fixed_graph(
        (32, 32), boxes=np.zeros((1, 4), np.float32), scores=np.zeros((1, 2), np.float32)
    )
    from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
    from blemish.model_file import DecoderSpec, OutputSpec

    contract = tiny.contract(
        Task.DETECTION,
        inputs=(SPEC,),
        outputs=(OutputSpec(name="boxes", role="boxes"), OutputSpec(name="scores", role="scores")),
        decoder=DecoderSpec(name="dense", settings={"score_function": "sigmoid"}),
        capture=gated.limits,
    )
    predictor = Predictor(OnnxRuntimeBackend(boxes, device="cpu"), contract, check_capture=True)
    image = scene(99, 96).resize((96, 96))
    small = scene(99).resize((96, 96))
    dark = Image.fromarray((np.asarray(small, float) * 0.1).astype(np.uint8))
    tiling = Tiling(size=48, overlap=0.0)
    assert predictor.predict_tiled(image, tiling).capture is not None
    assert "underexposed" in codes(predictor.predict_tiled(dark, tiling))
    assert predictor.predict_tiled(image, Tiling(size=48, overlap=0.0, whole=False)).capture is None
