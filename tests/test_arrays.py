"""`LazyMasks`: masks that are computed when they are read."""

import pickle

import numpy as np
import pytest

from blemish.arrays import LazyMasks, Mask
from blemish.structures import Labels, Prediction, Task

ONE, TWO = Mask((1, 2), np.array([1, 1])), Mask((1, 2), np.array([0, 2]))


@pytest.fixture
def calls():
    return []


@pytest.fixture
def masks(calls):
    def make(mask):
        return lambda: calls.append(mask.area) or mask

    return LazyMasks([make(ONE), make(TWO)])


def prediction_of(masks):
    return Prediction(
        task=Task.SEGMENTATION,
        labels=Labels(("x",)),
        size_hw=(1, 2),
        label_index=np.zeros(2, int),
        boxes_xyxy=np.array([[0, 0, 2, 1], [0, 0, 2, 1]]),
        masks=masks,
        scores=np.array([0.9, 0.3]),
        label_scores=np.array([0.9]),
        thresholds=np.array([0.5]),
    )


def test_lazy_masks_compute_each_mask_once(masks, calls):
    assert len(masks) == 2
    assert calls == []
    assert masks[-1] is TWO
    assert masks[1] is TWO
    assert masks[:1] == (ONE,)
    assert calls == [2, 1]
    with pytest.raises(IndexError):
        _ = masks[2]


def test_a_prediction_keeps_lazy_masks_and_reads_only_those_it_needs(masks, calls):
    prediction = prediction_of(masks)
    assert "area" not in prediction.to_dict(all_masks=False)["detections"][0]
    assert calls == []
    assert prediction.filter_scores().masks == (ONE,)
    assert calls == [1]
    assert [one["area"] for one in prediction.to_dict()["detections"]] == [1, 2]


def test_pickled_lazy_masks_are_masks(masks):
    again = pickle.loads(pickle.dumps(prediction_of(masks)))
    assert [mask.area for mask in again.masks] == [1, 2]
    assert isinstance(again.masks, tuple)


def test_other_masks_become_a_tuple():
    assert prediction_of([ONE, TWO]).masks == (ONE, TWO)
