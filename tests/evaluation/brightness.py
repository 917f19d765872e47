"""A model that looks at how bright an image is, without a network: enough to evaluate with."""

import numpy as np
from PIL import Image

from blemish.inference import Predictor
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
    """Logits that grow with the image's mean brightness for the last label, and fall for the others."""

    name = "brightness CPU"
    precision = "fp32"

    def __init__(self, label_count):
        self.label_count = label_count

    def run(self, feeds):
        mean = feeds["image"].mean((1, 2, 3))
        logits = np.repeat(-mean[:, None], self.label_count, 1)
        logits[:, -1] = mean
        return {"scores": 4 * logits.astype(np.float32)}


def brightness_predictor(path, *, names=("dark", "bright"), task=Task.CLASSIFICATION, prints=None, **fields):
    path.write_bytes(b"not looked at")
    contract = Contract(
        architecture="brightness",
        name="by-eye",
        task=task,
        labels=tuple(LabelSpec(name=n, title=n.title()) for n in names),
        inputs=(InputSpec(size_hw=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),),
        outputs=(OutputSpec(name="scores", role="scores", activation="logits"),),
        decoder=DecoderSpec(name="scores"),
        **fields,
    )
    file = ModelFile(path, contract, "d" * 64, "g" * 64, prints or Fingerprints.none())
    return Predictor(BrightnessBackend(len(names)), file)


def images(folder, levels):
    """One flat grey image a level in 0..255, with a little noise so that no two are the same."""
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
