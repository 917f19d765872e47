"""Write the model file of a run again, or a model file in half precision, with a new certificate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blemish.errors import BadInput, UnknownName
from blemish.evaluation.abstention_calibration import collect_scores
from blemish.explanation.gradient_graph import explanation_path
from blemish.export.parity_certificate import certify, compare, write_certified
from blemish.inference import open_backend
from blemish.model_file import Contract, ModelFile, read_graph, read_model_file, write_atomically
from blemish.structures import Dataset, Sample

PRECISIONS = ("fp32", "fp16")
MAX_DROP = 0.005


def reexport(
    source: Path,
    *,
    precision: str = "fp32",
    output: Path | None = None,
    data: Path | None = None,
    max_drop: float = MAX_DROP,
    force: bool = False,
) -> ModelFile:
    """Write a model file again, after comparing it with its source on the validation images.

    Args:
        source: the folder of a run, or a model file.
        precision: `fp32`, from the weights of a run; `fp16`, from a run or an fp32 model file.
        output: the model file to write; None writes it beside the source, in fp16 with the suffix `-fp16`.
        data: labeled images to compare on; None uses the run's validation images.
        max_drop: maximum drop of the primary metric in fp16, in [0, 1].
        force: whether to write a file that is not certified; its certificate states it.

    Raises:
        BadInput: there are no images to compare on, or nothing to make the file from; see `code`.
        UnknownName: unknown precision.
        ExportRefused: the metric drops too far, a decision changes (fp32), or the outputs are near-constant.
    """
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    source = Path(source)
    folder = source if source.is_dir() else source.parent
    path = source / "model.onnx" if source.is_dir() else source
    if source.is_dir() and not path.is_file():
        raise BadInput(
            f"{source}: expected the folder of a finished run, and there is no model.onnx; finish the run "
            f"with blemish train --resume {source}",
            reason="unfinished-run",
        )
    file = read_model_file(path)
    if precision == "fp32":
        if not (folder / "weights.safetensors").is_file():
            raise BadInput(
                f"{source}: fp32 needs the weights of a run; give the folder of a run, or --precision fp16",
                reason="no-weights",
            )
        return _export_weights(file, folder, output or path, data, force=force)
    target = output or path.with_name(f"{path.stem}-fp16.onnx")
    if target.resolve() == path.resolve():
        raise BadInput(
            f"{target}: the output is the source itself; give another --output", reason="output-is-source"
        )
    return _export_half(file, target, data, max_drop, force=force)


def validation_samples(file: ModelFile, data: Path | None) -> Sequence[Sample]:
    """Return the images to compare on: the `val` split of `data`, or all of it; else the run's own.

    Args:
        file: a model file in the folder of its run.
        data: a labeled data set, or None for the run's.

    Raises:
        BadInput: the file is not in the folder of its run, or the run's images do not exist any more
            ("bad-input.no-images").
    """
    if data is not None:
        from blemish.data import open_dataset

        dataset = open_dataset(data, task=file.contract.task)
        return dataset.of_split("val").samples if "val" in dataset.splits else dataset.samples
    folder = file.path.parent
    if not (folder / "recipe.yaml").is_file() or not (folder / "split.csv").is_file():
        raise BadInput(
            f"{file.path}: this file is not in the folder of its run; give images to compare on with --data",
            reason="no-images",
        )
    return _open_run_data(folder).of_split("val").samples


def _open_run_data(folder: Path) -> Dataset:
    from blemish.config.recipe import read_run_recipe
    from blemish.config.split_file import read_split_file
    from blemish.data import open_dataset

    recipe = read_run_recipe(folder)
    config = recipe.data
    path = None if config.path is None else _find_run_path(Path(config.path), folder)
    if path is None:
        raise BadInput(
            f"{folder}: the data of the run are no longer at {config.path}; give their folder with --data",
            reason="no-images",
        )
    images = None if config.images is None else _find_run_path(Path(config.images), folder)
    dataset = open_dataset(path, format=config.format, images=images, task=recipe.task, **config.options)
    return dataset.with_splits(read_split_file(folder / "split.csv"))


def _find_run_path(path: Path, folder: Path) -> Path | None:
    """Return a path of a recipe, relative to the current folder or to a parent of the run's folder.

    A relative path is relative to the folder in which training was started.
    """
    candidates = (path, *(parent / path for parent in folder.resolve().parents))
    return next((candidate for candidate in candidates if candidate.exists()), None)


def _export_half(
    file: ModelFile, target: Path, data: Path | None, max_drop: float, *, force: bool
) -> ModelFile:
    from blemish.export.fp16 import to_half

    samples = validation_samples(file, data)
    graph = to_half(read_graph(file.path))
    before = open_backend(file, backend="onnxruntime", device="cpu")

    def judge(candidate: ModelFile) -> Contract:
        after = open_backend(candidate, backend="onnxruntime", device="cpu")
        certificate, pairs = compare(before, after, candidate, samples, precision="fp16", max_drop=max_drop)
        labeled = [(half, sample) for _, half, sample in pairs if sample.ground_truth is not None]
        scores = file.contract.abstention
        if scores is not None and labeled and data is None:  # half precision changes scores slightly
            scores = collect_scores([p for p, _ in labeled], [s for _, s in labeled], split=scores.split)
        return file.contract.model_copy(update={"certificate": certificate, "abstention": scores})

    half = write_certified(target, graph, file.contract, file.fingerprints, judge, force=force)
    explanation = explanation_path(file.path)
    if explanation.is_file():  # explanations stay float32; the graph only has to name the new file
        _bind_explanation(explanation, explanation_path(half.path), half.graph_digest)
    return half


def _export_weights(
    file: ModelFile, folder: Path, target: Path, data: Path | None, *, force: bool
) -> ModelFile:
    from blemish.export.explanation_graph import write_explanation
    from blemish.export.onnx_export import export_network
    from blemish.models._run_loader import load_run_network
    from blemish.models._torch_backend import TorchBackend

    samples = validation_samples(file, data)
    network, _ = load_run_network(folder)
    before = TorchBackend(network)

    def judge(candidate: ModelFile) -> Contract:
        after = open_backend(candidate, backend="onnxruntime", device="cpu")
        certificate = certify(before, after, candidate, samples)
        return file.contract.model_copy(update={"certificate": certificate, "familiarity": None})

    graph = export_network(network)
    exported = write_certified(target, graph, file.contract, file.fingerprints, judge, force=force)
    write_explanation(network, exported)
    return exported


def _bind_explanation(source: Path, target: Path, graph_digest: str) -> None:
    """Copy an explanation graph and add the digest of one more model file that it explains."""
    import json

    import onnx

    from blemish.explanation.gradient_graph import EXPLANATION_KEY
    from blemish.export.explanation_graph import set_explanation_facts

    graph = source.read_bytes()
    facts = json.loads({p.key: p.value for p in onnx.load_from_string(graph).metadata_props}[EXPLANATION_KEY])
    digests = [*facts["graph_digests"], graph_digest]
    write_atomically(target, set_explanation_facts(graph, facts | {"graph_digests": digests}))
