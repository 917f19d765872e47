"""Model files from weights that were trained elsewhere."""

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
from blemish.export.parity_certificate import certify, write_certified
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
COCO_NUMBERS = 91
_OF_EACH_LABEL = (
    *("box_predictor.cls_score.weight", "box_predictor.cls_score.bias"),
    *("mask_predictor.mask_fcn_logits.weight", "mask_predictor.mask_fcn_logits.bias"),
)
_COUNTERS = "num_batches_tracked"  # batch norm's, which nothing needs once training is over


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
    """A model file of an architecture of the registry, with the weights of a file.

    Args:
        weights: `.safetensors` or `.pth` with tensors alone; for YOLO also Ultralytics' `.pt`.
        architecture: registry name.
        labels: in the order of the outputs; `coco` stands for COCO's 80.
        output: where to.
        task: None for the architecture's only one.
        options: of the architecture.
        samples: images to certify the file on; none leaves it without a certificate. Truths of another
            task, or of labels that are not the model's, are passed over.
        allow_unused: whether the file may hold tensors that the network has no place for.
        weights_license: of the weights; None for what the registry says of published ones.

    Raises:
        BadWeights: unreadable, or file and network do not match tensor by tensor; all are listed.
        WrongTask: the architecture answers several tasks and none was named, or not this one.
        ExportRefused: the file does not decide as the network does.
    """
    found = describe(architecture)
    names = coco_labels() if labels == "coco" else labels
    if isinstance(names, str):
        raise BadInput(f"labels are {names!r}: give 'coco', or the names in order")
    if not len(names):
        raise BadInput("no label is given: name the outputs in order, such as dent,scratch")
    if task is None and len(found.tasks) > 1:
        raise WrongTask(f"{architecture} answers {', '.join(found.tasks)}: say which with --task")
    asked = Task(task) if task is not None else found.tasks[0]
    network = create(architecture, task=asked, label_count=len(names), **dict(options or {}))
    path = Path(weights)
    if not path.is_file():
        raise BadWeights(f"{path}: no such file of weights")
    if Path(output).exists() and path.samefile(output):
        raise BadInput(f"{path}: the model file would take the place of its weights; give another --output")
    _fill(network, path, label_count=len(names), allow_unused=allow_unused)
    network.eval()
    contract = Contract(
        blemish_version=__version__,
        name=architecture,
        architecture=architecture,
        task=asked,
        labels=tuple(
            LabelSpec(name=n, display_name=t) for n, t in zip(names.names, names.display_names, strict=True)
        ),
        inputs=network.inputs,
        outputs=network.outputs,
        decoder=network.decoder,
        feature_layer=network.feature_layers[-1] if network.feature_layers else "",
        training={"imported": path.name},
        licenses=Licenses(
            weights=(network.weights_license or found.weights_license)
            if weights_license is None
            else weights_license,
            code=network.code_license or found.license,
        ),
    )
    graph = export_network(network)
    if not samples:
        return _with_explanation(network, write_model_file(output, graph, contract))

    known = [
        s if s.ground_truth is None or (s.ground_truth.task is asked and set(s.ground_truth.labels) <= set(names))
        else replace(s, ground_truth=None)
        for s in samples
    ]  # fmt: skip

    def judge(candidate: ModelFile) -> Contract:
        after = OnnxRuntimeBackend(candidate.path, device="cpu")
        parity = certify(TorchBackend(network), after, candidate, known)
        return contract.model_copy(update={"certificate": parity})

    made = write_certified(Path(output), graph, contract, None, judge, force=False)
    return _with_explanation(network, made)


def _with_explanation(network: Network, made: ModelFile) -> ModelFile:
    """The file, its explanation graph beside it where the network has one that can be traced."""
    try:
        write_explanation(network, made)
    except ExportRefused as error:
        LOG.warning("no explanation graph: %s; blemish explain can use occlusion and rise", error)
    return made


def _fill(network: Network, path: Path, *, label_count: int, allow_unused: bool) -> None:
    """Put a file's tensors into the network, every one in its place; halves are cast to float."""
    plain = type(network).read_state is Network.read_state
    state = dict(network.translate(load_in_subprocess(path) if plain else network.read_state(path)))
    if label_count == len(COCO_LABELS):
        state = {name: without_gaps(name, tensor) for name, tensor in state.items()}
    report = fill(network, state, path)
    unused = () if allow_unused else tuple(n for n in report.skipped if not n.endswith(_COUNTERS))
    if not report.missing and not unused:
        return
    own = network.state_dict()
    other = _labels_held(network, report.missing, {name: state[name] for name in unused}, label_count)
    if other:
        raise BadWeights(
            f"{path}: holds weights for {other} labels, and {label_count} are named; name those that it was "
            "trained with, in order"
        )
    if len(report.missing) > len(own) / 2:
        raise BadWeights(
            f"{path}: of another architecture: {len(report.missing)} of the network's {len(own)} tensors are "
            f"not in it, such as {report.missing[0]}; give the architecture and options it was trained with"
        )
    lines = []
    if report.missing:
        lines += [f"not in the file, or of another shape or kind ({len(report.missing)}):"]
        lines += [f"  {name} {tuple(own[name].shape)}" for name in report.missing]
    if unused:
        lines += [f"in the file, without a place in the network ({len(unused)}):"]
        lines += [f"  {name} {tuple(state[name].shape)}" for name in unused]
    if report.missing and all(name.startswith("head.") for name in report.missing):
        lines.append("all but the head fits; for a head of one linear layer add --set 'head={}'")
    listed = "\n".join(lines)
    raise BadWeights(
        f"{path}: does not match {type(network).__name__} with {label_count} labels tensor by tensor; give "
        f"the architecture, options and labels it was trained with:\n{listed}"
    )


def _labels_held(
    network: Network, missing: Sequence[str], unused: Mapping[str, Tensor], label_count: int
) -> int | None:
    """For how many labels a file is, where tensors that have a row a label differ in nothing else."""
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


def without_gaps(name: str, tensor: Tensor) -> Tensor:
    """A tensor of torchvision's COCO detectors with rows for the 80 labels alone, instead of 91 numbers.

    The rows left out stand for numbers that COCO never used; the softmax over the others hardly changes.
    """
    rows = torch.tensor(COCO_ROWS)
    if name.endswith(_OF_EACH_LABEL) and len(tensor) == COCO_NUMBERS:
        return tensor[rows]
    if "box_predictor.bbox_pred." in name and len(tensor) == 4 * COCO_NUMBERS:  # four a label
        return tensor.reshape(COCO_NUMBERS, 4, *tensor.shape[1:])[rows].flatten(0, 1)
    if "head.classification_head.module_list." in name and tensor.ndim and len(tensor) % COCO_NUMBERS == 0:
        boxes = tensor.reshape(-1, COCO_NUMBERS, *tensor.shape[1:])  # each default box's labels
        return boxes[:, rows].flatten(0, 1)
    return tensor


def coco_labels() -> Labels:
    """COCO's 80 labels, with capitalised titles."""
    return Labels(COCO_LABELS, tuple(name[0].upper() + name[1:] for name in COCO_LABELS))
