r"""Train detectors with Blemish and with the recipes of their authors on the same images and weights.

    python -m bench.detector_references --data cars --count 120 --size 160 --epochs 6 --seeds 0 1 2 \
        --model ssd300-efficientnet-lite0 --arm torchvision --arm preset --output results.jsonl
    python -m bench.detector_references --table results.jsonl

Arms and images are those of `bench.detector_training`. `torchvision` trains the same network from the same
start weights with torchvision's reference recipe (`bench.torchvision_recipe`). `rfdetr` trains RF-DETR with
the trainer of its package, from the start weights of Blemish's network. On both sides, the epoch is chosen on
images of the val split, and the AP is that of its other images. The processor time of an epoch contains
loading and validation; for it, set training.workers=0.
"""

import sys

from bench.detector_training import main
from bench.rfdetr_recipe import train_rfdetr
from bench.torchvision_recipe import train_torchvision


def torchvision(options, seed, root, folder):
    """Train with torchvision's reference recipe."""
    _check("torchvision", options.model, ("ssd300-", "fasterrcnn-", "maskrcnn-"))
    return train_torchvision(options, seed, root, folder)


def rfdetr(options, seed, root, folder):
    """Train with the trainer of RF-DETR's package."""
    _check("rfdetr", options.model, ("rfdetr-",))
    return train_rfdetr(options, seed, root, folder)


def _check(arm, model, families):
    if not model.startswith(families):
        sys.exit(
            f"--arm {arm}: expected a model of {', '.join(families)}; got {model}. Choose another --model"
        )


if __name__ == "__main__":
    main({"torchvision": torchvision, "rfdetr": rfdetr}, __doc__)
