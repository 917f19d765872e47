"""Images as training takes them: opened, resized, changed at random, normalised; and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from blemish.arrays import FloatArray
from blemish.config.schema import AugmentationConfig
from blemish.imaging import LoadedImage, open_image
from blemish.model_file import InputSpec
from blemish.preprocessing import Placement, normalize, place, resize
from blemish.structures import Sample
from blemish.training.image_augmentation import AugmentationParams, change_pixels, draw_change, move_boxes
from blemish.training.rng import RngPurpose, stream

# All that an image's randomness depends on: (epoch, position), and how often it was drawn before in the
# epoch, where it was.
Key = tuple[int, ...]
Target = Callable[[Sample, FloatArray | None, Placement], Any]


class ImageSource(Protocol):
    """Gives images at a network's size, from the file or from something faster."""

    def resized(
        self, sample: Sample, spec: InputSpec, change: AugmentationParams
    ) -> tuple[NDArray[Any], Placement]:  # pragma: no cover
        """As `preprocessing.resize` does, with the crop of `change`."""
        ...

    def size_hw(self, sample: Sample) -> tuple[int, int]:  # pragma: no cover
        """Of the upright image, pixels."""
        ...


class FileImageSource:
    """Opens the file each time."""

    def __init__(self) -> None:
        self._last: tuple[str, LoadedImage] | None = None

    def image(self, sample: Sample) -> LoadedImage:
        """The image; the last one is kept, since several inputs ask for it in turn."""
        if self._last is None or self._last[0] != sample.id:
            self._last = sample.id, open_image(sample.path)
        return self._last[1]

    def resized(
        self, sample: Sample, spec: InputSpec, change: AugmentationParams
    ) -> tuple[NDArray[Any], Placement]:
        """As `preprocessing.resize` does."""
        return resize(self.image(sample), spec, change.crop_xyxy)

    def size_hw(self, sample: Sample) -> tuple[int, int]:
        """Of the upright image, pixels."""
        return sample.size_hw or self.image(sample).size_hw


class TrainingImageDataset(TorchDataset[dict[str, Any]]):
    """Images by (epoch, position), as `collate` takes them.

    Args:
        samples: with truths.
        inputs: of the network.
        target: what is learned of a sample, from its truth, its boxes in pixels of the first input, and where
            the image would lie there without any change.
        augmentation: None to change nothing: then the inputs equal those of prediction bit for bit.
        seed: of the recipe.
        source: where images come from.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        inputs: Sequence[InputSpec],
        target: Target,
        *,
        augmentation: AugmentationConfig | None = None,
        seed: int = 0,
        source: ImageSource | None = None,
    ) -> None:
        self.samples = tuple(samples)
        self.inputs = tuple(inputs)
        self.target = target
        self.augmentation = None if augmentation is None or augmentation.is_off else augmentation
        self.seed = seed
        self.source = source or FileImageSource()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        position = key[1]
        sample = self.samples[position]
        boxes = None if sample.ground_truth is None else sample.ground_truth.boxes_xyxy
        change = AugmentationParams()
        if self.augmentation is not None:
            crops = self.augmentation.random_resized_crop is not None
            size_hw = self.source.size_hw(sample) if crops else None
            random = stream(self.seed, RngPurpose.AUGMENTATION, *key)
            change = draw_change(self.augmentation, random, size_hw, boxes)
        arrays: list[Tensor] = []
        first: Placement | None = None
        for spec in self.inputs:
            pixels, placement = self.source.resized(sample, spec, change)
            first = first or placement
            arrays.append(torch.from_numpy(normalize(change_pixels(change, pixels), spec)))
        assert first is not None  # noqa: S101  (a network has an input)
        if boxes is not None:
            if change.crop_xyxy is not None:  # of a box only what the crop shows is turned, and no border
                boxes = np.clip(boxes, change.crop_xyxy[:2] * 2, change.crop_xyxy[2:] * 2)
            boxes = move_boxes(change, first.to_network(boxes), first.input_hw)
            height, width = first.input_hw
            if change.crop_xyxy is not None or change.angle:
                boxes = np.clip(boxes, 0, [width, height, width, height])
        return {
            "inputs": tuple(arrays),
            # Not where the crop put it: the network sees neither its place nor its zoom.
            "target": _as_tensors(self.target(sample, boxes, place(first.size_hw, self.inputs[0]))),
            "position": position,
            "placement": np.array([*first.size_hw, *first.scale_xy, *first.offset_xy], np.float64),
        }


def _as_tensors(target: Any) -> Any:
    if isinstance(target, dict):
        return {name: torch.as_tensor(array) for name, array in target.items()}
    return torch.as_tensor(target)


class EpochBatchSampler(Sampler[list[Key]]):
    """Batches of (epoch, position), in an order that depends on (seed, epoch) alone.

    Lightning calls `set_epoch` with the number of epochs since it started, to which `first_epoch` is added.

    Args:
        count: images.
        batch_size: a device.
        seed: of the recipe.
        shuffle: whether to draw an order at all.
        weights: (count,) how often each image is drawn, on average; None for once each.
        first_epoch: where a resumed training goes on.
        rank: of this process among `world`.
        world: processes that share the images.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        weights: NDArray[Any] | None = None,
        first_epoch: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.weights = weights
        self.first_epoch = self.epoch = first_epoch
        self.rank, self.world = rank, world

    @property
    def sampler(self) -> EpochBatchSampler:
        """Itself: where Lightning looks for what it tells the epoch."""
        return self

    def set_epoch(self, epochs_since_start: int) -> None:
        """Go on with another order."""
        self.epoch = self.first_epoch + epochs_since_start

    def order(self) -> NDArray[np.int64]:
        """(count,) positions of the epoch, for all processes."""
        if not self.shuffle:
            return np.arange(self.count)
        random = stream(self.seed, RngPurpose.ORDER, self.epoch)
        if self.weights is not None:
            share = self.weights / self.weights.sum()
            return random.choice(self.count, self.count, p=share)
        return random.permutation(self.count)

    def __iter__(self) -> Iterator[list[Key]]:
        order, epoch = self.order(), self.epoch
        if self.world > 1 and self.shuffle:  # every process takes the same number of steps
            order = np.resize(order, -(-self.count // self.world) * self.world)
        drawn: Counter[int] = Counter()
        keys: list[Key] = []
        for position in order.tolist():
            again = drawn[position]
            keys.append((epoch, position, again) if again else (epoch, position))
            drawn[position] += 1
        mine = keys[self.rank :: self.world]
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield mine[start : start + self.batch_size]

    def __len__(self) -> int:
        if not self.shuffle:
            return -(-len(range(self.rank, self.count, self.world)) // self.batch_size)
        whole, rest = divmod(-(-self.count // self.world), self.batch_size)
        # Batch normalisation cannot learn from one image: a last batch of one waits for its next turn.
        return whole + (rest > 1 or (rest == 1 and whole == 0))


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One batch.

    Returns:
        `inputs`, a tuple of (b, C, H, W) float32; `target`, (b, …), or a list of b dictionaries for
        detectors; `position` (b,) int64; `placement` (b, 6) float64.
    """
    targets = [i["target"] for i in items]
    return {
        "inputs": tuple(torch.stack(column) for column in zip(*(i["inputs"] for i in items), strict=True)),
        "target": targets if isinstance(targets[0], dict) else torch.stack(targets),
        "position": torch.tensor([i["position"] for i in items]),
        "placement": torch.from_numpy(np.stack([i["placement"] for i in items])),
    }
