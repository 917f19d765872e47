import gc
import itertools
import threading
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from blemish.errors import (
    BadImage,
    BadInput,
    BadModelFile,
    ImageTooLarge,
    MissingExtra,
    UnknownName,
    WrongTask,
)
from blemish.imaging import Limits, LoadedImage, open_image
from blemish.inference import Predictor, backend, load
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.model_file import InputSpec, OutputSpec, ParityCertificate, write_model_file
from blemish.preprocessing import prepare
from blemish.structures import Task


def scene(size_hw=(40, 60), seed=0):
    """An image whose halves differ, so that turning it changes the answer."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    waves = [128 + 100 * np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.01, 0.2, (3, 3))]
    return np.stack(waves, 2).astype(np.uint8)


@pytest.fixture
def model(tmp_path, tiny):
    return tiny.write_scores_model(tmp_path / "model.onnx", labels=("fine", "dented", "scratched"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(12):
        Image.fromarray(scene((30 + i, 50), seed=i)).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


def paths(folder):
    return [folder / f"{i}.png" for i in range(12)]


def test_a_prediction_is_the_linear_network_computed_by_hand(model, tiny, tmp_path):
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


def test_every_kind_of_source_gives_one_answer(model, tmp_path):
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
def test_what_is_no_image_is_named(model, source):
    with pytest.raises(BadInput):
        load(model.path).predict(source)


def test_a_pil_image_that_breaks_off_is_named(model, tmp_path):
    path = tmp_path / "cut.png"
    Image.fromarray(scene((200, 200))).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with Image.open(path) as opened, pytest.raises(BadImage, match=r"cut\.png"):
        load(model.path).predict(opened)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_is_answered_as_the_upright_one(model, tmp_path, orientation):
    """From the file, from its bytes, and as a PIL image: all eight EXIF orientations."""
    predictor = load(model.path)
    upright = scene()
    turn = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[
        orientation
    ]  # PIL's transpose that stores it so
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


def test_sixteen_bits_go_all_the_way(tmp_path, tiny):
    """Grey levels that are one in 8 bits differ in 16, from the file as from the array."""
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


def test_a_stream_keeps_order_and_a_broken_image_stops_nothing(model, folder):
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    sources = [*paths(folder)[:5], folder / "broken.jpg", "missing.jpg", *paths(folder)[5:]]
    predictor = load(model.path)
    for size in (1, 4, 100):
        outcomes = list(predictor.predict_many(sources, size))
        assert [o.source for o in outcomes] == sources
        assert [i for i, o in enumerate(outcomes) if o.error] == [5, 6]
        assert all((o.prediction is None) != (o.error is None) for o in outcomes)
        assert isinstance(outcomes[5].error, BadImage)
        assert "broken.jpg" in str(outcomes[5].error)
        assert "missing.jpg" in str(outcomes[6].error)
        for outcome in outcomes:
            if outcome.prediction is not None:
                assert outcome.prediction.path == outcome.source
                assert outcome.timing.read > 0
                assert outcome.timing.prepare > 0
                assert outcome.timing.infer > 0
                assert outcome.timing.total < 5


def test_a_prediction_depends_neither_on_companions_nor_on_order(model, folder):
    predictor = load(model.path)
    alone = {p: predictor.predict(p).label_scores for p in paths(folder)}
    rng = np.random.default_rng(0)
    for size in (2, 5, 12):
        shuffled = [paths(folder)[i] for i in rng.permutation(12)]
        for outcome in predictor.predict_many(shuffled, size):
            assert outcome.prediction.label_scores == pytest.approx(alone[outcome.source], abs=1e-6)


def test_a_graph_that_takes_one_image_is_never_handed_two(tmp_path, tiny, folder):
    class Single(OnnxRuntimeBackend):
        def run(self, feeds):
            assert len(feeds["image"]) == 1
            return super().run(feeds)

    model = tiny.write_scores_model(tmp_path / "model.onnx", dynamic_batch=False)
    predictor = Predictor(Single(model.path), model)
    outcomes = list(predictor.predict_many(paths(folder), 8))
    assert all(o.error is None for o in outcomes)
    prepared = [predictor.prepare(open_image(p)) for p in paths(folder)]
    together = predictor.predict_prepared(prepared)
    assert [p.label_scores.tolist() for p in together] == [
        o.prediction.label_scores.tolist() for o in outcomes
    ]


def test_two_inputs_get_an_image_each_in_its_own_way(tmp_path, tiny):
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
    promise = tiny.contract(Task.MULTILABEL, ("r", "g", "b"), inputs=inputs)
    model = write_model_file(tmp_path / "model.onnx", graph, promise)
    arrays = [prepare(LoadedImage(scene()), spec)[0] for spec in inputs]
    logits = arrays[0].mean((1, 2)) + arrays[1].max((1, 2))
    answer = load(model.path).predict(scene())
    assert answer.label_scores == pytest.approx(1 / (1 + np.exp(-logits.astype(np.float64))), abs=1e-6)


def test_boxes_come_back_in_the_images_own_pixels(tmp_path, tiny):
    graph = tiny.fixed_graph(
        boxes=np.array([[2, 2, 6, 6], [2, 2, 6, 5.9], [0, 0, 8, 1]], np.float32),
        scores=np.array([[0.9, 0.0], [0.8, 0.0], [0.0, 0.4]], np.float32),
    )
    outputs = (
        OutputSpec(name="boxes", role="boxes"),
        OutputSpec(name="scores", role="scores", activation="probabilities"),
    )
    promise = tiny.contract(Task.DETECTION, outputs=outputs, decoder={"name": "dense"}, score_floor=0.1)
    model = write_model_file(tmp_path / "model.onnx", graph, promise)
    predictor = load(model.path)
    answer = predictor.predict(scene((40, 80)))
    assert answer.boxes_xyxy.tolist() == [[20, 10, 60, 30], [0, 0, 80, 5]]
    assert answer.label_names == ("fine", "dented")
    assert len(predictor.predict(scene(), min_score=0.5)) == 1
    assert len(predictor.predict(scene(), max_detections=1)) == 1
    (outcome,) = predictor.predict_many([scene((40, 80))], min_score=0.5)
    assert len(outcome.prediction) == 1


def test_a_choice_among_boxes_of_a_model_without_boxes_is_named_at_once(model):
    predictor = load(model.path)
    with pytest.raises(WrongTask, match="classification"):
        predictor.predict(scene(), min_score=0.5)
    with pytest.raises(WrongTask):
        predictor.predict_many([], max_detections=3)
    with pytest.raises(BadInput, match="batch size"):
        predictor.predict_many([], 0)


class Counting:
    """A stream of images that counts how far ahead it was read and how many are alive."""

    def __init__(self, count):
        self.count, self.taken = count, 0

    def __iter__(self):
        for i in range(self.count):
            self.taken += 1
            yield scene((40, 60), i % 7)


def test_the_stream_is_read_a_few_images_ahead_and_no_more(model):
    predictor = Predictor(OnnxRuntimeBackend(model.path), model, readers=2)
    stream = Counting(10**9)
    outcomes = predictor.predict_many(stream, 4)
    for done, _ in enumerate(itertools.islice(outcomes, 40), 1):
        assert stream.taken <= done + 4 * 2 + 2
    outcomes.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("blemish-reader")]


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_stays_flat(model, count):
    predictor = Predictor(OnnxRuntimeBackend(model.path), model, readers=2)
    outcomes = predictor.predict_many(Counting(count), 8)
    for _ in itertools.islice(outcomes, 500):
        pass
    gc.collect()
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        for _ in outcomes:
            pass
        gc.collect()
        end, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert end - start < 200_000
    assert peak - start < 4_000_000  # a window of images of 7 kB and their inputs


def test_readers_work_while_the_network_does(model):
    class Slow:
        name, precision = "slow CPU", "fp32"

        def run(self, feeds):
            time.sleep(0.02)
            return {"logits": np.zeros((len(feeds["image"]), 3), np.float32)}

    class SlowToRead(Predictor):
        def prepare(self, photo):
            time.sleep(0.02)
            return super().prepare(photo)

    predictor = SlowToRead(Slow(), model, readers=2)
    started = time.perf_counter()
    assert len(list(predictor.predict_many([scene()] * 20))) == 20
    assert time.perf_counter() - started < 20 * 0.04 * 0.8  # one after the other it would be .8 s


def test_limits_hold_for_files_and_the_rest_goes_on(model, folder):
    predictor = load(model.path, limits=Limits(max_pixels=50 * 35))
    outcomes = list(predictor.predict_many(paths(folder)))
    assert [isinstance(o.error, ImageTooLarge) for o in outcomes] == [False] * 6 + [True] * 6


def test_an_image_is_kept_only_where_asked(model, folder):
    predictor = load(model.path)
    assert all(o.image is None for o in predictor.predict_many(paths(folder)[:3]))
    kept = list(predictor.predict_many(paths(folder)[:3], keep_images=True))
    assert [o.image.size_hw for o in kept] == [(30, 50), (31, 50), (32, 50)]


def test_outputs_that_are_no_numbers_spoil_only_their_own_image(model):
    class Odd:
        name, precision = "odd CPU", "fp32"

        def run(self, feeds):
            logits = np.zeros((len(feeds["image"]), 3), np.float32)
            logits[feeds["image"].max((1, 2, 3)) > 2.6] = np.nan
            return {"logits": logits}

    predictor = Predictor(Odd(), model)
    white = np.full((9, 9, 3), 255, np.uint8)
    outcomes = list(predictor.predict_many([scene(), white, scene()], 3))
    assert [o.error is None for o in outcomes] == [True, False, True]
    assert "scores" in str(outcomes[1].error)
    with pytest.raises(BadModelFile, match="not finite"):
        predictor.predict(white)


def test_a_contract_alone_is_enough(model):
    answer = Predictor(OnnxRuntimeBackend(model.path), model.contract).predict(scene())
    assert answer.model_digest == ""
    assert answer.label_scores.tolist() == load(model.path).predict(scene()).label_scores.tolist()


def test_a_predictor_is_shared_by_threads(model):
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


# --- backends ----------------------------------------------------------------------------------------


def test_openvino_answers_as_onnx_runtime_does(model):
    pytest.importorskip("openvino")
    first, second = load(model.path), load(model.path, backend="openvino")
    assert second.backend.name.startswith("openvino 20")
    assert second.backend.name.endswith("CPU")
    assert second.backend.precision == "fp32"
    for seed in range(5):
        a, b = (p.predict(scene(seed=seed)).label_scores for p in (first, second))
        assert b == pytest.approx(a, abs=1e-6)
    outcomes = list(second.predict_many([scene(seed=i) for i in range(7)], 3))
    assert len({o.prediction.label_scores.tobytes() for o in outcomes}) == 7


def certified(tiny, path, **fields):
    defaults = {"passed": True, "images": 3, "verdicts_changed": 0, "largest_difference": 0.0}
    return tiny.write_scores_model(path, certificate=ParityCertificate(**{**defaults, **fields}))


def test_auto_takes_what_the_file_was_certified_with(tmp_path, tiny):
    pytest.importorskip("openvino")
    plain = certified(tiny, tmp_path / "a.onnx", backend="onnxruntime 1.31.1 CPUExecutionProvider")
    other = certified(tiny, tmp_path / "b.onnx", backend="openvino 2026.4.1 CPU")
    bf16 = certified(tiny, tmp_path / "c.onnx", backend="openvino 2026.4.1 CPU", precision="bf16")
    failed = certified(tiny, tmp_path / "d.onnx", backend="openvino 2026.4.1 CPU", passed=False)
    assert load(plain.path).backend.name.startswith("onnxruntime")
    assert load(other.path).backend.name.startswith("openvino")
    assert load(other.path, backend="onnxruntime").backend.name.startswith("onnxruntime")
    assert load(other.path).backend.precision == "fp32"
    half = certified(tiny, tmp_path / "e.onnx", backend="onnxruntime 1.31.1 CPU", precision="fp16")
    assert load(half.path).backend.precision == "fp16"
    assert load(bf16.path).backend.precision == "bf16"
    assert load(failed.path).backend.name.startswith("onnxruntime")
    assert load(plain.path, backend="openvino").backend.precision == "fp32"


def test_what_speaks_against_a_file_is_said(tmp_path, tiny, model):
    assert load(model.path).cautions == ()
    failed = certified(tiny, tmp_path / "d.onnx", passed=False, reasons=("2 verdicts changed",))
    assert "did not pass (2 verdicts changed)" in load(failed.path).cautions[0]
    changed = certified(tiny, tmp_path / "e.onnx", graph_digest="00" * 32)
    assert "changed after it was certified" in load(changed.path).cautions[0]


def test_unknown_backends_and_devices_are_named(model, monkeypatch):
    with pytest.raises(UnknownName, match="did you mean 'onnxruntime'"):
        load(model.path, backend="onnx-runtime")
    with pytest.raises(BadInput, match="unknown device 'gpu'"):
        load(model.path, device="gpu")
    with pytest.raises(BadInput, match="unknown device"):
        load(model.path, device="cuda:x")
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"pip install 'blemish\[openvino\]'"):
        load(model.path, backend="openvino")


def test_cuda_without_cuda_is_named(model):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is a CUDA device")
    with pytest.raises(BadInput, match="needs ONNX Runtime's GPU package"):
        load(model.path, device="cuda")


def test_a_damaged_graph_and_a_contract_of_another_graph_are_named(tmp_path, tiny, model):
    broken = write_model_file(tmp_path / "broken.onnx", b"\x08\x08\x3a\x02\x0a\x00", model.contract)
    with pytest.raises(BadModelFile, match="cannot load it"):
        load(broken.path)
    other = tiny.write_scores_model(
        tmp_path / "other.onnx",
        labels=("fine", "dented", "scratched"),
        inputs=(InputSpec(name="picture", size_hw=(8, 8)),),
    )
    with pytest.raises(BadModelFile, match="cannot be run"):
        load(other.path).predict(scene())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu.max": "nonsense"}, None),
    ],
)
def test_a_containers_quota_is_seen(tmp_path, files, expected):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert backend._container_quota(tmp_path) == expected
    assert backend.available_cores() >= 1
