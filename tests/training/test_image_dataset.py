"""Training inputs equal those of prediction, except for the drawn augmentation."""

import numpy as np
import pytest
import torch
from PIL import Image

from blemish.config.schema import AugmentationConfig
from blemish.decoding import decode
from blemish.imaging import open_image
from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec
from blemish.preprocessing import place, prepare
from blemish.structures import GroundTruth, Labels, Sample, Task
from blemish.training.batch_sampler import EpochBatchSampler
from blemish.training.image_dataset import TrainingImageDataset
from blemish.training.targets import LabelShares, OneBox

INPUTS = (
    InputSpec(name="a", size_hw=(24, 24)),
    InputSpec(name="b", size_hw=(20, 30), resize="shortest", resize_to=26, interpolation="bicubic"),
    InputSpec(name="c", size_hw=(32, 32), resize="letterbox"),
)


@pytest.fixture(params=["8 bit", "16 bit"])
def sample(request, tmp_path):
    random = np.random.default_rng(3)
    if request.param == "8 bit":
        image = Image.fromarray(random.integers(0, 256, (31, 47, 3), np.uint8))
    else:
        image = Image.fromarray(random.integers(0, 65536, (31, 47)).astype(np.uint16))
    image.save(tmp_path / "p.png")
    ground_truth = GroundTruth(task=Task.CLASSIFICATION, labels=Labels(("x", "y")), label_index=np.array([1]))
    return Sample(id="p", path=tmp_path / "p.png", ground_truth=ground_truth)


@pytest.mark.parametrize("augmentation", [None, AugmentationConfig(), AugmentationConfig(mixup=0.2)])
def test_inputs_without_augmentation_equal_prediction(sample, augmentation):
    item = TrainingImageDataset([sample], INPUTS, LabelShares(2), augmentation=augmentation)[(3, 0)]
    photo = open_image(sample.path)
    for spec, mine in zip(INPUTS, item["inputs"], strict=True):
        assert np.array_equal(mine.numpy(), prepare(photo, spec)[0])
    assert item["target"].tolist() == [0, 1]


FULL = AugmentationConfig(
    horizontal_flip=0.5,
    vertical_flip=0.5,
    rotation_degrees=10,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    hue=0.1,
    random_resized_crop={"scale": (0.3, 1)},
)


def test_augmentation_depends_on_seed_epoch_and_position_alone(sample):
    def item(key, seed=0):
        images = TrainingImageDataset([sample, sample], INPUTS, LabelShares(2), augmentation=FULL, seed=seed)
        return images[key]["inputs"][0]

    first = item((1, 0))
    torch.manual_seed(99)
    assert torch.equal(first, item((1, 0)))
    assert not torch.equal(first, item((2, 0)))
    assert not torch.equal(first, item((1, 1)))
    assert not torch.equal(first, item((1, 0), seed=1))


def test_augmentation_changes_all_inputs_alike(sample):
    inputs = (INPUTS[0], INPUTS[0].model_copy(update={"name": "b"}))
    item = TrainingImageDataset([sample], inputs, LabelShares(2), augmentation=FULL)[(1, 0)]
    assert torch.equal(*item["inputs"])


def test_one_box_target_of_a_cropped_image(tmp_path):
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[20:40, 30:60] = 255
    Image.fromarray(pixels).save(tmp_path / "p.png")
    ground_truth = GroundTruth(
        task=Task.LOCALIZATION,
        labels=Labels(()),
        label_index=np.array([0]),
        boxes_xyxy=np.array([[30, 20, 60, 40]]),
    )
    sample = Sample(id="p", path=tmp_path / "p.png", ground_truth=ground_truth)
    spec = InputSpec(size_hw=(48, 48), resize="shortest", resize_to=56, mean=(0, 0, 0), std=(1, 1, 1))
    part = AugmentationConfig(horizontal_flip=0.5, random_resized_crop={"scale": (0.2, 0.6)})
    images = TrainingImageDataset([sample], (spec,), OneBox(), augmentation=part)
    cut = 0
    for epoch in range(30):
        item = images[(epoch, 0)]
        x, y, w, h = item["target"].numpy() * 48
        assert -1e-4 <= x <= x + w <= 48 + 1e-4
        bright = item["inputs"][0][0].numpy() > 0.5
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        np.testing.assert_allclose(
            [x, y, x + w, y + h], [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], atol=1.2
        )
        cut += rows[0] == 0 or columns[0] == 0 or rows[-1] == 47 or columns[-1] == 47
    assert cut


def test_one_box_target_with_coord_max_without_augmentation(tmp_path):
    Image.new("RGB", (80, 60)).save(tmp_path / "p.png")
    ground_truth = GroundTruth(
        task=Task.LOCALIZATION,
        labels=Labels(()),
        label_index=np.array([0]),
        boxes_xyxy=np.array([[30, 20, 60, 40]]),
    )
    sample = Sample(id="p", path=tmp_path / "p.png", ground_truth=ground_truth)
    for spec in INPUTS:
        item = TrainingImageDataset([sample], (spec,), OneBox(200.0))[(0, 0)]
        np.testing.assert_allclose(item["target"].numpy() * 200, [30, 20, 30, 20], atol=1e-4)


@pytest.mark.parametrize("spec", INPUTS, ids=lambda spec: spec.resize)
def test_one_box_target_with_coord_max_depends_on_the_input_alone(tmp_path, spec):
    """What is painted is found in the changed input, and decoding the target points at it there."""
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[20:40, 30:60] = 255
    Image.fromarray(pixels).save(tmp_path / "p.png")
    ground_truth = GroundTruth(
        task=Task.LOCALIZATION,
        labels=Labels(()),
        label_index=np.array([0]),
        boxes_xyxy=np.array([[30, 20, 60, 40]]),
    )
    sample = Sample(id="p", path=tmp_path / "p.png", ground_truth=ground_truth)
    spec = spec.model_copy(update={"pad_value": 0, "mean": (0, 0, 0), "std": (1, 1, 1)})
    part = AugmentationConfig(horizontal_flip=0.5, random_resized_crop={"scale": (0.2, 0.6)})
    images = TrainingImageDataset([sample], (spec,), OneBox(200.0), augmentation=part)
    promise = Contract(
        architecture="test",
        task=Task.LOCALIZATION,
        labels=(LabelSpec(name="it", display_name="It"),),
        inputs=(spec,),
        outputs=(OutputSpec(name="box", role="box"),),
        decoder=DecoderSpec(name="point", settings={"box_format": "xywh", "coord_max": 200.0}),
    )
    plain = place((60, 80), spec)
    left, top, right, bottom = plain.to_network(np.array([[0, 0, 80, 60]]))[0]  # a border holds no answer
    widths = set()
    for epoch in range(30):
        item = images[(epoch, 0)]
        bright = item["inputs"][0][0].numpy() > 0.5
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        (found,) = decode(promise, {"box": item["target"].numpy()[None]}, [plain])
        seen = np.clip(seen, [left, top] * 2, [right, bottom] * 2)
        np.testing.assert_allclose(plain.to_network(found.boxes_xyxy)[0], seen, atol=1.2)
        widths.add(round(float(item["target"][2]), 3))
    assert len(widths) > 10  # the zoom of the crop is in the target, as it is in the input


def test_augmentation_differs_when_an_image_is_drawn_again(sample):
    weights = np.array([1.0] + [0.05] * 9)
    keys = [key for batch in EpochBatchSampler(10, 10, weights=weights, seed=0) for key in batch]
    rare = [key for key in keys if key[1] == 0]
    assert len(rare) > 3
    assert rare[0] == (0, 0)
    images = TrainingImageDataset([sample] * 10, INPUTS[:1], LabelShares(2), augmentation=FULL)
    inputs_seen = {images[key]["inputs"][0].numpy().tobytes() for key in rare}
    assert len(inputs_seen) == len(rare)
