"""The network of `boards-net`: three convolutions, average pooling and a linear layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from blemish.model_file import DecoderSpec, InputSpec, OutputSpec
from blemish.models import Network
from blemish.structures import Task


class BoardNetwork(Network):
    """Three convolutions of stride 2, average pooling and a linear layer.

    Args:
        task: classification or multilabel.
        label_count: number of labels.
        spec: how an image becomes the input.
        width: channels of the first convolution.
    """

    def __init__(self, *, task: Task, label_count: int, spec: InputSpec, width: int) -> None:
        super().__init__()
        self.task, self.label_count = task, label_count
        self.inputs = (spec,)
        self.outputs = (OutputSpec(name="logits", role="scores", activation="logits"),)
        self.decoder = DecoderSpec(name="scores")
        self.stages = {"trunk": ("trunk",), "head": ("head",)}
        self.feature_layers = ("trunk.2",)
        layers = []
        channels = 3
        for number in range(3):
            out = width * 2**number
            layers.append(
                nn.Sequential(
                    nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.BatchNorm2d(out), nn.GELU()
                )
            )
            channels = out
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(channels, label_count)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return (b, L) logits of (b, 3, h, w) images."""
        features = self.trunk(inputs[0])  # (b, 4 * width, h / 8, w / 8)
        return (self.head(features.mean((2, 3))),)


def build(
    name: str,
    *,
    task: Task,
    label_count: int,
    input_size: int = 64,
    width: int = 8,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.25, 0.25, 0.25),
    resize: str = "stretch",
    white_level: int = 65535,
) -> BoardNetwork:
    """Return the network with random weights.

    Every keyword is an option that a recipe can set; one that is not listed here is refused by Blemish.

    Args:
        name: the registry name.
        task: classification or multilabel.
        label_count: number of labels.
        input_size: height and width of the input in pixels.
        width: channels of the first convolution.
        mean: subtracted from each channel.
        std: divides each channel.
        resize: how an image becomes the input: "stretch" or "letterbox".
        white_level: the sample value of white in 16-bit images.
    """
    spec = InputSpec(
        size_hw=(input_size, input_size),
        mean=tuple(mean),
        std=tuple(std),
        resize=resize,
        white_level=white_level,
    )
    return BoardNetwork(task=task, label_count=label_count, spec=spec, width=width)
