"""A model that classifies images by their brightness, without a network, for evaluation tests."""

import numpy as np
from PIL import Image

from blemish.inference import DeviceKind, Predictor
from blemish.model_file import (
    Contract,
    DecoderSpec,
    Fingerprints,
    InputSpec,
    LabelSpec,
    ModelFile,
    OutputSpec,
)
from blemish.structures import Dataset, GroundTruth, Labels, Sample, Task


class BrightnessBackend:
    """Logits that rise with the mean brightness for the last label, and fall for the others."""

    name = "brightness"
    device_kind = DeviceKind.CPU
    precision = "fp32"

    def __init__(self, label_count):
        self.label_count = label_count

    def run(self, feeds):
        mean = feeds["image"].mean((1, 2, 3))
        logits = np.repeat(-mean[:, None], self.label_count, 1)
        logits[:, -1] = mean
        return {"scores": 4 * logits.astype(np.float32)}


def brightness_predictor(path, *, names=("dark", "bright"), task=Task.CLASSIFICATION, prints=None, **fields):
    path.write_bytes(b"unused")
    contract = Contract(
        architecture="brightness",
        name="brightness-rule",
        task=task,
        labels=tuple(LabelSpec(name=n, display_name=n.title()) for n in names),
        inputs=(InputSpec(size_hw=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),),
        outputs=(OutputSpec(name="scores", role="scores", activation="logits"),),
        decoder=DecoderSpec(name="scores"),
        **fields,
    )
    file = ModelFile(path, contract, "d" * 64, "g" * 64, prints or Fingerprints.none())
    return Predictor(BrightnessBackend(len(names)), file)


def images(folder, levels):
    """Write one gray image per level in 0..255, with a little noise so that all images differ."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = []
    for i, level in enumerate(levels):
        pixels = np.clip(level + rng.integers(-9, 10, (16, 16, 3)), 0, 255).astype(np.uint8)
        paths.append(folder / f"{i:03d}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def dataset_of(
    folder, levels, ground_truths, *, names=("dark", "bright"), task=Task.CLASSIFICATION, split="test"
):
    labels = Labels(names)
    paths = images(folder, levels)
    return Dataset(
        task=task,
        labels=labels,
        root=folder,
        format="memory",
        samples=tuple(
            Sample(
                id=path.name,
                path=path,
                split=split,
                ground_truth=None
                if t is None
                else GroundTruth(task=task, labels=labels, label_index=np.atleast_1d(t)),
            )
            for path, t in zip(paths, ground_truths, strict=True)
        ),
    )
