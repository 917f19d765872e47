import gc
import itertools
import threading
import tracemalloc
from collections.abc import Generator

import numpy as np
import pytest
from PIL import Image

from blemish.errors import BadImage, BadInput, ImageTooLarge
from blemish.imaging import Limits, LoadedImage, open_image
from blemish.inference import DeviceKind, ImageInput, InputKind, Predictor, load
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.inference.tiles import Tiling
from blemish.model_file import InputSpec, OutputSpec, write_model_file
from blemish.preprocessing import prepare
from blemish.structures import Task
from blemish.testing import raises


def scene(size_hw=(40, 60), seed=0):
    """Return an image that is not symmetric, so that rotating it changes the prediction."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    waves = [128 + 100 * np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.01, 0.2, (3, 3))]
    return np.stack(waves, 2).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(12):
        Image.fromarray(scene((30 + i, 50), seed=i)).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


def paths(folder):
    return [folder / f"{i}.png" for i in range(12)]


def test_predict_equals_linear_network_computed_by_hand(model, tiny, tmp_path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_model(str(model.path)).graph
    weight, bias = (onnx.numpy_helper.to_array(x).astype(np.float64) for x in graph.initializer)
    array, _ = prepare(LoadedImage(scene()), model.contract.inputs[0])
    logits = array.ravel().astype(np.float64) @ weight + bias
    expected = np.exp(logits) / np.exp(logits).sum()
    answer = load(model.path).predict(scene())
    assert answer.label_scores == pytest.approx(expected, abs=1e-6)
    assert answer.label_index[0] == expected.argmax()
    assert answer.model_digest == model.digest
    assert answer.size_hw == (40, 60)


def test_predict_every_kind_of_source_gives_the_same_prediction(model, tmp_path):
    predictor = load(model.path)
    path = tmp_path / "photo.png"
    Image.fromarray(scene()).save(path)
    expected = predictor.predict(path)
    assert expected.path == path
    sources = [str(path), path.read_bytes(), Image.fromarray(scene()), scene(), open_image(path)]
    sources.append(np.concatenate([scene(), np.full((40, 60, 1), 255, np.uint8)], 2))
    for source in sources:
        answer = predictor.predict(source)
        assert answer.label_scores.tolist() == expected.label_scores.tolist()
    assert predictor.predict(scene()).path is None
    transparent = np.concatenate([scene(), np.zeros((40, 60, 1), np.uint8)], 2)
    white = predictor.predict(np.full((40, 60, 3), 255, np.uint8))
    assert predictor.predict(transparent).label_scores.tolist() == white.label_scores.tolist()


@pytest.mark.parametrize(
    "source",
    [
        3,
        None,
        np.zeros((4, 4)),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        Image.new("F", (4, 4)),
    ],
    ids=["int", "none", "float", "two-channels", "empty", "pil-float"],
)
def test_predict_refuses_objects_that_are_not_images(model, source):
    with pytest.raises(BadInput) as caught:
        load(model.path).predict(source)
    assert caught.value.code.startswith("bad-input")


def test_predict_truncated_pil_image(model, tmp_path):
    path = tmp_path / "cut.png"
    Image.fromarray(scene((200, 200))).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with Image.open(path) as opened, raises("bad-image", "cut.png"):
        load(model.path).predict(opened)


# The transpose of PIL that stores an image with each EXIF orientation.
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_predict_rotated_image_equals_upright_image(model, tmp_path, orientation):
    """From the file, from its bytes, and as a PIL image: all eight EXIF orientations."""
    predictor = load(model.path)
    upright = scene()
    turn = TURNS[orientation]
    stored = Image.fromarray(upright) if turn is None else Image.fromarray(upright).transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    expected = predictor.predict(upright)
    with Image.open(path) as opened:
        for source in (path, path.read_bytes(), opened):
            answer = predictor.predict(source)
            assert answer.size_hw == (40, 60)
            assert answer.label_scores.tolist() == expected.label_scores.tolist()


def test_predict_keeps_16_bits(tmp_path, tiny):
    """Gray levels that are equal in 8 bits differ in 16 bits, from a file and from an array."""
    spec = InputSpec(size_hw=(8, 8), white_level=4095, mean=(0, 0, 0), std=(1, 1, 1))
    model = tiny.write_scores_model(tmp_path / "model.onnx", inputs=(spec,))
    predictor = load(model.path)
    dark = np.random.default_rng(0).integers(0, 16, (8, 8)).astype(np.uint16)
    answers = []
    for suffix in ("png", "tiff"):
        Image.fromarray(dark).save(tmp_path / f"dark.{suffix}")
        answers.append(predictor.predict(tmp_path / f"dark.{suffix}").label_scores)
    answers += [predictor.predict(dark).label_scores, predictor.predict(Image.fromarray(dark)).label_scores]
    assert all((a == answers[0]).all() for a in answers)
    black = predictor.predict(np.zeros((8, 8), np.uint16)).label_scores
    assert abs(answers[0] - black).max() > 1e-4
    eight = predictor.predict(np.zeros((8, 8, 3), np.uint8)).label_scores
    assert (eight == black).all()
    fed, _ = prepare(LoadedImage(dark), spec)
    assert fed[0] == pytest.approx(dark / 4095, abs=1e-7)


def test_stream_keeps_order_and_continues_after_broken_image(model, folder):
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    sources = [*paths(folder)[:5], folder / "broken.jpg", "missing.jpg", *paths(folder)[5:]]
    predictor = load(model.path)
    for size in (1, 4, 100):
        results = list(predictor.stream(sources, size))
        assert [r.input.id for r in results] == [str(source) for source in sources]
        assert [i for i, r in enumerate(results) if r.error] == [5, 6]
        assert all((r.prediction is None) != (r.error is None) for r in results)
        assert isinstance(results[5].error, BadImage)
        assert "broken.jpg" in str(results[5].error)
        assert "missing.jpg" in str(results[6].error)
        for result in results:
            if result.prediction is not None:
                assert result.prediction.path == result.input.path
                assert result.timing.read > 0
                assert result.timing.prepare > 0
                assert result.timing.infer > 0
                assert result.timing.total < 5


def test_stream_prediction_is_independent_of_batch_and_order(model, folder):
    predictor = load(model.path)
    alone = {p: predictor.predict(p).label_scores for p in paths(folder)}
    rng = np.random.default_rng(0)
    for size in (2, 5, 12):
        shuffled = [paths(folder)[i] for i in rng.permutation(12)]
        for result in predictor.stream(shuffled, size):
            assert result.prediction.label_scores == pytest.approx(alone[result.input.path], abs=1e-6)


def test_stream_respects_graph_with_fixed_batch(tmp_path, tiny, folder):
    class Single(OnnxRuntimeBackend):
        def run(self, feeds):
            assert len(feeds["image"]) == 1
            return super().run(feeds)

    model = tiny.write_scores_model(tmp_path / "model.onnx", dynamic_batch=False)
    predictor = Predictor(Single(model.path), model)
    results = list(predictor.stream(paths(folder), 8))
    assert all(r.error is None for r in results)
    prepared = [predictor.prepare(open_image(p)) for p in paths(folder)]
    together = predictor.predict_prepared(prepared)
    assert [p.label_scores.tolist() for p in together] == [
        r.prediction.label_scores.tolist() for r in results
    ]


def test_predict_prepares_each_input_of_network(tmp_path, tiny):
    from onnx import helper

    nodes = [
        helper.make_node("ReduceMean", ["large"], ["a"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMax", ["small"], ["b"], axes=[2, 3], keepdims=0),
        helper.make_node("Add", ["a", "b"], ["logits"]),
    ]
    graph = tiny.serialised(
        nodes, {"large": (None, 3, 12, 12), "small": (None, 3, 6, 4)}, {"logits": (None, 3)}, {}
    )
    inputs = (
        InputSpec(name="large", size_hw=(12, 12), mean=(0, 0, 0), std=(1, 1, 1)),
        InputSpec(
            name="small", size_hw=(6, 4), resize="letterbox", scale="byte", mean=(0, 0, 0), std=(1, 1, 1)
        ),
    )
    model_contract = tiny.contract(Task.MULTILABEL, ("r", "g", "b"), inputs=inputs)
    model = write_model_file(tmp_path / "model.onnx", graph, model_contract)
    arrays = [prepare(LoadedImage(scene()), spec)[0] for spec in inputs]
    logits = arrays[0].mean((1, 2)) + arrays[1].max((1, 2))
    answer = load(model.path).predict(scene())
    assert answer.label_scores == pytest.approx(1 / (1 + np.exp(-logits.astype(np.float64))), abs=1e-6)


def test_predict_boxes_are_in_image_pixels(tmp_path, tiny):
    graph = tiny.fixed_graph(
        boxes=np.array([[2, 2, 6, 6], [2, 2, 6, 5.9], [0, 0, 8, 1]], np.float32),
        scores=np.array([[0.9, 0.0], [0.8, 0.0], [0.0, 0.4]], np.float32),
    )
    outputs = (
        OutputSpec(name="boxes", role="boxes"),
        OutputSpec(name="scores", role="scores", activation="probabilities"),
    )
    model_contract = tiny.contract(Task.DETECTION, outputs=outputs, decoder={"name": "dense"}, min_score=0.1)
    model = write_model_file(tmp_path / "model.onnx", graph, model_contract)
    predictor = load(model.path)
    answer = predictor.predict(scene((40, 80)))
    assert answer.boxes_xyxy.tolist() == [[20, 10, 60, 30], [0, 0, 80, 5]]
    assert answer.label_names == ("fine", "dented")
    assert len(predictor.predict(scene(), min_score=0.5)) == 1
    assert len(predictor.predict(scene(), max_detections=1)) == 1
    (result,) = predictor.stream([scene((40, 80))], min_score=0.5)
    assert len(result.prediction) == 1


def test_stream_refuses_impossible_options_at_call(model):
    predictor = load(model.path)
    with raises("wrong-task.needs-detections", "classification"):
        predictor.predict(scene(), min_score=0.5)
    with raises("wrong-task.needs-detections", "max_detections"):
        predictor.stream([], max_detections=3)
    with raises("wrong-task.needs-detections", "tiling", "classification"):
        predictor.stream([], tiling=Tiling(64))
    with raises("bad-input.batch-size", "got 0"):
        predictor.stream([], 0)


class CountedImages:
    """A stream of images that counts how many were consumed."""

    def __init__(self, count):
        self.count, self.taken = count, 0

    def __iter__(self):
        for i in range(self.count):
            self.taken += 1
            yield scene((40, 60), i % 7)


def test_stream_reads_few_images_ahead(model):
    predictor = Predictor(OnnxRuntimeBackend(model.path), model, readers=2)
    stream = CountedImages(10**9)
    results = predictor.stream(stream, 4)
    assert isinstance(results, Generator)
    for done, _ in enumerate(itertools.islice(results, 40), 1):
        assert stream.taken <= done + 4 * 2 + 2
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("blemish-reader")]


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_stream_memory_is_constant(model, count):
    predictor = Predictor(OnnxRuntimeBackend(model.path), model, readers=2)
    results = predictor.stream(CountedImages(count), 8)
    for _ in itertools.islice(results, 500):
        pass
    gc.collect()
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        for _ in results:
            pass
        gc.collect()
        end, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert end - start < 200_000
    assert peak - start < 4_000_000  # a window of images of 7 kB and their inputs


def test_stream_prepares_next_image_while_network_runs(model):
    """The network finishes an image only when the next one is prepared."""
    prepared = 0
    condition = threading.Condition()

    class WaitingNetwork:
        name, precision, device_kind = "waiting", "fp32", DeviceKind.CPU
        runs = 0

        def run(self, feeds):
            with condition:
                self.runs += 1
                assert condition.wait_for(lambda: prepared >= min(self.runs + 1, 20), timeout=60)
            return {"logits": np.zeros((len(feeds["image"]), 3), np.float32)}

    class CountingPredictor(Predictor):
        def prepare(self, image):
            nonlocal prepared
            result = super().prepare(image)
            with condition:
                prepared += 1
                condition.notify_all()
            return result

    network = WaitingNetwork()
    predictor = CountingPredictor(network, model, readers=2)
    assert all(result.error is None for result in predictor.stream([scene()] * 20))
    assert network.runs == 20


def test_stream_refuses_large_files_and_continues(model, folder):
    predictor = load(model.path, limits=Limits(max_pixels=50 * 35))
    results = list(predictor.stream(paths(folder)))
    assert [isinstance(r.error, ImageTooLarge) for r in results] == [False] * 6 + [True] * 6


def test_stream_keep_images(model, folder):
    predictor = load(model.path)
    assert all(r.image is None for r in predictor.stream(paths(folder)[:3]))
    kept = list(predictor.stream(paths(folder)[:3], keep_images=True))
    assert [r.image.size_hw for r in kept] == [(30, 50), (31, 50), (32, 50)]


def test_stream_nan_outputs_fail_only_their_image(model):
    class Odd:
        name, precision, device_kind = "odd", "fp32", DeviceKind.CPU

        def run(self, feeds):
            logits = np.zeros((len(feeds["image"]), 3), np.float32)
            logits[feeds["image"].max((1, 2, 3)) > 2.6] = np.nan
            return {"logits": logits}

    predictor = Predictor(Odd(), model)
    white = np.full((9, 9, 3), 255, np.uint8)
    results = list(predictor.stream([scene(), white, scene()], 3))
    assert [r.error is None for r in results] == [True, False, True]
    assert results[1].error.code == "bad-model-file.not-finite"
    with raises("bad-model-file.not-finite", "scores"):
        predictor.predict(white)


def test_predictor_needs_only_a_contract(model):
    answer = Predictor(OnnxRuntimeBackend(model.path), model.contract).predict(scene())
    assert answer.model_digest == ""
    assert answer.label_scores.tolist() == load(model.path).predict(scene()).label_scores.tolist()


def test_predictor_is_thread_safe(model):
    predictor = load(model.path, threads=1)
    expected = [predictor.predict(scene(seed=i)).label_scores.tolist() for i in range(8)]
    seen = [None] * 8

    def work(i):
        for _ in range(20):
            seen[i] = predictor.predict(scene(seed=i)).label_scores.tolist()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == expected


def test_predict_list_returns_list(model, folder):
    predictor = load(model.path)
    expected = [predictor.predict(path).label_scores.tolist() for path in paths(folder)]
    for images in (paths(folder), tuple(paths(folder)), [str(path) for path in paths(folder)]):
        assert [p.label_scores.tolist() for p in predictor.predict(images)] == expected
    assert predictor.predict([]) == []
    with raises("image-undecodable.unsupported-format", "broken.jpg"):
        (folder / "broken.jpg").write_bytes(b"nothing")
        predictor.predict([*paths(folder)[:2], folder / "broken.jpg"])


@pytest.mark.parametrize(
    "url", ["https://example.org/car.jpg", "http://example.org/", "s3://bucket/car.jpg", "file:///car.jpg"]
)
def test_predict_refuses_urls(model, url):
    predictor = load(model.path)
    with raises("bad-input.url", "example" if "example" in url else "car.jpg"):
        predictor.predict(url)
    with raises("bad-input.url"):
        predictor.predict([url])
    (result,) = predictor.stream([url])
    assert result.error.code == "bad-input.url"
    assert result.input.id == url


def test_image_input_url_like_file_name_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ImageInput.of("C:/photos/car.jpg").error is None
    try:
        (tmp_path / "https:").mkdir()
        (tmp_path / "https:" / "car.png").write_bytes(b"")
    except OSError:
        pytest.skip("this file system does not allow a colon")
    assert ImageInput.of("https:/car.png").path.name == "car.png"
    assert ImageInput.of("https:/car.png").error is None


def test_stream_results_carry_their_inputs(model, folder):
    photo = open_image(paths(folder)[1])
    images = [paths(folder)[0], photo, scene(), b"nothing", 3]
    inputs = [result.input for result in load(model.path).stream(images)]
    kinds = [InputKind.FILE, InputKind.MEMORY, InputKind.MEMORY, InputKind.MEMORY, InputKind.MEMORY]
    assert [one.kind for one in inputs] == kinds
    assert [one.path for one in inputs] == [paths(folder)[0], paths(folder)[1], None, None, None]
    assert [one.id for one in inputs][2:] == ["image 2", "image 3", "image 4"]
    own = ImageInput.from_file(paths(folder)[0])
    (result,) = load(model.path).stream([own])
    assert result.input is own


def test_predictor_explain(tmp_path, tiny):
    model = tiny.write_scores_model(tmp_path / "model.onnx", task=Task.MULTILABEL, labels=("a", "b", "c"))
    predictor = load(model.path)
    path = tmp_path / "scene.png"
    Image.fromarray(scene()).save(path)
    from_array, from_file = (
        predictor.explain(image, method="occlusion", max_evals=30, label="b", faithfulness=False)
        for image in (scene(), path)
    )
    assert [heatmap.label for heatmap in from_array] == ["b"]
    assert from_array[0].values.shape == (40, 60)
    assert (from_array[0].values == from_file[0].values).all()
    assert (from_array[0].path, from_file[0].path) == (None, path)
    assert predictor.explainer is predictor.explainer
    with raises("bad-input.no-model-file"):
        Predictor(predictor.backend, model.contract).explain(scene())


def test_result_plot_needs_pixels(model):
    without, with_pixels = (
        next(load(model.path).stream([scene()], keep_images=keep)) for keep in (False, True)
    )
    assert with_pixels.plot().mode == "RGB"
    with raises("bad-input.no-pixels", "image 0"):
        without.plot()


# --- backends ----------------------------------------------------------------------------------------


def test_openvino_equals_onnxruntime(model):
    pytest.importorskip("openvino")
    first, second = load(model.path), load(model.path, backend="openvino")
    assert second.backend.name.startswith("openvino 20")
    assert second.backend.name.endswith("CPU")
    assert second.backend.precision == "fp32"
    for seed in range(5):
        a, b = (p.predict(scene(seed=seed)).label_scores for p in (first, second))
        assert b == pytest.approx(a, abs=1e-6)
    results = list(second.stream([scene(seed=i) for i in range(7)], 3))
    assert len({r.prediction.label_scores.tobytes() for r in results}) == 7


def test_default_batch_size_follows_device_kind(model, folder):
    class Recording(OnnxRuntimeBackend):
        batches: list[int]

        def run(self, feeds):
            self.batches.append(len(feeds["image"]))
            return super().run(feeds)

    sizes = {}
    for kind in DeviceKind:
        recording = Recording(model.path)
        recording.batches, recording.device_kind = [], kind
        list(Predictor(recording, model).stream(paths(folder)))
        sizes[kind] = recording.batches
    assert sizes == {DeviceKind.CPU: [1] * 12, DeviceKind.ACCELERATOR: [12]}
