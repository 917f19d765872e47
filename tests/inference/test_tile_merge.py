"""Detections of tiles, given directly, and what they are merged into."""

import numpy as np
import pytest

from blemish.geometry import mask_from_array, mask_to_array
from blemish.inference.tile_merge import TileDetections
from blemish.inference.tiles import Tiling
from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec
from blemish.structures import Prediction, Task


def contract(task):
    return Contract(
        architecture="test",
        task=task,
        labels=(LabelSpec(name="dent", display_name="Dent"), LabelSpec(name="rust", display_name="Rust")),
        inputs=(InputSpec(size_hw=(64, 64)),),
        outputs=(OutputSpec(name="boxes", role="boxes"),),
        decoder=DecoderSpec(name="final"),
    )


def merge(size_hw, tiles, task=Task.DETECTION):
    """Return the merged prediction of tiles: each a region and its (box in image pixels, score[, label])."""
    regions = np.array([region for region, _ in tiles])
    detections = TileDetections(regions, size_hw)
    model_contract = contract(task)
    for tile, (region, found) in enumerate(tiles):
        boxes = np.array([box for box, *_ in found], float).reshape(-1, 4)
        tile_hw = (region[3] - region[1], region[2] - region[0])
        masks = None
        if task is Task.SEGMENTATION:
            masks = []
            for box in boxes.astype(int):
                array = np.zeros(size_hw, bool)
                array[box[1] : box[3], box[0] : box[2]] = True
                masks.append(mask_from_array(array[region[1] : region[3], region[0] : region[2]]))
        prediction = Prediction(
            task=task,
            labels=model_contract.to_labels(),
            size_hw=tile_hw,
            label_index=np.array([rest[1] if len(rest) > 1 else 0 for _, *rest in found], int),
            boxes_xyxy=boxes - np.tile(region[:2], 2),
            masks=None if masks is None else tuple(masks),
            scores=np.array([rest[0] for _, *rest in found], float),
            label_scores=np.zeros(2),
            thresholds=np.full(2, 0.5),
        )
        detections.add(prediction, tile)
    return detections.merged(model_contract)


def boxes_and_scores(prediction):
    return list(zip(prediction.boxes_xyxy.tolist(), prediction.scores.tolist(), strict=True))


ABOVE, BELOW = (0, 0, 100, 100), (0, 60, 100, 160)  # of a portrait image
LEFT, RIGHT = (0, 0, 100, 100), (60, 0, 160, 100)  # of a landscape image


def test_border_of_image_does_not_cut_an_object():
    """Both tiles show all of an object at the right or lower border: the box of the higher score remains."""
    portrait = merge((160, 100), [(ABOVE, [([60, 70, 100, 95], 0.9)]), (BELOW, [([62, 72, 100, 97], 0.8)])])
    assert boxes_and_scores(portrait) == [([60, 70, 100, 95], 0.9)]
    apart = merge((160, 100), [(ABOVE, [([62, 66, 99, 90], 0.7)]), (BELOW, [([60, 68, 100, 92], 0.8)])])
    assert boxes_and_scores(apart) == [([60, 68, 100, 92], 0.8)]
    landscape = merge((100, 160), [(LEFT, [([66, 62, 90, 99], 0.7)]), (RIGHT, [([68, 60, 92, 100], 0.8)])])
    assert boxes_and_scores(landscape) == [([68, 60, 92, 100], 0.8)]


def test_box_near_border_of_tile_is_a_piece():
    """A box that ends 2 pixels before its tile's border is a piece, although its score is higher."""
    merged = merge((160, 100), [(ABOVE, [([20, 70, 50, 98], 0.9)]), (BELOW, [([20, 70, 50, 130], 0.6)])])
    assert boxes_and_scores(merged) == [([20, 70, 50, 130], 0.6)]
    away = merge((160, 100), [(ABOVE, [([20, 70, 50, 95], 0.9)]), (BELOW, [([20, 70, 50, 94], 0.6)])])
    assert boxes_and_scores(away) == [([20, 70, 50, 95], 0.9)]


@pytest.mark.parametrize(("height", "count"), [(22, 1), (21, 1), (19, 2), (16, 2)])
def test_detections_merge_from_half_overlap(height, count):
    """Two complete detections in the part that both tiles show; their IoU is height / 40."""
    box, other = [20, 64, 50, 96], [20, 64, 50, 64 + 32 * height / 40]
    assert len(merge((160, 100), [(ABOVE, [(box, 0.9)]), (BELOW, [(other, 0.8)])])) == count


def test_small_piece_inside_other_box_merges():
    merged = merge((100, 160), [(LEFT, [([92, 20, 100, 60], 0.5)]), (RIGHT, [([92, 20, 150, 60], 0.8)])])
    assert boxes_and_scores(merged) == [([92, 20, 150, 60], 0.8)]
    labels = merge((100, 160), [(LEFT, [([92, 20, 100, 60], 0.5, 1)]), (RIGHT, [([92, 20, 150, 60], 0.8)])])
    assert len(labels) == 2


def test_piece_that_is_detected_too_small_merges():
    """Where both tiles show the object, the IoU is an eighth, but the piece is inside the other box."""
    merged = merge((100, 160), [(LEFT, [([93, 30, 100, 45], 0.5)]), (RIGHT, [([85, 20, 150, 60], 0.8)])])
    assert boxes_and_scores(merged) == [([85, 20, 150, 60], 0.8)]


def test_pieces_of_three_tiles_become_their_union_with_highest_score():
    tiles = [
        ((0, 0, 100, 100), [([30, 20, 100, 60], 0.5)]),
        ((70, 0, 170, 100), [([70, 22, 170, 62], 0.9)]),
        ((140, 0, 240, 100), [([140, 21, 210, 60], 0.7)]),
    ]
    assert boxes_and_scores(merge((100, 240), tiles)) == [([30, 20, 210, 62], 0.9)]


def test_object_joins_pieces_that_do_not_overlap():
    """Two adjacent tiles show one half each; the tile between them shows the whole object."""
    tiles = [
        ((0, 0, 100, 100), [([60, 20, 100, 60], 0.9)]),
        ((100, 0, 200, 100), [([100, 20, 140, 60], 0.8)]),
        ((50, 0, 150, 100), [([60, 20, 140, 60], 0.6)]),
    ]
    assert boxes_and_scores(merge((100, 200), tiles)) == [([60, 20, 140, 60], 0.6)]


def test_each_detection_of_a_tile_merges_with_one_of_another():
    """Both detections of the upper tile agree with that of the lower tile; only the better one is merged."""
    above = [([10, 63, 50, 95], 0.9), ([10, 63, 50, 84], 0.7)]
    merged = merge((160, 100), [(ABOVE, above), (BELOW, [([10, 64, 50, 95], 0.8)])])
    assert boxes_and_scores(merged) == above


def test_tile_has_precedence_over_whole_image():
    tiles = [
        ((0, 0, 100, 100), [([20, 20, 50, 50], 0.6)]),
        ((60, 0, 160, 100), []),
        ((0, 0, 160, 100), [([22, 22, 52, 52], 0.9)]),
    ]
    assert boxes_and_scores(merge((100, 160), tiles)) == [([20, 20, 50, 50], 0.6)]


@pytest.mark.parametrize("is_portrait", [False, True])
def test_masks_are_placed_at_their_tile_and_united(is_portrait):
    size_hw, tiles = (
        (160, 120),
        [
            ((10, 0, 110, 100), [([30, 70, 60, 100], 0.9)]),
            ((10, 60, 110, 160), [([30, 70, 60, 130], 0.5), ([80, 100, 90, 120], 0.4)]),
        ],
    )
    if not is_portrait:
        size_hw = size_hw[::-1]
        turn = [1, 0, 3, 2]
        tiles = [
            (tuple(np.array(region)[turn]), [(list(np.array(box)[turn]), score) for box, score in found])
            for region, found in tiles
        ]
    merged = merge(size_hw, tiles, Task.SEGMENTATION)
    assert len(merged) == 2
    for mask, box in zip(merged.masks, merged.boxes_xyxy.astype(int), strict=True):
        expected = np.zeros(size_hw, bool)
        expected[box[1] : box[3], box[0] : box[2]] = True
        assert (mask_to_array(mask) == expected).all()


def test_tiling_regions_are_as_few_as_possible_and_evenly_spread():
    regions = Tiling(100, 0.25).regions((251, 100))
    assert regions.tolist() == [[0, y, 100, y + 100] for y in (0, 50, 101, 151)]
    assert Tiling(100, 0.25).regions((100, 175)).tolist() == [[0, 0, 100, 100], [75, 0, 175, 100]]
    assert len(Tiling(100, 0.25).regions((100, 176))) == 3


def test_tiling_regions_with_whole():
    assert Tiling(100).regions_with_whole((100, 90)).tolist() == [[0, 0, 90, 100]]
    assert Tiling(100).regions_with_whole((100, 150)).tolist()[-1] == [0, 0, 150, 100]
    assert len(Tiling(100, whole=False).regions_with_whole((100, 150))) == 2
