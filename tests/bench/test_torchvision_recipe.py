"""torchvision's reference recipe, against which detectors are compared."""

import numpy as np
import pytest
import torch
from bench.torchvision_recipe import RCNN, SSD, ReferenceImages, draw_batches, reference_of, schedules_of
from PIL import Image

from blemish.geometry import mask_from_array
from blemish.model_file import InputSpec
from blemish.structures import GroundTruth, Labels, Sample, Task

LABELS = Labels(("dent",))


def test_draw_batches_groups_images_by_aspect_ratio():
    ratios = [1.5] * 6 + [0.6] * 6
    batches = draw_batches(ratios, 4, np.random.default_rng(0))
    assert len(batches) == 3 and all(len(batch) == 4 for batch in batches)
    assert all(len({ratios[i] for i in batch}) == 1 for batch in batches)
    assert draw_batches([1.0, 1.0], 4, np.random.default_rng(0))[0] in ([0, 1, 0, 1], [1, 0, 1, 0])


def test_schedules_warm_up_in_the_first_epoch_and_fall_twice():
    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    warmup, schedule = schedules_of(optimizer, RCNN, 13, 10)
    rates = []
    for epoch in range(13):
        for _ in range(10):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if epoch == 0:
                warmup.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.001) and rates[9] == pytest.approx(1)
    assert rates[79] == pytest.approx(1) and rates[80] == pytest.approx(0.1)
    assert rates[110] == pytest.approx(0.01)


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("model", ["maskrcnn-resnet18-fpn", "ssd300-resnet50"])
def test_reference_images_move_boxes_and_masks_with_the_pixels(tmp_path, resize, model):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[10:30, 50:70] = (0, 255, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    ground_truth = GroundTruth(
        task=Task.SEGMENTATION,
        labels=LABELS,
        size_hw=(40, 80),
        label_index=np.zeros(1, int),
        boxes_xyxy=np.array([[50.0, 10, 70, 30]]),
        masks=(mask_from_array(pixels[..., 1] > 0),),
    )
    sample = Sample(id="a", path=tmp_path / "a.png", size_hw=(40, 80), ground_truth=ground_truth)
    spec = InputSpec(
        size_hw=(64, 64), resize=resize, letterbox_align="corner", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    reference = reference_of(model)
    assert reference is (SSD if model.startswith("ssd") else RCNN)
    images = ReferenceImages([sample], spec, reference, masks=True)
    torch.manual_seed(0)
    seen = 0
    for _ in range(8):
        image, target = images[0]
        assert image.shape == (3, 64, 64) and image.dtype == torch.float32
        assert len(target["boxes"]) == len(target["masks"]) == len(target["labels"])
        for box, mask in zip(target["boxes"], target["masks"], strict=True):
            x1, y1, x2, y2 = box.tolist()
            rows, columns = np.nonzero(mask.numpy())
            if not len(rows):
                continue
            seen += 1
            assert columns.min() >= x1 - 1 and columns.max() <= x2
            assert rows.min() >= y1 - 1 and rows.max() <= y2
            if reference is RCNN:
                assert image[1, rows, columns].mean() > 0.9
                green = image[1] - image[0]  # without the gray border
                assert green.sum() == pytest.approx(len(rows), rel=0.05)
    assert seen
