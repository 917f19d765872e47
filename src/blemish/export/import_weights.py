"""Convert weights that were trained elsewhere to a model file."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blemish._version import __version__
from blemish.config.architectures import describe
from blemish.errors import BadInput, BadWeights, ExportRefused, WrongTask
from blemish.export.explanation_graph import write_explanation
from blemish.export.onnx_export import export_network
from blemish.export.other_backends import with_certificates
from blemish.export.parity_certificate import Reference, compare, write_certified
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.model_file import Contract, LabelSpec, Licenses, ModelFile, write_model_file
from blemish.models._build import create
from blemish.models._coco_labels import COCO_LABELS, COCO_ROWS
from blemish.models._network import Network
from blemish.models._safe_load import load_in_subprocess
from blemish.models._torch_backend import TorchBackend
from blemish.models._weights import fill
from blemish.structures import Labels, Sample, Task

LOG = logging.getLogger(__name__)
COCO_ROW_COUNT = 91
_LABEL_TENSORS = (
    *("box_predictor.cls_score.weight", "box_predictor.cls_score.bias"),
    *("mask_predictor.mask_fcn_logits.weight", "mask_predictor.mask_fcn_logits.bias"),
)
_COUNTERS = "num_batches_tracked"  # of batch normalization, not used after training


def import_weights(
    weights: Path | str,
    architecture: str,
    labels: Labels | str,
    output: Path | str,
    *,
    task: Task | str | None = None,
    options: Mapping[str, Any] | None = None,
    samples: Sequence[Sample] = (),
    weights_license: str | None = None,
    allow_unused: bool = False,
) -> ModelFile:
    """Write a model file of a registered architecture, with the weights of a file.

    Args:
        weights: `.safetensors` or `.pth` that contains tensors only; for YOLO also Ultralytics' `.pt`.
        architecture: registered name.
        labels: in the order of the outputs; `coco` for COCO's 80 labels.
        output: the model file to write.
        task: None for the architecture's only task.
        options: of the architecture. YOLO and RF-DETR get `interpolation="linear-plain"` unless it is set, as
            the packages that trained their weights resize.
        samples: images to certify the file on; without them it has no certificate. Ground truths of another
            task, or with other labels than the model's, are ignored.
        weights_license: license of the weights; None for the registered license of published weights.
        allow_unused: whether the file may contain tensors that the network does not have.

    Raises:
        BadInput: no labels ("bad-input.no-labels"), or `output` is the weights file
            ("bad-input.output-is-source").
        BadWeights: the file is unreadable, or file and network do not match tensor by tensor; the message
            lists all differences ("bad-weights.tensor-mismatch", "bad-weights.head-mismatch",
            "bad-weights.label-mismatch", "bad-weights.other-architecture").
        WrongTask: the architecture does not support the task, or supports several and none is given
            ("wrong-task.ambiguous").
        ExportRefused: the file does not decide as the network does.
    """
    entry = describe(architecture)
    names = coco_labels() if labels == "coco" else labels
    if isinstance(names, str):
        raise BadInput(f"labels: expected Labels or 'coco', got {names!r}", reason="invalid-labels")
    if not len(names):
        raise BadInput(
            "labels: expected the names in the order of the outputs, such as dent,scratch; got none",
            reason="no-labels",
        )
    if task is None and len(entry.tasks) > 1:
        raise WrongTask(
            f"{architecture} supports {', '.join(entry.tasks)}; choose one with --task", reason="ambiguous"
        )
    chosen_task = Task(task) if task is not None else entry.tasks[0]
    network = create(
        architecture,
        task=chosen_task,
        label_count=len(names),
        **{**entry.imported_options, **(options or {})},
    )
    path = Path(weights)
    if not path.is_file():
        raise BadWeights(f"{path}: this weights file does not exist", reason="missing-file")
    if Path(output).exists() and path.samefile(output):
        raise BadInput(
            f"{path}: the model file would replace its weights file; give another --output",
            reason="output-is-source",
        )
    _fill(network, path, label_count=len(names), allow_unused=allow_unused)
    network.eval()
    contract = Contract(
        blemish_version=__version__,
        name=architecture,
        architecture=architecture,
        task=chosen_task,
        labels=tuple(
            LabelSpec(name=n, display_name=t) for n, t in zip(names.names, names.display_names, strict=True)
        ),
        inputs=network.inputs,
        outputs=network.outputs,
        decoder=network.decoder,
        feature_layer=network.feature_layers[-1] if network.feature_layers else "",
        training={"imported": path.name},
        licenses=Licenses(
            weights=(network.weights_license or entry.weights_license)
            if weights_license is None
            else weights_license,
            code=network.code_license or entry.license,
        ),
    )
    graph = export_network(network)
    if not samples:
        return _add_explanation(network, write_model_file(output, graph, contract))

    samples = [
        sample if _fits_labels(sample, chosen_task, names) else replace(sample, ground_truth=None)
        for sample in samples
    ]

    def judge(candidate: ModelFile) -> Contract:
        reference = Reference.of(TorchBackend(network), candidate, samples)
        compared = compare(reference, OnnxRuntimeBackend(candidate.path, device="cpu"), candidate, samples)
        return with_certificates(contract, compared.certificate, reference, candidate, samples)

    model_file = write_certified(Path(output), graph, contract, None, judge, force=False)
    return _add_explanation(network, model_file)


def _fits_labels(sample: Sample, task: Task, names: Labels) -> bool:
    """Return whether a sample's ground truth can measure a model of this task and these labels."""
    ground_truth = sample.ground_truth
    return ground_truth is None or (ground_truth.task is task and set(ground_truth.labels) <= set(names))


def _add_explanation(network: Network, model_file: ModelFile) -> ModelFile:
    """Write the explanation graph beside a model file, if the network's gradient can be traced."""
    try:
        write_explanation(network, model_file)
    except ExportRefused as error:
        LOG.warning("no explanation graph: %s; blemish explain supports occlusion and rise only", error)
    return model_file


def _fill(network: Network, path: Path, *, label_count: int, allow_unused: bool) -> None:
    """Copy a file's tensors into the network, all of them; half floats become float32."""
    uses_default_reader = type(network).read_state is Network.read_state
    state = load_in_subprocess(path) if uses_default_reader else network.read_state(path)
    state = dict(network.translate(state))
    if label_count == len(COCO_LABELS):
        state = {name: drop_unused_coco_rows(name, tensor) for name, tensor in state.items()}
    report = fill(network, state, path)
    unused = () if allow_unused else tuple(n for n in report.skipped if not n.endswith(_COUNTERS))
    if not report.missing and not unused:
        return
    own = network.state_dict()
    file_labels = _label_count_of_file(
        network, report.missing, {name: state[name] for name in unused}, label_count
    )
    if file_labels:
        raise BadWeights(
            f"{path}: expected weights for {label_count} labels, got weights for {file_labels}; give the "
            "labels that it was trained with, in order",
            reason="label-mismatch",
        )
    if len(report.missing) > len(own) / 2:
        raise BadWeights(
            f"{path}: the file belongs to another architecture: it lacks {len(report.missing)} of the "
            f"network's {len(own)} tensors, such as {report.missing[0]}; give the architecture and options "
            "that it was trained with",
            reason="other-architecture",
        )
    lines = []
    if report.missing:
        lines += [f"missing in the file, or of another shape or type ({len(report.missing)}):"]
        lines += [f"  {name} {tuple(own[name].shape)}" for name in report.missing]
    if unused:
        lines += [f"in the file, but not in the network ({len(unused)}):"]
        lines += [f"  {name} {tuple(state[name].shape)}" for name in unused]
    only_head = bool(report.missing) and all(name.startswith("head.") for name in report.missing)
    if only_head:
        lines.append("Only the head differs; for a head of one linear layer add --set 'head={}'.")
    details = "\n".join(lines)
    raise BadWeights(
        f"{path}: the tensors do not match {type(network).__name__} with {label_count} labels; give the "
        f"architecture, options and labels that the file was trained with:\n{details}",
        reason="head-mismatch" if only_head else "tensor-mismatch",
    )


def _label_count_of_file(
    network: Network, missing: Sequence[str], unused: Mapping[str, Tensor], label_count: int
) -> int | None:
    """Return the number of labels of a file, if the tensors with one row per label differ in nothing else."""
    own = network.state_dict()
    counts = {
        len(unused[alias])
        for name in missing
        for alias in network.tensor_names(name)
        if len(own[name].shape) and len(own[name]) == label_count
        if alias in unused and unused[alias].shape[1:] == own[name].shape[1:]
    }
    counts.discard(label_count)
    return counts.pop() if len(counts) == 1 else None


def drop_unused_coco_rows(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor of torchvision's COCO detectors with rows for the 80 labels instead of 91 numbers.

    The other rows belong to numbers that COCO does not use; without them the softmax hardly changes.

    Args:
        name: of the tensor; tensors without one row per number are returned unchanged.
        tensor: its values.
    """
    rows = torch.tensor(COCO_ROWS)
    if name.endswith(_LABEL_TENSORS) and len(tensor) == COCO_ROW_COUNT:
        return tensor[rows]
    if "box_predictor.bbox_pred." in name and len(tensor) == 4 * COCO_ROW_COUNT:  # four per label
        return tensor.reshape(COCO_ROW_COUNT, 4, *tensor.shape[1:])[rows].flatten(0, 1)
    if "head.classification_head.module_list." in name and tensor.ndim and len(tensor) % COCO_ROW_COUNT == 0:
        boxes = tensor.reshape(-1, COCO_ROW_COUNT, *tensor.shape[1:])  # the labels of each default box
        return boxes[:, rows].flatten(0, 1)
    return tensor


def coco_labels() -> Labels:
    """Return COCO's 80 labels with capitalized display names."""
    return Labels(COCO_LABELS, tuple(name[0].upper() + name[1:] for name in COCO_LABELS))
