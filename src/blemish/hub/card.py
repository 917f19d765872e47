"""`model_card`: the README of a model file's repository, written from its contract."""

from __future__ import annotations

from collections.abc import Iterator

from blemish.errors import published_install_command
from blemish.hub.address import SCHEME
from blemish.model_file import Contract, ModelFile
from blemish.model_file.metric_summary import describe_split_counts, summarize_metrics

MAX_METRICS = 6  # per split


def model_card(model_file: ModelFile, repository: str) -> str:
    """Return the model card in Markdown: use, labels, data, metrics, limits and licenses.

    Args:
        model_file: the file to describe.
        repository: `user/name`.
    """
    return "\n".join((*_front_matter(model_file.contract), *_body(model_file, repository))) + "\n"


def _front_matter(contract: Contract) -> Iterator[str]:
    yield from (
        "---",
        "library_name: blemish",
        f"pipeline_tag: {contract.task.fields.hub_tag}",
        "license: other",  # weights, data and code have one each; the end of the card names them
        "tags: [blemish, onnx, damage-detection, defect-detection]",
        "---",
    )


def _body(model_file: ModelFile, repository: str) -> Iterator[str]:
    contract = model_file.contract
    address = f"{SCHEME}{repository}/{model_file.path.name}"
    yield f"# {contract.name or repository}"
    yield f"\nA {contract.task} model ({contract.architecture}) for damage and defects in images.\n"
    yield "## Labels and input\n"
    yield from _labels_and_inputs(contract)
    yield "\n## Usage\n"
    yield f"Install Blemish with the extra hub: {published_install_command('hub')}.\n"
    yield f"```\nblemish predict photo.jpg --model {address}"
    yield f"blemish explain photo.jpg --model {address} --output heatmaps/\n```"
    yield (
        "\nPyTorch is not required. The file is downloaded once and then works offline. Any ONNX runtime "
        "loads it."
    )
    yield "\n## Data\n"
    yield _data(contract)
    yield "\n## Metrics\n"
    yield from _metrics(contract)
    yield "\n## Limits\n"
    yield (
        "The model was trained on the images described above. Other cameras, surfaces and kinds of damage "
        "can lead to wrong predictions without a warning. Measure it on your own images with `blemish "
        "evaluate` before you rely on it. It does not replace an inspection where safety depends on the "
        "result."
    )
    yield "\n## Licenses\n"
    licenses = contract.licenses
    yield f"- Weights: {licenses.weights or 'not stated'}"
    if digest := contract.training.get("weights_sha256"):
        yield f"- Pretrained weights: {contract.training.get('weights')}, SHA-256 `{digest}`"
    yield f"- Data: {licenses.data or 'not stated'}"
    yield f"- Code: {licenses.code}"
    yield f"\n`{model_file.path.name}` has the SHA-256 `{model_file.digest}`."


def _labels_and_inputs(contract: Contract) -> Iterator[str]:
    if contract.labels:
        rule = contract.task.fields.decision_rule
        yield "| label | display name | decision threshold |\n|---|---|---|"
        for label, threshold in zip(contract.labels, contract.threshold_array(), strict=True):
            names = (_escape_cell(text) for text in (label.name, label.display_name))
            yield f"| {' | '.join(names)} | {rule or f'{threshold:.3f}'} |"
        yield ""
    for spec in contract.inputs:
        height, width = spec.size_hw
        yield f"Input `{spec.name}`: {height} x {width} pixels, {spec.resize}; images may have any size."


def _escape_cell(text: str) -> str:
    """Return text for a table cell, without line breaks and with escaped cell borders."""
    return " ".join(text.split()).replace("|", "\\|")


def _data(contract: Contract) -> str:
    name, counts = contract.data.get("name"), describe_split_counts(contract)
    group_key = (contract.data.get("split") or {}).get("group_by")
    grouping = f"; split by {group_key}" if group_key else ""
    return (": ".join(part for part in (name, counts) if part) or "Not stated") + grouping + "."


def _metrics(contract: Contract) -> Iterator[str]:
    summaries = list(summarize_metrics(contract, MAX_METRICS))
    if not summaries:
        yield "Not stated.\n"
    else:
        yield "| split | metric | value | 95 % interval |\n|---|---|---|---|"
    for summary in summaries:
        tuned = " (thresholds chosen on it)" if summary.tuned else ""
        for metric in summary.metrics:
            interval = f"{metric.low:.3f} to {metric.high:.3f} " if metric.low is not None else ""
            yield f"| {summary.split}{tuned} | {metric.name} | {metric.value:.3f} | {interval}|"
    if any(summary.tuned for summary in summaries):
        yield (
            "\nMetrics on images that thresholds were chosen on are optimistic; rely on those of a test "
            "split."
        )
    certificate = contract.certificate
    if certificate is None:
        yield "\nThe file was not compared with the network that it was exported from."
    else:
        yield (
            f"\nCertificate: {'passed' if certificate.passed else 'FAILED'}; decisions changed: "
            f"{certificate.decisions_changed} on {certificate.images} images; largest difference: "
            f"{certificate.max_difference:.2g} ({certificate.backend}, {certificate.precision})."
        )
