"""What training feeds its network: the input of prediction, changed as drawn and in no other way."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from blemish.config.schema import AugmentationConfig
from blemish.decoding import decode
from blemish.imaging import open_image
from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec
from blemish.preprocessing import place, prepare
from blemish.structures import GroundTruth, Labels, Sample, Task
from blemish.training.augmentation.image_augmentation import (
    AugmentationParams,
    augment_pixels,
    draw_params,
    visible_share,
    augment_boxes,
)
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
    ground_truth = GroundTruth(task=Task.CLASSIFICATION, labels=Labels(("x", "y")), label_index=[1])
    return Sample(id="p", path=tmp_path / "p.png", ground_truth=ground_truth)


@pytest.mark.parametrize("augmentation", [None, AugmentationConfig(), AugmentationConfig(mixup=0.2)])
def test_without_augmentation_training_sees_what_prediction_sees_bit_for_bit(sample, augmentation):
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


def test_an_image_is_changed_by_seed_epoch_and_position_alone(sample):
    def item(key, seed=0):
        images = TrainingImageDataset([sample, sample], INPUTS, LabelShares(2), augmentation=FULL, seed=seed)
        return images[key]["inputs"][0]

    first = item((1, 0))
    torch.manual_seed(99)
    assert torch.equal(first, item((1, 0)))
    assert not torch.equal(first, item((2, 0)))
    assert not torch.equal(first, item((1, 1)))
    assert not torch.equal(first, item((1, 0), seed=1))


def test_two_inputs_of_one_image_are_changed_alike(sample):
    inputs = (INPUTS[0], INPUTS[0].model_copy(update={"name": "b"}))
    item = TrainingImageDataset([sample], inputs, LabelShares(2), augmentation=FULL)[(1, 0)]
    assert torch.equal(*item["inputs"])


def test_changes_are_torchvisions():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    picture = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    change = AugmentationParams(
        None, True, False, 7.5, (("contrast", 1.2), ("brightness", 0.8), ("hue", 0.05))
    )
    expected = v2.rotate(v2.horizontal_flip(picture), 7.5, interpolation=InterpolationMode.BILINEAR)
    expected = v2.adjust_hue(v2.adjust_brightness(v2.adjust_contrast(expected, 1.2), 0.8), 0.05)
    assert np.array_equal(augment_pixels(change, pixels), expected.numpy().transpose(1, 2, 0))
    assert np.array_equal(augment_pixels(AugmentationParams(flip_vertical=True), pixels), pixels[::-1])


def test_probabilities_and_ranges_are_kept():
    part = AugmentationConfig(
        horizontal_flip=0.4, brightness=0.2, rotation_degrees=10, probability={"brightness": 0.5}
    )
    random = np.random.default_rng(0)
    drawn = [draw_params(part, random) for _ in range(4000)]
    assert abs(np.mean([d.flip_horizontal for d in drawn]) - 0.4) < 0.03
    assert not any(d.flip_vertical for d in drawn)
    factors = [f for d in drawn for _, f in d.color]
    assert abs(len(factors) / 4000 - 0.5) < 0.03
    assert 0.8 <= min(factors) < 0.82
    assert 1.18 < max(factors) <= 1.2
    angles = [d.angle for d in drawn]
    assert -10 <= min(angles) < -9.8
    assert 9.8 < max(angles) <= 10


@pytest.mark.parametrize(
    "change",
    [
        AugmentationParams(flip_horizontal=True),
        AugmentationParams(flip_vertical=True),
        AugmentationParams(angle=20.0),
        AugmentationParams(None, True, True, -35.0),
    ],
)
def test_boxes_move_as_torchvision_moves_them(change):
    boxes = np.array([[5.0, 8, 20, 30], [0, 0, 40, 50], [12, 3, 13, 44]])
    moved = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(50, 40), clamping_mode=None)
    if change.flip_horizontal:
        moved = v2.horizontal_flip(moved)
    if change.flip_vertical:
        moved = v2.vertical_flip(moved)
    if change.angle:
        moved = v2.rotate(moved, change.angle)
    np.testing.assert_allclose(augment_boxes(change, boxes, (50, 40)), moved.numpy(), atol=1e-4)


def test_a_turned_box_still_holds_its_object():
    """The painted rectangle is turned as a picture; its bright pixels must lie in the moved box."""
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[20:35, 10:40] = 255
    change = AugmentationParams(None, True, False, 25.0)
    turned = augment_pixels(change, pixels)[..., 0] > 128
    rows, columns = np.flatnonzero(turned.any(1)), np.flatnonzero(turned.any(0))
    left, top, right, bottom = augment_boxes(change, np.array([[10.0, 20, 40, 35]]), (60, 80))[0]
    seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose([left, top, right, bottom], seen, atol=1.0)


def test_a_crop_keeps_half_the_box():
    part = AugmentationConfig(random_resized_crop={"scale": (0.08, 1)})
    box = np.array([[60.0, 10, 90, 40]])
    random = np.random.default_rng(0)
    crops = [draw_params(part, random, (100, 120), box).crop_xyxy for _ in range(300)]
    shares = [visible_share(box, c)[0] for c in crops if c is not None]
    assert len(shares) > 200
    assert min(shares) >= 0.5
    assert min(shares) < 0.7
    assert min(c[2] - c[0] for c in crops if c is not None) < 60


def test_the_box_of_a_cropped_image_is_clipped_and_in_its_place(tmp_path):
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[20:40, 30:60] = 255
    Image.fromarray(pixels).save(tmp_path / "p.png")
    ground_truth = GroundTruth(
        task=Task.LOCALIZATION, labels=Labels(()), label_index=[0], boxes_xyxy=[[30, 20, 60, 40]]
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


def test_coord_max_without_change_is_the_images_own_box(tmp_path):
    Image.new("RGB", (80, 60)).save(tmp_path / "p.png")
    ground_truth = GroundTruth(
        task=Task.LOCALIZATION, labels=Labels(()), label_index=[0], boxes_xyxy=[[30, 20, 60, 40]]
    )
    sample = Sample(id="p", path=tmp_path / "p.png", ground_truth=ground_truth)
    for spec in INPUTS:
        item = TrainingImageDataset([sample], (spec,), OneBox(200.0))[(0, 0)]
        np.testing.assert_allclose(item["target"].numpy() * 200, [30, 20, 30, 20], atol=1e-4)


@pytest.mark.parametrize("spec", INPUTS, ids=lambda spec: spec.resize)
def test_with_coord_max_too_the_target_is_a_matter_of_the_inputs_pixels_alone(tmp_path, spec):
    """What is painted is found in the changed input, and decoding the target points at it there."""
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[20:40, 30:60] = 255
    Image.fromarray(pixels).save(tmp_path / "p.png")
    ground_truth = GroundTruth(
        task=Task.LOCALIZATION, labels=Labels(()), label_index=[0], boxes_xyxy=[[30, 20, 60, 40]]
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


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(("count", "size"), [(10, 4), (9, 4), (1, 4), (12, 4)])
def test_an_epoch_is_a_permutation_of_its_own(count, size, world):
    def epoch(number):
        seen = []
        for rank in range(world):
            batches = EpochBatchSampler(count, size, seed=5, rank=rank, world=world)
            batches.set_epoch(number)
            listed = list(batches)
            assert len(listed) == len(batches)
            assert all(key[0] == number for batch in listed for key in batch)
            seen += [key[1] for batch in listed for key in batch]
        return seen

    first = epoch(0)
    assert first == epoch(0)
    assert len(set(first)) >= min(count, len(first)) - world
    if count > 4:
        assert first != epoch(1)


def test_no_batch_of_one_unless_it_is_all():
    assert [len(b) for b in EpochBatchSampler(9, 4)] == [4, 4]
    assert [len(b) for b in EpochBatchSampler(1, 4)] == [1]
    assert [len(b) for b in EpochBatchSampler(9, 4, shuffle=False)] == [4, 4, 1]


def test_resumed_batches_go_on_where_the_others_stopped():
    whole = EpochBatchSampler(10, 4, seed=1)
    whole.set_epoch(3)
    resumed = EpochBatchSampler(10, 4, seed=1, first_epoch=2)
    resumed.set_epoch(1)
    assert list(whole) == list(resumed)


def test_rare_labels_are_drawn_more_often():
    weights = np.array([1.0] * 2 + [0.1] * 20)
    batches = EpochBatchSampler(22, 4, weights=weights, seed=0)
    drawn = []
    for epoch in range(200):
        batches.set_epoch(epoch)
        drawn += [key[1] for batch in batches for key in batch]
    assert abs(np.mean(np.array(drawn) < 2) - 0.5) < 0.05


def test_an_image_drawn_again_is_changed_anew(sample):
    weights = np.array([1.0] + [0.05] * 9)
    keys = [key for batch in EpochBatchSampler(10, 10, weights=weights, seed=0) for key in batch]
    rare = [key for key in keys if key[1] == 0]
    assert len(rare) > 3
    assert rare[0] == (0, 0)
    images = TrainingImageDataset([sample] * 10, INPUTS[:1], LabelShares(2), augmentation=FULL)
    pictures = {images[key]["inputs"][0].numpy().tobytes() for key in rare}
    assert len(pictures) == len(rare)


def test_where_no_crop_keeps_half_a_box_the_whole_image_is_taken():
    part = AugmentationConfig(random_resized_crop={})
    box = np.array([[10.0, 100, 890, 200]])
    random = np.random.default_rng(0)
    crops = {draw_params(part, random, (300, 900), box).crop_xyxy for _ in range(5)}
    assert crops == {(0, 0, 900, 300)}
