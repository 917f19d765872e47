"""`blemish info`: print the contract of a model file on one screen."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.commands.json_output import print_json

if TYPE_CHECKING:
    from blemish.model_file import Contract, ModelFile
    from blemish.model_file.metric_summary import MetricSummary

MAX_LABELS = 12
MAX_METRICS = 6


def info(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="Model file, or hf://user/name.", show_default=False),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole contract as JSON.")] = False,
) -> None:
    """Print the contract of a model file: labels, thresholds, metrics, data, licenses and certificate.

    Examples:
        blemish info model.onnx

        blemish info hf://ada/cars --json
    """
    _import_numpy_when_used()
    from blemish.hub import local_file
    from blemish.model_file import read_model_file

    model_file = read_model_file(local_file(file))
    if as_json:
        print_json(model_facts(model_file))
        return
    _print_rows(list(summary_rows(model_file)))


class _NumPyWhenUsed(ModuleType):
    """NumPy, imported when one of its names is used."""

    def __getattr__(self, name: str) -> Any:
        self.__class__ = ModuleType  # type: ignore[assignment]  # from here on, an ordinary module
        loader: Any = self.__loader__
        loader.exec_module(self)
        return getattr(self, name)


def _import_numpy_when_used() -> None:
    """Let `import numpy` load NumPy when one of its names is used: the contracts of most files need none.

    It takes half as long as all of `blemish --help`. `importlib.util.LazyLoader` loads a module at its second
    `import` already.
    """
    spec = find_spec("numpy") if "numpy" not in sys.modules else None
    if spec is not None:
        module = _NumPyWhenUsed("numpy")
        module.__spec__, module.__loader__, module.__file__ = spec, spec.loader, spec.origin
        module.__path__, module.__package__ = list(spec.submodule_search_locations or ()), "numpy"
        sys.modules["numpy"] = module


def _print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and texts in two columns that fit the terminal; importing Rich would take longer."""
    margin = max(len(name) for name, _ in rows) + 2
    width = max(shutil.get_terminal_size().columns - margin, 20)
    for name, text in rows:
        first, *others = textwrap.wrap(text, width, break_on_hyphens=False) or [""]
        typer.echo(typer.style(name.ljust(margin), bold=True) + first)
        for line in others:
            typer.echo(" " * margin + line)


def model_facts(file: ModelFile) -> dict[str, Any]:
    """Return the contract, size, digests, explanation graph and number of fingerprints as JSON types."""
    from blemish.model_file import explanation_path

    return {
        "path": file.path.as_posix(),
        "bytes": file.path.stat().st_size,
        "model_digest": file.digest,
        "graph_digest": file.graph_digest,
        "explanation_graph": explanation_path(file.path).is_file(),
        "fingerprints": file.fingerprints.split_counts(),
        "certified": is_certified(file),
        "contract": file.contract.model_dump(mode="json"),
    }


def is_certified(file: ModelFile) -> bool:
    """Return whether the certificate passed and belongs to this graph."""
    certificate = file.contract.certificate
    return certificate is not None and certificate.passed and certificate.graph_digest == file.graph_digest


def summary_rows(file: ModelFile) -> Iterator[tuple[str, str]]:
    """Yield the name and text of each row of the summary."""
    from blemish.model_file.certificate_text import describe_certificate
    from blemish.model_file.metric_summary import summarize_metrics

    contract = file.contract
    facts = model_facts(file)
    yield "model", f"{contract.name or file.path.stem}: {contract.architecture}, {contract.task}"
    yield "file", f"{file.path}, {facts['bytes'] / 1e6:.1f} MB, sha256 {file.digest[:16]}"
    yield "labels", _labels_text(contract)
    yield (
        "input",
        "; ".join(
            f"{spec.name} {spec.size_hw[0]} x {spec.size_hw[1]} px, {spec.resize}, {spec.interpolation}"
            + (", large images decoded at a reduced size" if spec.decode == "scaled" else "")
            for spec in contract.inputs
        ),
    )
    if contract.temperature != 1:
        yield "calibration", f"temperature {contract.temperature:.3g}"
    for summary in summarize_metrics(contract, MAX_METRICS):
        yield summary.split, _metrics_text(summary)
    yield "data", _data_text(contract, facts["fingerprints"])
    if contract.training:
        values = {k: v for k, v in contract.training.items() if not isinstance(v, Mapping)}
        if digest := values.pop("weights_sha256", ""):
            yield "pretrained", f"{values.pop('weights', '')}, sha256 {digest}"
        yield "training", ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in values.items())
    licenses = contract.licenses
    stated = (("weights", licenses.weights), ("data", licenses.data), ("code", licenses.code))
    yield "licenses", "; ".join(f"{part}: {name or 'not stated'}" for part, name in stated)
    if facts_of := contract.training.get("quantization"):
        counts = f"{facts_of['float_layers']} of {facts_of['layers']} layers in float32"
        yield "quantization", f"INT8, {counts}, calibrated on {facts_of['calibration_images']} images"
    yield "certificate", describe_certificate(contract.certificate, file.graph_digest)
    for other in contract.other_certificates:
        yield "", describe_certificate(other, file.graph_digest)
    if times := _measured_text(file):
        yield "fastest here", times
    yield (
        "explanation",
        f"graph beside the file, for {contract.feature_layer}"
        if facts["explanation_graph"]
        else "no graph; only methods that need no gradients, such as occlusion",
    )
    if contract.explanation:
        chosen = (
            f"{label}: {choice.method} on {choice.layer or 'all layers'} (deletion {choice.deletion:.2f}, "
            f"insertion {choice.insertion:.2f} of the logit, {choice.images} images)"
            if choice.images
            else f"{label}: {choice.method}"
            for label, choice in contract.explanation.items()
        )
        yield "heatmaps", "; ".join(chosen)
    if contract.abstention is not None:
        scores = contract.abstention
        units = f"{scores.images} images" + (f" of {scores.groups} groups" if scores.grouped else "")
        yield "abstention", f"scores of {units} ({scores.split})"
    if contract.familiarity is not None:
        spec = contract.familiarity
        held_out = len(spec.distances)
        yield "familiarity", f"features of {spec.train_images} training images, {held_out} held-out distances"
    if contract.capture is not None:
        limits = contract.capture
        beyond = f"{limits.flagged:.1%} beyond one of them"
        yield "capture", f"limits of {limits.images} images, rate {limits.rate:g} per fault, {beyond}"
    yield "written by", f"Blemish {contract.blemish_version or '?'}, format {contract.format_version}"


def _labels_text(contract: Contract) -> str:
    names = []
    for label in contract.labels[:MAX_LABELS]:
        text = label.name if label.display_name == label.name else f"{label.name} ({label.display_name})"
        if label.name in contract.thresholds:
            text += f" threshold {contract.thresholds[label.name]:.3f}{_evidence_text(contract, label.name)}"
        names.append(text)
    more = len(contract.labels) - MAX_LABELS
    tuned = f"; thresholds chosen on {contract.thresholds_tuned_on}" if contract.thresholds_tuned_on else ""
    return (", ".join(names) or "none") + (f" and {more} more" if more > 0 else "") + tuned


def _evidence_text(contract: Contract, label: str) -> str:
    """Return what supports a label's threshold, in parentheses; "" if the file has none."""
    found = contract.threshold_evidence.get(label)
    if found is None:
        return ""
    precision = "never reached"
    if found.predicted:
        ends = f"[{found.precision_low:.2f}, {found.precision_high:.2f}]"
        precision = f"precision {found.correct / found.predicted:.2f} {ends}"
    review = "" if found.reliable else f"; not reliable (below {found.min_precision:g}): review"
    return (
        f" ([{found.threshold_low:.2f}, {found.threshold_high:.2f}] from {found.positives} positives, "
        f"{precision}{review})"
    )


def _metrics_text(summary: MetricSummary) -> str:
    parts = []
    for metric in summary.metrics:
        interval = f" [{metric.low:.3f}, {metric.high:.3f}]" if metric.low is not None else ""
        parts.append(f"{metric.name} {metric.value:.3f}{interval}")
    if summary.images is not None:
        parts.append(f"on {summary.images} images")
    tuned = " (thresholds chosen on these images)" if summary.tuned else ""
    return ", ".join(parts) + tuned


def _data_text(contract: Contract, fingerprints: Mapping[str, int]) -> str:
    from blemish.model_file.metric_summary import describe_split_counts

    name = contract.data.get("name") or contract.data.get("format")
    parts = [part for part in (name, describe_split_counts(contract)) if part]
    if sum(fingerprints.values()):
        parts.append(
            f"hashes of {fingerprints['train']} training and {fingerprints['val']} validation images"
        )
    return "; ".join(parts) or "not stated"


def _measured_text(file: ModelFile) -> str:
    """Return what the backend `auto` measured on this machine, fastest first; "" if nothing."""
    contract = file.contract
    certificates = [x for x in (contract.certificate, *contract.other_certificates) if x and x.passed]
    if len(certificates) < 2:  # `auto` has no choice, and the modules of inference need not be imported
        return ""
    import numpy as np

    _ = np.ndarray  # loads NumPy: its submodules, which inference imports, cannot be the first to use it
    from blemish.inference.backend_choice import remembered_choice

    times = remembered_choice(file)
    ordered = sorted(times, key=lambda name: times[name])
    return ", ".join(f"{name} {times[name]:.1f} ms" for name in ordered)
