"""Train YOLO with positive examples chosen by a Wasserstein similarity instead of IoU: for comparison only.

    python -m bench.wasserstein_assignment --data cars --weights yolo11n_coco_state_dict.pth --arm preset

Arguments, images and output are those of `bench.detector_training`. Blemish trains by IoU, as Ultralytics
does; docs/decisions/0051 has the figures. For masks, Ultralytics averages the similarity with the IoU of
masks.
"""

from torch import Tensor

from bench.detector_training import main
from blemish.models.architectures.yolo import import_ultralytics


def wasserstein_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the normalized Wasserstein similarity of boxes, which treats thin boxes like square ones.

    A box is the normal distribution with its center and half its sides as standard deviations. The distance
    is divided by half the side of the square with the area of the first box, so that a shift by n pixels
    counts alike for a thin and for a square box of the same area. IoU falls faster for the thin one.

    Args:
        first: (n, 4) ground truth, as left, top, right, bottom in pixels.
        second: (n, 4) predictions.

    Returns:
        (n,) in (0, 1]; 1 for equal boxes.

    Source:
        Wang et al. 2021, "A Normalized Gaussian Wasserstein Distance for Tiny Object Detection", with a scale
        for each object instead of a constant of the data set.
    """
    centers = (first[:, :2] + first[:, 2:] - second[:, :2] - second[:, 2:]) / 2
    sides = first[:, 2:] - first[:, :2]
    halves = (sides - second[:, 2:] + second[:, :2]) / 2
    distance = (centers.square() + halves.square()).sum(1).sqrt()
    scale = sides.prod(1).clamp(min=1).sqrt() / 2
    return (-distance / scale).exp()


if __name__ == "__main__":
    import_ultralytics()
    from ultralytics.utils.tal import TaskAlignedAssigner

    TaskAlignedAssigner.iou_calculation = staticmethod(wasserstein_similarity)
    main(description=__doc__)
