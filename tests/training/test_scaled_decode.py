"""With `decode: scaled`, training, prediction, explanation and tiles see the same pixels, bit for bit."""

import io

import numpy as np
import pytest
from PIL import Image

from blemish.config.schema import TilesConfig
from blemish.explanation.masked_inference import MaskedPredictor
from blemish.few_shot.features import input_spec
from blemish.imaging import open_image
from blemish.inference import ImageInput, Predictor, Tiling
from blemish.inference.backend import Backend, DeviceKind
from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec
from blemish.preprocessing import decode_factor, prepare, reduction_for
from blemish.structures import GroundTruth, Labels, Sample, Task
from blemish.training.image_cache import ResizedImageCache
from blemish.training.image_dataset import TrainingImageDataset
from blemish.training.targets import LabelShares
from blemish.training.tile_dataset import cut_image

INPUTS = (
    InputSpec(name="a", size_hw=(24, 24), decode="scaled"),
    InputSpec(
        name="b", size_hw=(40, 60), resize="shortest", decode="scaled", channels=1, mean=(0,), std=(1,)
    ),
    InputSpec(name="c", size_hw=(32, 32), resize="letterbox", decode="scaled", interpolation="linear-plain"),
)


class Recorder(Backend):
    """Returns the mean of the first input as logits, and keeps every input."""

    name, precision, device_kind = "recorder", "fp32", DeviceKind.CPU

    def __init__(self):
        self.feeds = []

    def run(self, feeds):
        self.feeds.append({name: array.copy() for name, array in feeds.items()})
        first = next(iter(feeds.values()))
        return {"logits": np.stack([first.mean((1, 2, 3)), -first.mean((1, 2, 3))], 1)}


def contract_of(inputs=INPUTS):
    return Contract(
        architecture="x",
        task=Task.CLASSIFICATION,
        labels=tuple(LabelSpec(name=n, display_name=n) for n in ("x", "y")),
        inputs=inputs,
        outputs=(OutputSpec(name="logits", role="scores", activation="logits"),),
        decoder=DecoderSpec(name="scores"),
    )


def corners(region):
    left, top, right, bottom = map(int, region)
    return left, top, right, bottom


@pytest.fixture(params=["JPEG", "PNG", "16 bit"])
def sample(request, tmp_path):
    random = np.random.default_rng(3)
    path = tmp_path / ("p.jpg" if request.param == "JPEG" else "p.png")
    if request.param == "16 bit":
        Image.fromarray(random.integers(0, 65536, (203, 311)).astype(np.uint16)).save(path)
    else:
        noise = Image.fromarray(random.integers(0, 256, (100, 150, 3), np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6
        noise.resize((311, 203)).save(path, exif=exif)
    ground_truth = GroundTruth(task=Task.CLASSIFICATION, labels=Labels(("x", "y")), label_index=np.array([1]))
    return Sample(id="p", path=path, ground_truth=ground_truth)


def test_every_way_into_the_network_gives_the_same_input(sample, tmp_path):
    expected = [prepare(open_image(sample.path), spec)[0] for spec in INPUTS]
    full = [prepare(open_image(sample.path), s.model_copy(update={"decode": "full"}))[0] for s in INPUTS]
    assert [np.array_equal(a, b) for a, b in zip(expected, full, strict=True)] == [False] * 3
    for source in (None, ResizedImageCache(INPUTS, None, 10**7, tmp_path / "copies")):
        for _ in range(2):  # the second time from the cache
            item = TrainingImageDataset([sample], INPUTS, LabelShares(2), source=source)[(0, 0)]
            for mine, other in zip(item["inputs"], expected, strict=True):
                assert np.array_equal(mine.numpy(), other)
    backend = Recorder()
    predictor = Predictor(backend, contract_of())
    predictor.predict(sample.path)
    predictor.predict(sample.path.read_bytes())
    list(predictor.stream([sample.path] * 2, keep_images=True))
    whole = open_image(sample.path)
    predictor.predict(whole)
    region = (0, 0, whole.size_hw[1], whole.size_hw[0])
    predictor.predict(ImageInput.of(sample.path).tile(whole, region))
    assert len(backend.feeds) == 6
    explained = MaskedPredictor(backend, contract_of(), open_image(sample.path)).feeds
    for feeds in (*backend.feeds, {name: array[None] for name, array in explained.items()}):
        for spec, other in zip(INPUTS, expected, strict=True):
            assert np.array_equal(feeds[spec.name][0], other)


def test_kept_images_have_all_their_pixels(sample):
    (result,) = Predictor(Recorder(), contract_of()).stream([sample.path], keep_images=True)
    assert np.array_equal(result.image.pixels, open_image(sample.path).pixels)


def test_a_tile_in_training_equals_the_tile_in_prediction(sample, tmp_path):
    spec = InputSpec(size_hw=(16, 16), decode="scaled")
    labels = Labels(("x",))
    ground_truth = GroundTruth(
        task=Task.DETECTION,
        labels=labels,
        label_index=np.zeros(0, int),
        boxes_xyxy=np.zeros((0, 4)),
        size_hw=open_image(sample.path).size_hw,
    )
    labeled = Sample(id="p", path=sample.path, ground_truth=ground_truth)
    tiles = list(cut_image(labeled, TilesConfig(size=128, overlap=0.25), tmp_path))
    image = open_image(sample.path)
    regions = Tiling(128, 0.25).regions(image.size_hw)
    assert len(tiles) == len(regions) > 1
    for tile, region in zip(tiles, regions, strict=True):
        predicted = ImageInput.of(sample.path).tile(image, corners(region)).read()
        trained = open_image(tile.path, reduction=reduction_for((spec,)))
        assert decode_factor(trained.size_hw, spec) == 4
        assert np.array_equal(prepare(predicted, spec)[0], prepare(trained, spec)[0])


@pytest.mark.parametrize(
    ("size_hw", "spec", "crop", "factor"),
    [
        ((3000, 4000), InputSpec(size_hw=(128, 128)), None, 8),
        ((3000, 4000), InputSpec(size_hw=(640, 640), resize="letterbox"), None, 2),
        ((2559, 2560), InputSpec(size_hw=(640, 640)), None, 1),
        ((2560, 2560), InputSpec(size_hw=(640, 640)), None, 2),
        ((3000, 4000), InputSpec(size_hw=(128, 128)), (0, 0, 600, 600), 2),
        ((100, 9000), InputSpec(size_hw=(64, 64), resize="stretch"), None, 1),
        ((100, 9000), InputSpec(size_hw=(64, 64), resize="letterbox"), None, 8),
    ],
)
def test_decode_factor_leaves_two_pixels_per_input_pixel(size_hw, spec, crop, factor):
    scaled = spec.model_copy(update={"decode": "scaled"})
    assert decode_factor(size_hw, scaled, crop) == factor
    assert decode_factor(size_hw, spec, crop) == 1


def test_coordinates_are_those_of_the_full_image():
    pixels = np.zeros((330, 471, 3), np.uint8)
    pixels[150:190, 340:380] = 255
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels[::-1, ::-1]).save(buffer, "JPEG", quality=95, exif=exif)
    spec = InputSpec(size_hw=(48, 64), decode="scaled", mean=(0,) * 3, std=(1,) * 3)
    small, placement = prepare(open_image(buffer.getvalue(), reduction=reduction_for((spec,))), spec)
    assert placement.size_hw == (330, 471)
    mass = small[0]
    y, x = np.average(np.indices(mass.shape).reshape(2, -1) + 0.5, axis=1, weights=mass.ravel())
    left, top, right, bottom = placement.to_network(np.array([[340, 150, 380, 190]]))[0]
    assert x == pytest.approx((left + right) / 2, abs=0.05)
    assert y == pytest.approx((top + bottom) / 2, abs=0.05)


def test_few_shot_input_can_be_scaled():
    assert (input_spec(224).decode, input_spec(224, decode="scaled").decode) == ("full", "scaled")
