"""The contract of a model file: everything that must be known to use its network, typed and validated."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from blemish.errors import BadInput
from blemish.model_file.abstention_scores import AbstentionScores
from blemish.model_file.capture_spec import CaptureSpec
from blemish.model_file.contract_model import ContractModel as ContractModel
from blemish.model_file.contract_model import Finite, Positive, Share, Side
from blemish.model_file.familiarity_spec import FamiliaritySpec
from blemish.structures import Labels, Task

FORMAT_VERSION = 3
DEFAULT_THRESHOLD = 0.5
CROSS_VALIDATED = "train (cross-validated)"  # the split of what was chosen on out-of-fold scores
Interpolation = Literal["bilinear", "bicubic", "lanczos", "box", "linear-plain"]


class LabelSpec(ContractModel):
    """One label.

    Attributes:
        name: in data and JSON, such as `F_Crushed`.
        display_name: for users, such as `Front Crushed`.
    """

    name: str
    display_name: str


class InputSpec(ContractModel):
    """How an image becomes one input of the network.

    Attributes:
        name: of the graph's input.
        size_hw: height and width of the input in pixels.
        decode: `full`: the image is resized from all of its pixels; `scaled`: it is first reduced to a half,
            a quarter or an eighth, while two pixels per pixel of the input remain along each side. libjpeg
            decodes JPEG files at that size; other images are averaged by a box filter.
        resize: `stretch` to `size_hw`; `letterbox`: fit inside, keep the aspect ratio and pad the rest;
            `shortest`: the shorter side to `resize_to`, then a center crop of `size_hw`.
        resize_to: pixels, for `shortest`. Default: the shorter side of `size_hw`.
        interpolation: Pillow's resampling filter, antialiased; or `linear-plain`, OpenCV's linear filter
            without antialiasing, which YOLO and RF-DETR were trained with.
        mean: one number per channel, subtracted from values in the range of `scale`.
        std: one number per channel, by which the difference is divided.
        channels: 3 for RGB, 1 for grayscale.
        scale: range of the values before normalization: `unit` for [0, 1], `byte` for [0, 255].
        white_level: pixel value of 16-bit images that becomes 1.0.
        pad_value: of the border of a letterbox, 0 to 255.
        letterbox_align: `center` pads both sides, `corner` only right and bottom.
    """

    name: str = "image"
    size_hw: tuple[Side, Side]
    decode: Literal["full", "scaled"] = "full"
    resize: Literal["stretch", "letterbox", "shortest"] = "stretch"
    resize_to: Side | None = None
    interpolation: Interpolation = "bilinear"
    mean: tuple[Finite, ...] = (0.485, 0.456, 0.406)
    std: tuple[Positive, ...] = (0.229, 0.224, 0.225)
    channels: Literal[1, 3] = 3
    scale: Literal["unit", "byte"] = "unit"
    white_level: Annotated[int, Field(ge=1, le=65535)] = 65535
    pad_value: Annotated[int, Field(ge=0, le=255)] = 114
    letterbox_align: Literal["center", "corner"] = "center"

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std: expected {self.channels} numbers each, one per channel")
        return self


class OutputSpec(ContractModel):
    """One output of the graph.

    Attributes:
        name: of the graph's output.
        role: what it contains, as the decoder expects it, such as `scores` or `boxes`.
        activation: `logits` if softmax or sigmoid still have to be applied.
    """

    name: str
    role: str
    activation: Literal["logits", "probabilities", "none"] = "none"


class DecoderSpec(ContractModel):
    """The decoder that turns the outputs into a prediction.

    Attributes:
        name: registered name of the decoder.
        settings: its keyword parameters; see the decoder's docstring.
    """

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)


class ParityCertificate(ContractModel):
    """The result of comparing this file with the network that it was exported from.

    Attributes:
        passed: whether no decision changed, detections stayed in place, and the outputs are not
            near-constant.
        images: number of images compared.
        decisions_changed: number of decisions that differ.
        max_difference: largest difference of a score (of localization, also of a coordinate, as a share of
            the longer side).
        metric: name of the primary metric, or "" if the images have no ground truth.
        metric_before: its value with the network, on those images.
        metric_after: its value with the file.
        backend: what ran the file, such as `onnxruntime 1.31 CPUExecutionProvider`.
        precision: of the file's weights, `fp32`, `fp16` or `int8`; or `bf16` if the backend computed in it.
        cpu_capability: of the processor: its widest vector instructions, and whether it has instructions for
            INT8 and bfloat16, such as `avx512 int8 bf16`.
        graph_digest: SHA-256 of the file without metadata.
        reasons: why it did not pass.
    """

    passed: bool
    images: int
    decisions_changed: int
    max_difference: float
    metric: str = ""
    metric_before: float | None = None
    metric_after: float | None = None
    backend: str = ""
    precision: str = "fp32"
    cpu_capability: str = ""
    graph_digest: str = ""
    reasons: tuple[str, ...] = ()


class ExplanationChoice(ContractModel):
    """The method and layer whose heatmaps of one label were the most faithful on validation images.

    Attributes:
        method: registered name of the explanation method.
        layer: the layer that it reads; "" for all, averaged.
        images: number of images that decided.
        deletion: their mean area under the label's logit as places are hidden; lower is better.
        insertion: their mean area under the label's logit as places are shown; higher is better.
    """

    method: str
    layer: str = ""
    images: Annotated[int, Field(ge=0)] = 0
    deletion: Finite = 0.0
    insertion: Finite = 0.0


class ThresholdEvidence(ContractModel):
    """What supports the threshold of one label: counts on the images that it was chosen on.

    Attributes:
        positives: number of positive images, or of objects.
        predicted: number of images or objects whose score reaches the threshold.
        correct: number of these that are right; `correct / predicted` is the precision.
        precision_low: lower end of the precision's 95 % interval (Wilson).
        precision_high: its upper end.
        threshold_low: lower end of the interval in which 95 % of the thresholds lie that are chosen on
            resampled images; wide if there are few positives.
        threshold_high: its upper end.
        min_precision: the precision that was required, or None.
        reliable: whether the required precision was reached; a decision for a label that is not reliable
            needs review by a person.
    """

    positives: Annotated[int, Field(ge=0)]
    predicted: Annotated[int, Field(ge=0)]
    correct: Annotated[int, Field(ge=0)]
    precision_low: Share
    precision_high: Share
    threshold_low: Share
    threshold_high: Share
    min_precision: Share | None = None
    reliable: bool = True


class Licenses(ContractModel):
    """Licenses as the user stated them; "" if not stated."""

    weights: str = ""
    data: str = ""
    code: str = "Apache-2.0"


class Contract(ContractModel):
    """Everything that must be known to use the network, and its provenance.

    Attributes:
        format_version: version of these keys.
        blemish_version: version of Blemish that wrote the file.
        name: of the run.
        architecture: registered name.
        task: what the network was trained for.
        labels: in the order of the outputs.
        inputs: one for each input of the graph.
        outputs: one for each output that the decoder reads.
        decoder: how the outputs become a prediction.
        temperature: logits are divided by it before the activation.
        thresholds: by label name, the score from which the label is decided positive; empty for
            classification, which decides for the label with the highest score.
        thresholds_tuned_on: the split that the thresholds were chosen on, or "".
        threshold_evidence: by label name, what supports its threshold; empty for files of earlier versions.
        min_score: detections below it are not in the outputs.
        dynamic_batch: whether the graph accepts more than one image at once.
        feature_layer: the layer that explanations use.
        explanation: by label name, the default method and layer of its heatmaps; empty if none was chosen.
        recipe: as resolved for the run.
        training: seed, best epoch, versions, weights, device and the like.
        data: name, number of images per split, and how the data were split.
        metrics: values by split; `tuned` marks those on images that thresholds were chosen on.
        licenses: of weights, data and code.
        certificate: parity of file and network; None if the file was not certified.
        familiarity: features of training images, from which unfamiliar images are found; None if the file
            has none.
        capture: limits of how images are captured, beyond which an image should be taken again; None if the
            file has none.
        abstention: scores of labeled images, from which `--risk` decides; None if the file has none.
        other_certificates: the same comparison with other backends and precisions of the arithmetic.
    """

    format_version: int = FORMAT_VERSION
    blemish_version: str = ""
    name: str = ""
    architecture: str
    task: Task
    labels: tuple[LabelSpec, ...]
    inputs: Annotated[tuple[InputSpec, ...], Field(min_length=1)]
    outputs: Annotated[tuple[OutputSpec, ...], Field(min_length=1)]
    decoder: DecoderSpec
    temperature: Positive = 1.0
    thresholds: dict[str, Share] = Field(default_factory=dict)
    thresholds_tuned_on: str = ""
    threshold_evidence: dict[str, ThresholdEvidence] = Field(default_factory=dict)
    min_score: Share = 0.0
    dynamic_batch: bool = True
    feature_layer: str = ""
    explanation: dict[str, ExplanationChoice] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    licenses: Licenses = Licenses()
    certificate: ParityCertificate | None = None
    abstention: AbstentionScores | None = None
    familiarity: FamiliaritySpec | None = None
    capture: CaptureSpec | None = None
    other_certificates: tuple[ParityCertificate, ...] = ()

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        try:
            labels = self.to_labels()
        except BadInput as error:
            raise ValueError(str(error)) from None
        if self.task.is_image_level and not len(labels):
            raise ValueError(f"{self.task}: expected at least one label")
        if unknown := sorted(set(self.thresholds) - set(labels)):
            raise ValueError(f"thresholds of unknown labels: {', '.join(unknown[:5])}")
        if unknown := sorted(set(self.threshold_evidence) - set(labels)):
            raise ValueError(f"threshold evidence of unknown labels: {', '.join(unknown[:5])}")
        calibrated = self.abstention.labels if self.abstention is not None else {}
        if unknown := sorted(set(calibrated) - set(labels)):
            raise ValueError(f"abstention of unknown labels: {', '.join(unknown[:5])}")
        for kind, specs in (("inputs", self.inputs), ("outputs", self.outputs)):
            if len({spec.name for spec in specs}) < len(specs):
                raise ValueError(f"two {kind} have the same name")
        return self

    def to_labels(self) -> Labels:
        """Return the labels in the type that predictions use."""
        return Labels(tuple(x.name for x in self.labels), tuple(x.display_name for x in self.labels))

    @property
    def temperature_fitted_on(self) -> str:
        """The split that the temperature was fitted on, `CROSS_VALIDATED`, or "" if it was not fitted."""
        stated = self.training.get("temperature_fitted_on")
        if isinstance(stated, str):
            return stated
        if self.temperature == 1:
            return ""
        if "few" in self.recipe:  # files of earlier versions
            return CROSS_VALIDATED
        return "val" if "training" in self.recipe else ""

    @property
    def unreliable_labels(self) -> tuple[str, ...]:
        """The labels that did not reach the precision that was required of them."""
        return tuple(name for name, evidence in self.threshold_evidence.items() if not evidence.reliable)

    def threshold_array(self) -> np.ndarray:
        """Return the (L,) float64 thresholds in the order of the labels; default: 0.5."""
        return np.array([self.thresholds.get(x.name, DEFAULT_THRESHOLD) for x in self.labels], np.float64)


def with_white_level(contract: Contract, white_level: int) -> Contract:
    """Return the contract with another white level of its inputs.

    Raises:
        BadInput: the level is not in [1, 65535].
    """
    if not 1 <= white_level <= 65535:
        raise BadInput(f"white level: expected 1 to 65535, got {white_level}", reason="white-level")
    inputs = tuple(spec.model_copy(update={"white_level": white_level}) for spec in contract.inputs)
    return contract.model_copy(update={"inputs": inputs})
