"""Export a trained network to the folder of its run: model file, weights and explanation graph."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from blemish.capture import learn_limits
from blemish.config.recipe import MODEL_NAME
from blemish.errors import ExportRefused
from blemish.evaluation.abstention_calibration import collect_scores
from blemish.explanation import Explainer
from blemish.explanation.gradient_graph import explanation_path
from blemish.explanation.method_choice import record_choice
from blemish.export.explanation_graph import write_explanation
from blemish.export.familiarity import add_familiarity
from blemish.export.onnx_export import export_network
from blemish.export.other_backends import with_certificates
from blemish.export.parity_certificate import (
    ComparedPair,
    Reference,
    ReportProgress,
    compare,
    write_certified,
)
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.model_file import Contract, Fingerprints, ModelFile, write_atomically
from blemish.models._network import Network
from blemish.models._torch_backend import TorchBackend
from blemish.structures import Sample

LOG = logging.getLogger(__name__)
WEIGHTS_NAME = "weights.safetensors"


def export_trained(
    network: Network,
    *,
    output: Path,
    contract: Contract,
    samples: Sequence[Sample],
    train: Sequence[Sample] = (),
    fingerprints: Fingerprints | None = None,
    explanation: bool = True,
    force: bool = False,
    report_progress: ReportProgress | None = None,
) -> ModelFile:
    """Write `output/model.onnx` and `output/weights.safetensors`.

    The model file is first compared with the network on the validation images.

    Args:
        network: with its best weights, on any device.
        output: the folder of the run.
        contract: without the certificate; temperature and thresholds are already chosen.
        samples: the validation images on which the file must decide as the network does.
        train: the training images, from which unfamiliar images, and those to take again, are found.
        fingerprints: of the training images.
        explanation: whether to write the explanation graph too, if gradient methods apply.
        force: whether to write a model file whose certificate did not pass.
        report_progress: called with "verifying", the number of compared images and of all.

    Raises:
        ExportRefused: a decision changes or the outputs are near-constant; the weights are written, and an
            earlier model file is intact.
        StorageFull: the disk is full; earlier files are intact.
    """
    output = Path(output)
    contract = contract.model_copy(update={"recipe": without_folders(contract.recipe)})
    write_weights(network, output / WEIGHTS_NAME)
    graph, contract = add_familiarity(export_network(network), contract, train, samples)
    if not contract.recipe.get("data", {}).get("tiles"):  # images to come are whole, and tiles are not alike
        contract = contract.model_copy(update={"capture": learn_limits(train, contract.inputs)})
    target = output / MODEL_NAME

    def judge(candidate: ModelFile) -> Contract:
        reference = Reference.of(TorchBackend(network), candidate, samples)
        compared = compare(
            reference,
            OnnxRuntimeBackend(candidate.path, device="cpu"),
            candidate,
            samples,
            report_progress=report_progress,
        )
        metrics = {
            **contract.metrics,
            **_metrics_with_intervals(compared.pairs, tuned=bool(contract.thresholds_tuned_on)),
        }
        labeled = [(after, sample) for _, after, sample in compared.pairs if sample.ground_truth is not None]
        scores = collect_scores([p for p, _ in labeled], [s for _, s in labeled], split="val")
        certified = with_certificates(contract, compared.certificate, reference, candidate, samples)
        return certified.model_copy(update={"metrics": metrics, "abstention": scores})

    model_file = write_certified(target, graph, contract, fingerprints, judge, force=force)
    explanation_path(target).unlink(missing_ok=True)  # of an earlier model file
    if explanation:
        try:
            if write_explanation(network, model_file) is not None:
                model_file = record_choice(
                    Explainer(OnnxRuntimeBackend(graph, device="cpu"), model_file), samples
                )
        except ExportRefused as error:
            LOG.warning("no explanation graph: %s; blemish explain supports occlusion and rise only", error)
    return model_file


def without_folders(value: Any) -> Any:
    """Return a recipe with absolute paths replaced by their last part: a model file may be shared.

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


def _metrics_with_intervals(pairs: Sequence[ComparedPair], *, tuned: bool) -> dict[str, Any]:
    """Return every metric of the file on the validation images, with 95 % confidence intervals."""
    from blemish.evaluation.build_report import score_predictions

    labeled = [(prediction, sample) for _, prediction, sample in pairs if sample.ground_truth is not None]
    if not labeled:
        return {}
    report = score_predictions(
        [prediction for prediction, _ in labeled],
        [sample.ground_truth for _, sample in labeled if sample.ground_truth is not None],
        groups=[sample.group for _, sample in labeled],
    )
    metrics = {name: metric.to_dict() for name, metric in report.metrics.items() if metric.value is not None}
    return {"val with intervals": {**metrics, "images": len(labeled), "tuned": tuned}}


def write_weights(network: Network, path: Path) -> None:
    """Write the network's state dict as safetensors, completely or not at all.

    Raises:
        StorageFull: the file could not be written; an earlier file at `path` is intact.
    """
    from safetensors.torch import save

    state = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()
    }
    metadata = {"format": "pt", "task": str(network.task), "label_count": str(network.label_count)}
    write_atomically(path, save(state, metadata))
