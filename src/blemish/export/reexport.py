"""A run's model file made again, or a file halved: other precision, new certificate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blemish.errors import BadInput, UnknownName
from blemish.explanation.gradient_graph import explanation_path
from blemish.export.parity_certificate import certify, write_certified
from blemish.inference import open_backend
from blemish.model_file import Contract, ModelFile, read_graph, read_model_file, write_atomically
from blemish.structures import Dataset, Sample

PRECISIONS = ("fp32", "fp16")
FORMATS = ("onnx",)
MAX_DROP = 0.005


def reexport(
    source: Path,
    *,
    precision: str = "fp32",
    format: str = "onnx",  # noqa: A002  (the command's word)
    output: Path | None = None,
    data: Path | None = None,
    max_drop: float = MAX_DROP,
    force: bool = False,
) -> ModelFile:
    """Write a model file anew, after it was compared with its source on the validation images.

    Args:
        source: a run's folder, or a model file.
        precision: `fp32`, from a run's weights; `fp16`, from a run or an fp32 file.
        format: `onnx`.
        output: the file to write; beside the source by default, `model-fp16.onnx` for half precision.
        data: images with labels to compare on; by default the run's validation images.
        max_drop: how far the headline metric may fall in half precision.
        force: write a file that did not pass, with the failure in its certificate.

    Raises:
        BadInput: nothing to compare on, or nothing to make the file from.
        ExportRefused: the metric falls too far, a verdict changes (fp32), or outputs are near-constant.
    """
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    if format not in FORMATS:
        raise UnknownName("format", format, FORMATS)
    source = Path(source)
    folder = source if source.is_dir() else source.parent
    path = source / "model.onnx" if source.is_dir() else source
    if source.is_dir() and not path.is_file():
        raise BadInput(
            f"{source}: this folder holds no model.onnx; finish the run: blemish train --resume {source}"
        )
    file = read_model_file(path)
    if precision == "fp32":
        if not (folder / "weights.safetensors").is_file():
            raise BadInput(
                f"{source}: fp32 is made from a run's weights; give its folder, or --precision fp16"
            )
        return _from_weights(file, folder, output or path, data, force=force)
    target = output or path.with_name(f"{path.stem}-fp16.onnx")
    if target.resolve() == path.resolve():
        raise BadInput(f"{target}: this is the source itself; give the file in half precision another name")
    return _half(file, target, data, max_drop, force=force)


def validation_samples(file: ModelFile, data: Path | None) -> Sequence[Sample]:
    """The images to compare on: of `data`, its `val` split where it has one; else the run's own.

    Raises:
        BadInput: the file does not lie in its run, or the run's images are no longer there.
    """
    if data is not None:
        from blemish.data import open_dataset

        dataset = open_dataset(data, task=file.contract.task)
        return dataset.of_split("val").samples if "val" in dataset.splits else dataset.samples
    folder = file.path.parent
    if not (folder / "recipe.yaml").is_file() or not (folder / "split.csv").is_file():
        raise BadInput(f"{file.path}: does not lie in its run; give images to compare on with --data")
    return _run_data(folder).of_split("val").samples


def _run_data(folder: Path) -> Dataset:
    from blemish.config.recipe import read_run_recipe
    from blemish.config.split_file import read_split_file
    from blemish.data import open_dataset

    recipe = read_run_recipe(folder)
    part = recipe.data
    path = None if part.path is None else _where_it_was(Path(part.path), folder)
    if path is None:
        raise BadInput(f"{folder}: the run's data are no longer at {part.path}; give them with --data")
    images = None if part.images is None else _where_it_was(Path(part.images), folder)
    dataset = open_dataset(path, format=part.format, images=images, task=recipe.task, **part.options)
    return dataset.with_splits(read_split_file(folder / "split.csv"))


def _where_it_was(path: Path, folder: Path) -> Path | None:
    """A recipe's path from here, or from above the run: it began where somebody else may stand now."""
    places = (path, *(parent / path for parent in folder.resolve().parents))
    return next((place for place in places if place.exists()), None)


def _half(file: ModelFile, target: Path, data: Path | None, max_drop: float, *, force: bool) -> ModelFile:
    from blemish.export.fp16 import to_half

    samples = validation_samples(file, data)
    graph = to_half(read_graph(file.path))
    before = open_backend(file, backend="onnxruntime", device="cpu")

    def judge(candidate: ModelFile) -> Contract:
        after = open_backend(candidate, backend="onnxruntime", device="cpu")
        parity = certify(before, after, candidate, samples, precision="fp16", max_drop=max_drop)
        return file.contract.model_copy(update={"certificate": parity})

    made = write_certified(target, graph, file.contract, file.fingerprints, judge, force=force)
    beside = explanation_path(file.path)
    if beside.is_file():  # explanations stay float32: they only have to know the new file
        _bind_also(beside, explanation_path(made.path), made.graph_digest)
    return made


def _from_weights(
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
        parity = certify(before, after, candidate, samples)
        return file.contract.model_copy(update={"certificate": parity})

    graph = export_network(network)
    made = write_certified(target, graph, file.contract, file.fingerprints, judge, force=force)
    write_explanation(network, made)
    return made


def _bind_also(source: Path, target: Path, graph_digest: str) -> None:
    import json

    import onnx

    from blemish.explanation.gradient_graph import EXPLANATION_KEY
    from blemish.export.explanation_graph import bind

    graph = source.read_bytes()
    facts = json.loads({p.key: p.value for p in onnx.load_from_string(graph).metadata_props}[EXPLANATION_KEY])
    write_atomically(target, bind(graph, facts | {"graph_digests": [*facts["graph_digests"], graph_digest]}))
