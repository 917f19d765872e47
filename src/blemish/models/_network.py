"""`Network`: the interface between an architecture and training, export and explanation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from blemish.config.checkpoint_names import checkpoint_names
from blemish.model_file import DecoderSpec, InputSpec, OutputSpec
from blemish.models._efficientnet_lite import with_timm_names
from blemish.models._state_dict import read_state_dict
from blemish.pretrained import WeightsSource
from blemish.structures import Task


class Network(nn.Module):
    """Base class of every architecture: a network for one task.

    Attributes:
        architecture: the registered name that it was built under, or "".
        task: the task it was built for.
        label_count: number of labels, without the background class that some architectures add internally.
        inputs: how an image becomes each argument of `forward`, in order.
        outputs: what each tensor that `forward` returns is, in order.
        decoder: the decoder that turns those tensors into a prediction, and its settings.
        stages: module-name prefixes by stage, from the image to the head, for freezing and for learning
            rates; together they cover every parameter exactly once. The last stage is `head`.
        feature_layers: names of the modules whose feature maps explanations use.
        owns_loss: whether the architecture computes its own loss (detectors) or the recipe selects one.
        mask_input: index of the input whose pixel grid a detector's target masks use.
        window_stride: the loss takes images of any size whose sides are multiples of this; None if it takes
            those of `inputs` only.
        exporter: `dynamo`, or `torchscript` for networks that torch.export cannot trace.
        weight_parts: prefixes of tensor names; a weights file may belong to one of these parts only. ""
            stands for the whole network.
        code_license: license of the code if it depends on the options; None for the registered license.
        weights_license: license of the default weights if it depends on the options; None for the registered.
        copyleft: whether `code_license` obliges users to publish source; None for the registered value.
        loaded: names of the tensors that weights files filled; all others were initialized at random.
        weight_sources: of the weights files that were loaded.
        unmatched: (b,) bool, the images of the last batch that `loss` saw whose objects all lack a positive
            example, so that they are trained as background; None if every object always has one.
    """

    owns_loss: ClassVar[bool] = False
    mask_input: ClassVar[int] = 0
    window_stride: ClassVar[int | None] = None
    weight_parts: ClassVar[tuple[str, ...]] = ("",)
    exporter: ClassVar[Literal["dynamo", "torchscript"]] = "dynamo"

    architecture: str = ""
    task: Task
    label_count: int
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    decoder: DecoderSpec
    stages: Mapping[str, tuple[str, ...]]
    feature_layers: tuple[str, ...]
    code_license: str | None = None
    weights_license: str | None = None
    copyleft: bool | None = None
    loaded: frozenset[str] = frozenset()
    weight_sources: tuple[WeightsSource, ...] = ()
    unmatched: Tensor | None = None

    @property
    def chosen_options(self) -> Mapping[str, Any]:
        """Return options that a weights file decided, by name; a run's recipe has to contain them."""
        return {}

    @abstractmethod
    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the raw outputs for a batch.

        Args:
            inputs: one tensor for each entry of `self.inputs`, (b, c, h, w) float32, as `preprocessing`
                returns it.

        Returns:
            One tensor for each entry of `outputs`; the first axis is the batch.
        """

    def loss(self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return the parts of the architecture's own loss for a batch; only if `owns_loss`.

        Args:
            inputs: as for `forward`.
            targets: one mapping for each image: `boxes` (n, 4) float32 xyxy in pixels of the first input,
                `labels` (n,) int64 from 0, and for segmentation `masks` (n, h, w) uint8 in pixels of the
                input `mask_input`.

        Returns:
            Scalars by name; training minimizes their sum.
        """
        raise TypeError(f"{type(self).__name__} has no loss of its own; the recipe selects one")

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Called before each epoch of training, also after a resumption, for losses that change with it.

        Args:
            epoch: from 0.
            epochs: number of epochs of the training.
        """

    def forward_and_loss(
        self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """Return what `forward` and `loss` return for one batch; only if `owns_loss`.

        Validation calls it. Default: both are called. An architecture that can use its layers once for both
        overrides it, with equal results.

        Args:
            inputs: as for `loss`.
            targets: as for `loss`.
        """
        return self(*inputs), self.loss(inputs, targets)

    def on_weights_loaded(self) -> None:
        """Adjust the network after `loaded` is known and before training starts; default: do nothing."""

    def aliases(self, name: str) -> Sequence[str]:
        """Return the names that weights files may use for one tensor, likeliest first.

        Args:
            name: a key of the state dict.
        """
        if name.startswith("backbone."):
            return (name, name.removeprefix("backbone."))
        if name.startswith("head."):
            rest = name.removeprefix("head.")
            return (name, f"fc.{rest}", f"classifier.{rest}")
        return (name,)

    def tensor_names(self, name: str) -> tuple[str, ...]:
        """Return `aliases`, and the names in checkpoints of other programs that plug-ins have registered."""
        return (*self.aliases(name), *checkpoint_names(self.architecture, name))

    def read_state(self, path: Path) -> dict[str, Tensor]:
        """Return the tensors of a weights file by name; architectures with other file types override it."""
        return read_state_dict(path)

    def translate(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return a file's tensors with names and values as this network expects them.

        Default: those of EfficientNet-Lite's published files with timm's names, all others unchanged.
        """
        return with_timm_names(state)

    def for_export(self) -> nn.Module:
        """Return the module that is written as a graph; default: the network itself."""
        return self

    def parameters_of(self, stage: str) -> list[nn.Parameter]:
        """Return the parameters of one stage, in order of registration."""
        prefixes = self.stages[stage]
        return [p for name, p in self.named_parameters() if _is_below(name, prefixes)]


def _is_below(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)
