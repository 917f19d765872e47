"""Model files from weights that were trained elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blemish import __version__
from blemish.errors import BadInput, BadWeights, WrongTask
from blemish.export.certificate import certify, write_certified
from blemish.export.onnx import export_network
from blemish.inference.onnxruntime import OnnxRuntimeBackend
from blemish.modelfile import Contract, LabelSpec, Licences, ModelFile, write_model_file
from blemish.models.backend import TorchBackend
from blemish.models.coco_labels import COCO_LABELS
from blemish.models.registry import create, describe
from blemish.models.weights import fill
from blemish.vocabulary import Labels, Sample, Task


def import_weights(
    weights: Path | str,
    architecture: str,
    labels: Labels | str,
    output: Path | str,
    *,
    task: Task | str | None = None,
    options: Mapping[str, Any] | None = None,
    samples: Sequence[Sample] = (),
    licence: str | None = None,
) -> ModelFile:
    """A model file of an architecture of the registry, with the weights of a file.

    Args:
        weights: `.safetensors` or `.pth` with tensors alone; for YOLO also Ultralytics' `.pt`.
        architecture: registry name.
        labels: in the order of the outputs; `coco` stands for COCO's 80.
        output: where to.
        task: None for the architecture's only one.
        options: of the architecture.
        samples: photographs to certify the file on; none leaves it without a certificate.
        licence: of the weights; None for what the registry says of published ones.

    Raises:
        BadWeights: unreadable, or not every tensor of the network is in the file.
        WrongTask: the architecture answers several tasks and none was named, or not this one.
        ExportRefused: the file does not decide as the network does.
    """
    found = describe(architecture)
    names = coco_labels() if labels == "coco" else labels
    if isinstance(names, str):
        raise BadInput(f"labels are {names!r}: give 'coco', or the names in order")
    if task is None and len(found.tasks) > 1:
        raise WrongTask(f"{architecture} answers {', '.join(found.tasks)}: say which with --task")
    asked = Task(task) if task is not None else found.tasks[0]
    network = create(architecture, task=asked, label_count=len(names), **dict(options or {}))
    path = Path(weights)
    if not path.is_file():
        raise BadWeights(f"{path}: no such file of weights")
    report = fill(network, network.read_state(path), path)
    if report.missing:
        raise BadWeights(
            f"{path}: {len(report.missing)} of the network's {len(network.state_dict())} tensors are not in "
            f"the file or have another shape, such as {report.missing[0]}: give the right architecture, and "
            f"as many labels as it learned ({len(names)} were given)"
        )
    network.eval()
    contract = Contract(
        blemish_version=__version__,
        name=architecture,
        architecture=architecture,
        task=asked,
        labels=tuple(LabelSpec(name=n, title=t) for n, t in zip(names.names, names.titles, strict=True)),
        inputs=network.inputs,
        outputs=network.outputs,
        decoder=network.decoder,
        feature_layer=network.feature_layers[-1] if network.feature_layers else "",
        training={"imported": path.name},
        licences=Licences(weights=found.weights_licence if licence is None else licence, code=found.licence),
    )
    graph = export_network(network)
    if not samples:
        return write_model_file(output, graph, contract)

    def judge(candidate: ModelFile) -> Contract:
        after = OnnxRuntimeBackend(candidate.path, device="cpu")
        parity = certify(TorchBackend(network), after, candidate, samples)
        return contract.model_copy(update={"certificate": parity})

    return write_certified(Path(output), graph, contract, None, judge, force=False)


def coco_labels() -> Labels:
    """COCO's 80 labels, with capitalised titles."""
    return Labels(COCO_LABELS, tuple(name[0].upper() + name[1:] for name in COCO_LABELS))
