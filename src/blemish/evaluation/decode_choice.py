"""Choose whether a model decodes images at a reduced size, by its metric on the validation images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from blemish.errors import BadImage
from blemish.evaluation.build_report import score_predictions
from blemish.imaging import read_header
from blemish.model_file import Contract, InputSpec
from blemish.preprocessing import decode_factor
from blemish.structures import Prediction, Sample

if TYPE_CHECKING:
    from blemish.evaluation.report import MetricValue
    from blemish.inference.backend import Backend

Decode = Literal["full", "scaled"]


def with_decode(contract: Contract, decode: Decode) -> Contract:
    """Return the contract with another `decode` of its inputs."""
    inputs = tuple(spec.model_copy(update={"decode": decode}) for spec in contract.inputs)
    return contract.model_copy(update={"inputs": inputs})


def choose_decode(backend: Backend, contract: Contract, samples: Sequence[Sample]) -> Contract:
    """Return the contract with `decode` of its inputs chosen on validation images, and what decided.

    `scaled` is chosen if the primary metric with it is not below the 95 % interval of the metric with `full`
    (without an interval: not below its value). If no image would be reduced, nothing shows what `scaled`
    costs, and `full` is chosen.

    Args:
        backend: runs the network.
        contract: of the network.
        samples: the validation images; those without ground truth are ignored.

    Returns:
        The contract; its `training["decode"]` contains the number of `images`, how many of them are
        `reduced`, and with at least one the `metric`, and its values: `full`, `full_interval` and `scaled`.
    """
    labeled = [sample for sample in samples if sample.ground_truth is not None]
    scaled_inputs = with_decode(contract, "scaled").inputs
    reduced = {sample.id for sample in labeled if is_reduced(sample, *scaled_inputs)}
    record: dict[str, Any] = {"images": len(labeled), "reduced": len(reduced)}
    chosen: Decode = "full"
    if reduced:
        scaled = _predict(backend, with_decode(contract, "scaled"), labeled)
        affected = [sample for sample in labeled if sample.id in reduced]
        full = scaled | _predict(backend, with_decode(contract, "full"), affected)
        readable = [sample for sample in labeled if sample.id in scaled and sample.id in full]
        name, before = _score(full, readable, intervals=True)
        _, after = _score(scaled, readable, intervals=False)
        limit = before.value if before.low is None else before.low
        if after.value is not None and limit is not None and after.value >= limit:
            chosen = "scaled"
        record |= {
            "metric": name,
            "full": before.value,
            "full_interval": [before.low, before.high],
            "scaled": after.value,
        }
    training = {**contract.training, "decode": {**record, "chosen": chosen}}
    return with_decode(contract, chosen).model_copy(update={"training": training})


def describe_choice(contract: Contract) -> str:
    """Return the choice of `choose_decode` as one sentence."""
    record = contract.training["decode"]
    if not record["reduced"]:
        return "decode: full, because no validation image is large enough to be reduced"
    values = f"{record['metric']} {record['scaled']:.4f} with scaled, {record['full']:.4f} with full"
    hint = "" if record["chosen"] == "scaled" else "; train again with data.decode=full for such inputs"
    return f"decode: {record['chosen']} ({values}, {record['reduced']} images reduced){hint}"


def is_reduced(sample: Sample, *inputs: InputSpec) -> bool:
    """Return whether `decode: scaled` reduces an image for one of the inputs; an unreadable one is not."""
    try:
        size_hw = sample.size_hw or read_header(sample.path).size_hw
    except BadImage:
        return False
    return any(decode_factor(size_hw, spec) > 1 for spec in inputs)


def _predict(backend: Backend, contract: Contract, samples: Sequence[Sample]) -> dict[str, Prediction]:
    """Return the prediction of each image that can be read, by the id of its sample."""
    from blemish.inference.predictor import Predictor

    results = Predictor(backend, contract).stream([sample.path for sample in samples])
    return {
        sample.id: result.prediction
        for sample, result in zip(samples, results, strict=True)
        if result.prediction is not None
    }


def _score(
    predictions: dict[str, Prediction], samples: Sequence[Sample], *, intervals: bool
) -> tuple[str, MetricValue]:
    """Return the name and the value of the primary metric."""
    report = score_predictions(
        [predictions[sample.id] for sample in samples],
        [sample.ground_truth for sample in samples if sample.ground_truth is not None],
        groups=[sample.group for sample in samples],
        intervals=intervals,
    )
    return report.primary_metric, report.metrics[report.primary_metric]
