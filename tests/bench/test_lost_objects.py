"""At which stage an object is lost."""

import numpy as np
from bench.lost_objects import stages_of

from blemish.geometry import mask_from_array
from blemish.structures import GroundTruth, Labels, Prediction, Task

LABELS = Labels(("dent", "scratch"))
SIZE = (40, 80)


def masks_of(boxes):
    masks = []
    for x1, y1, x2, y2 in boxes:
        mask = np.zeros(SIZE, bool)
        mask[y1:y2, x1:x2] = True
        masks.append(mask_from_array(mask))
    return tuple(masks)


def predicted(boxes, labels, scores, masks=None):
    return Prediction(
        task=Task.SEGMENTATION,
        labels=LABELS,
        size_hw=SIZE,
        label_index=np.array(labels, int),
        boxes_xyxy=np.array(boxes, float).reshape(-1, 4),
        masks=masks_of(boxes if masks is None else masks),
        scores=np.array(scores, float),
        label_scores=np.zeros(2),
        thresholds=np.zeros(2),
    )


def test_stages_of_names_the_first_stage_that_loses_an_object():
    boxes = [(10 * i, 5, 10 * i + 8, 25) for i in range(6)]
    ground_truth = GroundTruth(
        task=Task.SEGMENTATION,
        labels=LABELS,
        size_hw=SIZE,
        label_index=np.zeros(6, int),
        boxes_xyxy=np.array(boxes, float),
        masks=masks_of(boxes),
    )
    candidates = predicted(boxes[1:], [1, 0, 0, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5])
    thin = (30, 5, 38, 8)  # of the fourth
    kept = predicted(boxes[3:], [0, 0, 0], [0.7, 0.2, 0.1], [thin, boxes[4], boxes[5]])
    found = [stage for _, stage in stages_of(ground_truth, candidates, kept, np.array([0.15, 0.5]))]
    assert found == ["box", "label", "suppression", "mask", "found", "score"]
