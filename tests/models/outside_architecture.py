"""Architectures registered as a third-party package would register them."""

from typing import Any

import torch

from blemish.model_file import DecoderSpec, InputSpec, OutputSpec
from blemish.models import Network, register

received: dict[Any, Any] = {}


class TinyNetwork(Network):
    def __init__(self, task, label_count, spec):
        super().__init__()
        self.task, self.label_count, self.inputs = task, label_count, (spec,)
        self.outputs = (OutputSpec(name="logits", role="scores", activation="logits"),)
        self.decoder = DecoderSpec(name="scores")
        self.stages, self.feature_layers = {"head": ("head",)}, ()
        self.head = torch.nn.Linear(3, label_count)

    def forward(self, *inputs):
        return (self.head(inputs[0].mean((2, 3))),)


@register(
    "outside-net",
    tasks=["classification", "multilabel"],
    summary="takes every option that a recipe can set",
    license="MIT",
    smallest=None,
)
def build_outside_net(
    name,
    *,
    task,
    label_count,
    input_size=16,
    width=1,
    head=None,
    resize="stretch",
    resize_to=None,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    white_level=65535,
):
    received.clear()
    received.update(width=width, head=head)
    spec = InputSpec(
        size_hw=(input_size, input_size),
        resize=resize,
        resize_to=resize_to,
        mean=mean,
        std=std,
        white_level=white_level,
    )
    return TinyNetwork(task, label_count, spec)


@register("outside-plain", tasks=["classification"], summary="takes one option", license="MIT", smallest=None)
def build_outside_plain(name, *, task, label_count, input_size=16):
    return TinyNetwork(task, label_count, InputSpec(size_hw=(input_size, input_size)))
