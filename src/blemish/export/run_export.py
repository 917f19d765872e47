"""What stands at the end of every training: the model file and the weights beside it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from blemish.errors import ExportRefused
from blemish.explanation.gradient_graph import explanation_path
from blemish.export.explanation_graph import write_explanation
from blemish.export.onnx_export import export_network
from blemish.export.parity_certificate import Pair, compare, write_certified
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.model_file import Contract, Fingerprints, ModelFile, write_atomically
from blemish.models._network import Network
from blemish.models._torch_backend import TorchBackend
from blemish.structures import Sample

LOG = logging.getLogger(__name__)
MODEL_NAME = "model.onnx"
WEIGHTS_NAME = "weights.safetensors"


def export_trained(
    network: Network,
    *,
    output: Path,
    contract: Contract,
    samples: Sequence[Sample],
    fingerprints: Fingerprints | None = None,
    explanation: bool = True,
    force: bool = False,
) -> ModelFile:
    """Write `output/model.onnx` and `output/weights.safetensors`, once the file is proved on images.

    Args:
        network: with its best weights, on any device.
        output: the run's folder.
        contract: everything but the certificate; temperature and thresholds already chosen.
        samples: the validation images that the file must decide as the network does.
        fingerprints: of the images it learned from.
        explanation: whether to write the explanation graph beside the file, where the task has one.
        force: write a file that did not pass, with the failure in its certificate.

    Raises:
        ExportRefused: a verdict changes or the outputs are near-constant; the weights are there all the
            same, and a model file of an earlier export is as it was.
        StorageFull: the disk is full; what was there before is intact.
    """
    output = Path(output)
    contract = contract.model_copy(update={"recipe": without_folders(contract.recipe)})
    write_weights(network, output / WEIGHTS_NAME)
    graph = export_network(network)
    target = output / MODEL_NAME

    def judge(candidate: ModelFile) -> Contract:
        parity, kept = compare(
            TorchBackend(network), OnnxRuntimeBackend(candidate.path, device="cpu"), candidate, samples
        )
        metrics = {**contract.metrics, **_with_intervals(kept, tuned=bool(contract.thresholds_tuned_on))}
        return contract.model_copy(update={"certificate": parity, "metrics": metrics})

    made = write_certified(target, graph, contract, fingerprints, judge, force=force)
    explanation_path(target).unlink(missing_ok=True)  # that of an earlier file
    if explanation:
        try:
            write_explanation(network, made)
        except ExportRefused as error:
            LOG.warning("no explanation graph: %s; blemish explain can use occlusion and rise", error)
    return made


def without_folders(value: Any) -> Any:
    """A recipe, its absolute paths cut to their names: a model file travels, and folders are private.

    Example:
        >>> without_folders({"data": {"path": "/home/ada/claims/labels.csv", "images": None}, "seed": 3})
        {'data': {'path': 'labels.csv', 'images': None}, 'seed': 3}
    """
    if isinstance(value, Mapping):
        return {key: without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(inner) for inner in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute():
                return kind(value).name
    return value


def _with_intervals(kept: Sequence[Pair], *, tuned: bool) -> dict[str, Any]:
    """Every figure of the file on the validation images, with its 95 % interval."""
    from blemish.evaluation.build_report import score_predictions

    known = [(prediction, sample) for _, prediction, sample in kept if sample.ground_truth is not None]
    if not known:
        return {}
    report = score_predictions(
        [prediction for prediction, _ in known],
        [sample.ground_truth for _, sample in known if sample.ground_truth is not None],
        groups=[sample.group for _, sample in known],
    )
    metrics = {name: metric.to_dict() for name, metric in report.metrics.items() if metric.value is not None}
    return {"val with intervals": {**metrics, "images": len(known), "tuned": tuned}}


def write_weights(network: Network, path: Path) -> None:
    """The network's state dict as safetensors, complete or not at all.

    Raises:
        StorageFull: it could not be written; an earlier file at `path` is intact.
    """
    from safetensors.torch import save

    state = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()
    }
    metadata = {"format": "pt", "task": str(network.task), "label_count": str(network.label_count)}
    write_atomically(path, save(state, metadata))
