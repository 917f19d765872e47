import json

import numpy as np
import pytest

from blemish.errors import BadImage, BadInput
from blemish.inference.benchmarking import STAGES, Speed, draw_photographs, measure, peak_megabytes
from blemish.inference.predictor import Predictor
from blemish.modelfile import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec

CONTRACT = Contract(
    architecture="x",
    task="classification",
    labels=[LabelSpec(name=n, title=n) for n in "ab"],
    inputs=[InputSpec(size_hw=(16, 16))],
    outputs=[OutputSpec(name="logits", role="scores", activation="logits")],
    decoder=DecoderSpec(name="scores"),
)


class Counting:
    name, precision = "counting CPU", "fp32"

    def __init__(self):
        self.batches = []

    def run(self, feeds):
        self.batches.append(len(feeds["image"]))
        return {"logits": np.zeros((len(feeds["image"]), 2), np.float32)}


def test_every_stage_of_every_photograph_is_timed(tmp_path):
    backend = Counting()
    photographs = draw_photographs(tmp_path, 3)
    speed = measure(lambda: Predictor(backend, CONTRACT), photographs, batch_size=4, rounds=8)
    assert isinstance(speed, Speed) and speed.photographs == 8
    assert set(speed.milliseconds) == {*STAGES, "total"}
    assert all(0 < of["p50"] <= of["p90"] <= of["p99"] for of in speed.milliseconds.values())
    parts = sum(speed.milliseconds[stage]["p50"] for stage in STAGES)
    assert speed.milliseconds["total"]["p99"] >= parts / 2
    assert backend.batches == [1] * (3 + 8) + [4, 4]
    assert speed.photographs_per_second > 0
    assert json.loads(json.dumps(speed.to_dict()))["milliseconds"]["infer"]["p50"] > 0


def test_a_broken_photograph_stops_it(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"no photograph")
    with pytest.raises(BadImage):
        measure(lambda: Predictor(Counting(), CONTRACT), [tmp_path / "x.jpg"], rounds=1)
    with pytest.raises(BadInput, match="no photograph"):
        measure(lambda: Predictor(Counting(), CONTRACT), [])


def test_memory_is_in_megabytes():
    peak = peak_megabytes()
    assert peak is None or 20 < peak < 100_000


def test_drawn_photographs_compress_as_real_ones(tmp_path):
    paths = draw_photographs(tmp_path, 2)
    assert paths[0].read_bytes() != paths[1].read_bytes()
    assert 100_000 < paths[0].stat().st_size < 800_000
