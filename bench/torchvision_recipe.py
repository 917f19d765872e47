"""torchvision's reference recipe for detectors, which trains a network of Blemish: for comparison only.

The network, its input, its start weights and its measurement are Blemish's, so that only the training
differs: SGD with momentum, a linear warm-up over the first epoch (at most 1,000 steps), a learning rate that
falls to a tenth twice at the reference's shares of the epochs, and batches of images of similar aspect ratio.
`hflip` is the reference's augmentation of Faster and Mask R-CNN; `ssd` that of SSD: distortion of the colors,
a larger canvas, a crop by IoU, a flip. Both run on the whole image before it is resized, as in the reference.
"""

from argparse import Namespace
from bisect import bisect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LinearLR, MultiStepLR
from torchvision import tv_tensors
from torchvision.transforms import v2

from bench.measure import cpu_seconds
from blemish.config.recipe import Recipe, read_recipe
from blemish.geometry import mask_to_array
from blemish.imaging import open_image
from blemish.model_file import Contract, InputSpec
from blemish.models._network import Network
from blemish.models._weights import find_weights
from blemish.preprocessing import normalize
from blemish.structures import Sample
from blemish.training.batch_sampler import collate
from blemish.training.data_setup import TrainingData, resolve, split_data
from blemish.training.detection_dataset import DetectionImageDataset
from blemish.training.detection_metrics import measure_detections
from blemish.training.detection_module import decode_batch
from blemish.training.network_setup import draft_contract, prepare_network


@dataclass(frozen=True)
class Reference:
    """The settings of the reference for one family of detectors.

    Attributes:
        learning_rate: for a batch of `batch_size`.
        weight_decay: of SGD, with momentum .9.
        milestones: shares of the epochs after which the learning rate falls to a tenth.
        augmentation: `hflip` or `ssd`.
        batch_size: images per step of one device.
    """

    learning_rate: float
    weight_decay: float
    milestones: tuple[float, float]
    augmentation: str
    batch_size: int = 4


# 0.02 for 16 images per step, scaled to 4; 26 epochs with steps after 16 and 22.
RCNN = Reference(0.005, 1e-4, (16 / 26, 22 / 26), "hflip")
# 0.002 and batches of 4, the values of its command line; 120 epochs with steps after 80 and 110.
SSD = Reference(0.002, 5e-4, (80 / 120, 110 / 120), "ssd")


def reference_of(model: str) -> Reference:
    """Return the settings for an architecture."""
    return SSD if model.startswith("ssd") else RCNN


def transforms_of(reference: Reference, mean: Sequence[float]) -> Any:
    """Return the augmentation, which takes an image and a mapping with boxes, labels and masks."""
    flip = v2.RandomHorizontalFlip(0.5)
    if reference.augmentation == "hflip":
        return v2.Compose([flip])
    fill = {tv_tensors.Image: [round(255 * x) for x in mean], "others": 0}
    steps = [v2.RandomPhotometricDistort(), v2.RandomZoomOut(fill=fill), v2.RandomIoUCrop(), flip]
    return v2.Compose([*steps, v2.SanitizeBoundingBoxes()])


class ReferenceImages:
    """Training images by position: the whole image is augmented, then resized to the input of the network."""

    def __init__(
        self, samples: Sequence[Sample], spec: InputSpec, reference: Reference, *, masks: bool
    ) -> None:
        self.samples, self.spec, self.has_masks = samples, spec, masks
        self.augment = transforms_of(reference, self.spec.mean)

    def __getitem__(self, position: int) -> tuple[Tensor, dict[str, Tensor]]:
        sample = self.samples[position]
        ground_truth = sample.ground_truth
        if ground_truth is None or ground_truth.boxes_xyxy is None:
            raise ValueError(f"{sample.id}: no boxes")
        pixels = np.asarray(open_image(sample.path).pixels)
        size_hw = pixels.shape[:2]
        kept = np.flatnonzero(~ground_truth.crowd)
        target = {
            "boxes": tv_tensors.BoundingBoxes(
                ground_truth.boxes_xyxy[kept].astype(np.float32).reshape(-1, 4),
                format="XYXY",
                canvas_size=size_hw,
            ),
            "labels": torch.as_tensor(ground_truth.label_index[kept]),
        }
        if self.has_masks and ground_truth.masks is not None:
            masks = [mask_to_array(ground_truth.masks[i]) for i in kept]
            target["masks"] = tv_tensors.Mask(np.array(masks, np.uint8).reshape(-1, *size_hw))
        image, target = self.augment(tv_tensors.Image(pixels.copy().transpose(2, 0, 1)), target)
        image, target = self.fit(image, target)
        array = normalize(image.permute(1, 2, 0).contiguous().numpy(), self.spec)
        tensors = {name: value.as_subclass(torch.Tensor) for name, value in target.items()}
        return torch.from_numpy(array), tensors

    def fit(self, image: Any, target: dict[str, Any]) -> Any:
        """Resize to the input; for `letterbox`, the ratio is kept and the rest is padded."""
        height, width = image.shape[-2:]
        if self.spec.resize == "letterbox":
            side = max(height, width)
            fill = {tv_tensors.Image: self.spec.pad_value, "others": 0}
            image, target = v2.Pad([0, 0, side - width, side - height], fill=fill)(image, target)
        return v2.Resize(self.spec.size_hw, antialias=True)(image, target)


def draw_batches(ratios: Sequence[float], batch_size: int, random: np.random.Generator) -> list[list[int]]:
    """Return batches of positions whose images have similar aspect ratios, all of one size.

    Args:
        ratios: width / height of each image.
        batch_size: images per batch.
        random: a NumPy generator.
    """
    bins = [2.0 ** (i / 3) for i in range(-3, 4)]  # the reference's factor 3
    waiting: dict[int, list[int]] = defaultdict(list)
    batches: list[list[int]] = []
    count = len(ratios) // batch_size or 1
    for position in random.permutation(len(ratios)):
        group = waiting[bisect(bins, ratios[position])]
        group.append(int(position))
        if len(group) == batch_size:
            batches.append(group.copy())
            group.clear()
    for group in sorted(waiting.values(), key=len, reverse=True):
        if group and len(batches) < count:  # topped up with images of its own
            batches.append((group * batch_size)[:batch_size])
    return batches


def freeze_batch_norm(network: Network) -> list[nn.Module]:
    """Keep statistics and factors of loaded batch normalization, as the reference's frozen layers do."""
    frozen: list[nn.Module] = []
    for name, part in network.named_modules():
        if isinstance(part, nn.BatchNorm2d) and f"{name}.running_mean" in network.loaded:
            part.requires_grad_(False)
            frozen.append(part)
    return frozen


def schedules_of(
    optimizer: torch.optim.Optimizer, reference: Reference, epochs: int, steps: int
) -> tuple[LinearLR | None, MultiStepLR]:
    """Return the warm-up, stepped after each batch of the first epoch, and the schedule of the epochs."""
    count = min(1000, steps - 1)
    warmup = LinearLR(optimizer, start_factor=1 / 1000, total_iters=count) if count > 0 else None
    milestones = [max(round(share * epochs), 1) for share in reference.milestones]
    return warmup, MultiStepLR(optimizer, milestones, gamma=0.1)


def measure(
    network: Network, contract: Contract, samples: Sequence[Sample], batch_size: int = 8
) -> dict[str, float]:
    """Return COCO's metrics of a network on images, decoded and measured as in Blemish's validation."""
    dataset = DetectionImageDataset(samples, network)
    predictions = []
    network.eval()
    for start in range(0, len(samples), batch_size):
        items = [dataset[0, i] for i in range(start, min(start + batch_size, len(samples)))]
        batch = collate(items)
        with torch.inference_mode():
            outputs = network(*batch["inputs"])
        predictions += decode_batch(contract, outputs, batch["placement"].numpy())
    return measure_detections(predictions, samples)


def prepare(options: Namespace, seed: int, root: Path) -> tuple[Recipe, TrainingData, Network, Contract]:
    """Return recipe, data, network and contract as a training by Blemish with this seed starts with them."""
    settings = [f"training.seed={seed}", f"model.input_size={options.size}", *options.set]
    overrides = {
        "data.path": str(root / "coco"),
        "model.name": options.model,
        "model.weights": options.weights,
    }
    recipe = read_recipe(None, settings=settings, overrides=overrides)
    data = split_data(recipe)
    recipe = resolve(recipe, data)
    files = find_weights(options.model, options.weights, recipe.model.options)
    network = prepare_network(recipe, data, files)
    return recipe, data, network, draft_contract(recipe, network, data)


def train_torchvision(options: Namespace, seed: int, root: Path, folder: Path) -> dict[str, Any]:
    """Train one network, and return the metrics of its best epoch on the test images."""
    _, data, network, contract = prepare(options, seed, root)
    reference = reference_of(options.model)
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    images = ReferenceImages(data.train, network.inputs[0], reference, masks=network.task.has_masks)
    sizes_hw = [sample.size_hw or open_image(sample.path).size_hw for sample in data.train]
    ratios = [width / height for height, width in sizes_hw]
    frozen = freeze_batch_norm(network)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(
        parameters, lr=reference.learning_rate, momentum=0.9, weight_decay=reference.weight_decay
    )
    steps = max(len(ratios) // reference.batch_size, 1)
    warmup, schedule = schedules_of(optimizer, reference, options.epochs, steps)
    history: list[float] = []
    seconds: list[float] = []
    best = folder / "best.pth"
    folder.mkdir(parents=True)
    for epoch in range(options.epochs):
        started = cpu_seconds()
        network.train()
        for part in frozen:
            part.eval()
        for batch in draw_batches(ratios, reference.batch_size, random):
            inputs, targets = zip(*(images[i] for i in batch), strict=True)
            parts = network.loss((torch.stack(inputs),), targets)
            loss = torch.stack(list(parts.values())).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if epoch == 0 and warmup is not None:
                warmup.step()
        schedule.step()
        metrics = measure(network, contract, data.validation)
        if metrics["ap"] >= max(history, default=0):
            torch.save(network.state_dict(), best)
        history.append(metrics["ap"])
        seconds.append(cpu_seconds() - started)
    network.load_state_dict(torch.load(best, weights_only=True))
    metrics = measure(network, contract, data.dataset.of_split("test").samples)
    kept = ("ap", "ap50", "box_ap", "box_ap50")
    return {
        **{name: round(metrics[name], 4) for name in kept if name in metrics},
        "seconds": round(sum(seconds)),
        "seconds_per_epoch": round(float(np.median(seconds)), 1),
        "ap_by_epoch": [round(ap, 4) for ap in history],
        "loss": float(loss.detach()),
    }
