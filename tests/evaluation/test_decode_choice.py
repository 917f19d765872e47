"""`scaled` is chosen only if the primary metric on validation images does not suffer."""

import numpy as np
import pytest
from PIL import Image

from blemish.evaluation.decode_choice import choose_decode, describe_choice
from blemish.inference.backend import Backend, DeviceKind
from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec
from blemish.structures import GroundTruth, Labels, Sample, Task

NAMES = ("dark", "bright")


class Threshold(Backend):
    """Decides by the mean of the input, or by its contrast."""

    name, precision, device_kind = "threshold", "fp32", DeviceKind.CPU

    def __init__(self, by):
        self.by, self.images = by, 0

    def run(self, feeds):
        image = feeds["image"]
        self.images += len(image)
        score = image.mean((1, 2, 3)) - 0.5 if self.by == "mean" else image.std((1, 2, 3)) - 0.05
        return {"logits": np.stack([-score, score], 1) * 50}


CONTRACT = Contract(
    architecture="x",
    task=Task.CLASSIFICATION,
    labels=tuple(LabelSpec(name=n, display_name=n) for n in NAMES),
    inputs=(InputSpec(size_hw=(16, 16), decode="scaled", mean=(0,) * 3, std=(1,) * 3, interpolation="box"),),
    outputs=(OutputSpec(name="logits", role="scores", activation="logits"),),
    decoder=DecoderSpec(name="scores"),
    training={"seed": 3},
)


def samples(folder, side, pattern):
    """Return 24 images; "stripes" of odd width survive a plain resize and vanish in a reduction by four."""
    out = []
    for number in range(24):
        label = number % 2
        pixels = np.full((side, side, 3), 60 + 130 * label if pattern == "mean" else 128, np.uint8)
        if pattern == "stripes" and label:
            pixels[:, ::4], pixels[:, 1::4] = 255, 255
            pixels[:, 2::4], pixels[:, 3::4] = 0, 0
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        labeled = GroundTruth(
            task=Task.CLASSIFICATION,
            labels=Labels(NAMES),
            label_index=np.array([label]),
            size_hw=(side, side),
        )
        out.append(Sample(id=str(number), path=path, ground_truth=labeled))
    return out


def test_scaled_is_chosen_if_the_metric_stays(tmp_path):
    backend = Threshold("mean")
    chosen = choose_decode(backend, CONTRACT, samples(tmp_path, 160, "mean"))
    assert chosen.inputs[0].decode == "scaled"
    record = chosen.training["decode"]
    assert (record["images"], record["reduced"], record["chosen"]) == (24, 24, "scaled")
    assert record["full"] == record["scaled"] == 1
    assert record["metric"] == "macro_f1"
    assert chosen.training["seed"] == 3
    assert backend.images == 48
    assert "scaled" in describe_choice(chosen)


def test_full_is_chosen_if_the_reduction_hides_what_decides(tmp_path):
    spec = CONTRACT.inputs[0].model_copy(update={"interpolation": "linear-plain"})
    contract = CONTRACT.model_copy(update={"inputs": (spec,)})
    chosen = choose_decode(Threshold("contrast"), contract, samples(tmp_path, 144, "stripes"))
    record = chosen.training["decode"]
    assert (chosen.inputs[0].decode, record["chosen"], record["full"]) == ("full", "full", 1)
    assert record["scaled"] < record["full_interval"][0]
    assert "data.decode=full" in describe_choice(chosen)


def test_full_is_chosen_if_no_image_is_reduced(tmp_path):
    backend = Threshold("mean")
    chosen = choose_decode(backend, CONTRACT, samples(tmp_path, 63, "mean"))
    assert chosen.inputs[0].decode == "full"
    assert chosen.training["decode"] == {"images": 24, "reduced": 0, "chosen": "full"}
    assert backend.images == 0
    assert "full" in describe_choice(chosen)


@pytest.mark.parametrize("broken", ["0", "5"])
def test_images_that_cannot_be_read_are_left_out(tmp_path, broken):
    labeled = samples(tmp_path, 160, "mean")
    (tmp_path / f"{broken}.png").write_bytes(b"no image")
    assert choose_decode(Threshold("mean"), CONTRACT, labeled).inputs[0].decode == "scaled"
