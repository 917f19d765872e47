"""What every architecture promises to training and export."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from blemish.model_file import DecoderSpec, InputSpec, OutputSpec
from blemish.structures import Task


class Network(nn.Module):
    """A network of one task.

    Attributes:
        task: what it answers.
        label_count: how many labels; background, where an architecture needs one, is its own affair.
        inputs: one for each argument of `forward`, in order: how an image becomes that argument.
        outputs: one for each tensor that `forward` gives, in order.
        decoder: how those tensors become a prediction.
        stages: module-name prefixes by stage, from the image to the head, for freezing and for
            learning rates; together they cover every parameter exactly once. The last is `head`.
        feature_layers: names of the modules whose feature maps explanations look at.
        owns_loss: whether `loss` is the architecture's own (detectors) or chosen by the recipe.
        mask_input: number of the input in whose pixels a detector's targets draw their masks.
        exporter: `dynamo`, or `torchscript` for networks that torch.export cannot trace.
        weight_parts: prefixes of tensor names that a file of weights may be meant for alone; `""` is all.
        code_licence: where it depends on the options; None for what the registry says.
        weights_licence: likewise, of the published weights.
        loaded: names of the tensors that files of weights filled; the others began at random.
    """

    owns_loss: ClassVar[bool] = False
    mask_input: ClassVar[int] = 0
    weight_parts: ClassVar[tuple[str, ...]] = ("",)
    exporter: ClassVar[Literal["dynamo", "torchscript"]] = "dynamo"

    task: Task
    label_count: int
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    decoder: DecoderSpec
    stages: Mapping[str, tuple[str, ...]]
    feature_layers: tuple[str, ...]
    code_licence: str | None = None
    weights_licence: str | None = None
    loaded: frozenset[str] = frozenset()

    @abstractmethod
    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Raw outputs for a batch.

        Args:
            inputs: each (b, c, h, w) float32, as `preprocessing` makes them.

        Returns:
            Tensors in the order of `outputs`, the first axis being the batch.
        """

    def loss(self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """The parts of an architecture's own loss, for a batch; detectors only.

        Args:
            inputs: as `forward` takes them.
            targets: one an image: `boxes` (n, 4) float32 xyxy in network pixels of the first input,
                `labels` (n,) int64 from 0, for segmentation `masks` (n, h, w) uint8 in those
                of the input `mask_input`.

        Returns:
            Named scalars; their sum is what is minimised.
        """
        raise TypeError(f"{type(self).__name__} takes its loss from the recipe")

    def settle(self) -> None:
        """Called once `loaded` is known, before anything learns; most architectures have nothing to do."""

    def aliases(self, name: str) -> Sequence[str]:
        """What files of weights may call one of this network's tensors, likeliest first.

        Args:
            name: a key of the state dict.
        """
        if name.startswith("backbone."):
            return (name, name.removeprefix("backbone."))
        if name.startswith("head."):
            rest = name.removeprefix("head.")
            return (name, f"fc.{rest}", f"classifier.{rest}")
        return (name,)

    def read_state(self, path: Path) -> dict[str, Tensor]:
        """The tensors of a file by name; architectures with files of their own kind read those too."""
        from blemish.models._weights import read_state

        return read_state(path)

    def translate(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A file's tensors as this network means them; most architectures mean what the file means."""
        return state

    def for_export(self) -> nn.Module:
        """What is written as a graph: the network itself, unless it has another way for graphs."""
        return self

    def parameters_of(self, stage: str) -> list[nn.Parameter]:
        """The parameters of one stage, in order of registration."""
        prefixes = self.stages[stage]
        return [p for name, p in self.named_parameters() if _below(name, prefixes)]


def _below(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)
