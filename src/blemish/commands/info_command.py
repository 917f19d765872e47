"""`blemish info`: what a model file promises, on one screen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from blemish.model_file import Contract, ModelFile, ParityCertificate
    from blemish.model_file.metric_summary import MetricSummary

MOST_LABELS = 12
MAX_METRICS = 6


def info(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The model file.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Everything the file says, as JSON.")] = False,
) -> None:
    """Say what a model file is: labels, thresholds, figures, data, licenses, certificate."""
    from blemish.hub import local_file
    from blemish.model_file import read_model_file

    made = read_model_file(local_file(file))
    if as_json:
        typer.echo(json.dumps(facts(made)))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows(made):
        table.add_row(name, value)
    Console().print(table, markup=False)


def facts(made: ModelFile) -> dict[str, Any]:
    """Everything the file says, and what it is: size, digests, explanation graph, fingerprints."""
    from blemish.explanation.gradient_graph import explanation_path

    prints = made.fingerprints
    return {
        "path": made.path.as_posix(),
        "bytes": made.path.stat().st_size,
        "model_digest": made.digest,
        "graph_digest": made.graph_digest,
        "explanation_graph": explanation_path(made.path).is_file(),
        "fingerprints": {
            "train": int((prints.split == 0).sum()),
            "val": int((prints.split == 1).sum()),
        },
        "certified": is_certified(made),
        "contract": made.contract.model_dump(mode="json"),
    }


def is_certified(made: ModelFile) -> bool:
    """Whether the certificate passed, and is of this very graph."""
    proof = made.contract.certificate
    return proof is not None and proof.passed and proof.graph_digest == made.graph_digest


def rows(made: ModelFile) -> Iterator[tuple[str, str]]:
    """What people read, a name and a sentence each."""
    from blemish.model_file.metric_summary import summarize_metrics

    contract = made.contract
    everything = facts(made)
    yield "model", f"{contract.name or made.path.stem}: {contract.architecture}, {contract.task}"
    yield "file", f"{made.path}, {everything['bytes'] / 1e6:.1f} MB, sha256 {made.digest[:16]}"
    yield "labels", _labels(contract)
    yield (
        "input",
        "; ".join(
            f"{spec.name} {spec.size_hw[0]} x {spec.size_hw[1]} px, {spec.resize}, {spec.interpolation}"
            for spec in contract.inputs
        ),
    )
    if contract.temperature != 1:
        yield "calibration", f"temperature {contract.temperature:.3g}"
    for found in summarize_metrics(contract, MAX_METRICS):
        yield found.split, _figures(found)
    yield "data", _data(contract, everything["fingerprints"])
    if contract.training:
        shown = {k: v for k, v in contract.training.items() if not isinstance(v, Mapping)}
        yield "training", ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in shown.items())
    licenses = contract.licenses
    stated = (("weights", licenses.weights), ("data", licenses.data), ("code", licenses.code))
    yield "licenses", "; ".join(f"{part}: {name or 'not stated'}" for part, name in stated)
    yield "certificate", _certificate(contract.certificate, made)
    has = everything["explanation_graph"]
    yield (
        "explanation",
        f"graph beside the file, reads {contract.feature_layer}"
        if has
        else "no graph: occlusion and rise only",
    )
    yield "made by", f"Blemish {contract.blemish_version or '?'}, format {contract.format_version}"


def _labels(contract: Contract) -> str:
    named = []
    for label in contract.labels[:MOST_LABELS]:
        text = label.name if label.display_name == label.name else f"{label.name} ({label.display_name})"
        if label.name in contract.thresholds:
            text += f" from {contract.thresholds[label.name]:.3f}"
        named.append(text)
    more = len(contract.labels) - MOST_LABELS
    tuned = f"; thresholds chosen on {contract.thresholds_tuned_on}" if contract.thresholds_tuned_on else ""
    return (", ".join(named) or "none") + (f" and {more} more" if more > 0 else "") + tuned


def _figures(found: MetricSummary) -> str:
    shown = []
    for figure in found.metrics:
        interval = f" [{figure.low:.3f}, {figure.high:.3f}]" if figure.low is not None else ""
        shown.append(f"{figure.name} {figure.value:.3f}{interval}")
    if found.images is not None:
        shown.append(f"on {found.images} images")
    tuned = " (thresholds chosen on these images)" if found.tuned else ""
    return ", ".join(shown) + tuned


def _data(contract: Contract, prints: Mapping[str, int]) -> str:
    from blemish.model_file.metric_summary import describe_split_counts

    data, counts = contract.data, describe_split_counts(contract)
    parts = [p for p in (data.get("name") or data.get("format"), counts) if p]
    if sum(prints.values()):
        parts.append(f"hashes of {prints['train']} training and {prints['val']} validation images")
    return "; ".join(parts) or "not stated"


def _certificate(proof: ParityCertificate | None, made: ModelFile) -> str:
    if proof is None:
        return "none: nobody proved that this file decides as the network it came from"
    if proof.graph_digest != made.graph_digest:
        return "of ANOTHER graph: this file was changed after it was certified"
    text = (
        f"{proof.decisions_changed} verdicts changed on {proof.images} images, largest difference "
        f"{proof.max_difference:.2g}"
    )
    if proof.metric_before is not None and proof.metric_after is not None:
        text += f", {proof.metric} {proof.metric_before:.4f} -> {proof.metric_after:.4f}"
    text += f" ({proof.backend}, {proof.precision}, {proof.cpu_capability})"
    return f"passed: {text}" if proof.passed else f"FAILED: {'; '.join(proof.reasons)}; {text}"
