"""Write the model file of a run again, or a model file in another precision, with a new certificate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blemish.errors import BadDataset, BadInput, UnknownName
from blemish.explanation.gradient_graph import explanation_path
from blemish.export.abstention_scores import with_new_scores
from blemish.export.accuracy_control import Progress
from blemish.export.export_int8 import export_int8, no_progress
from blemish.export.other_backends import with_certificates
from blemish.export.parity_certificate import Reference, compare, write_certified
from blemish.inference import open_backend
from blemish.inference.backend import DEFAULT_BACKEND
from blemish.inference.sources import find_paths
from blemish.model_file import Contract, ModelFile, read_graph, read_model_file, write_atomically
from blemish.structures import Dataset, Sample

PRECISIONS = ("fp32", "fp16", "int8")
MAX_DROP = 0.005


def reexport(
    source: Path,
    *,
    precision: str = "fp32",
    output: Path | None = None,
    data: Path | None = None,
    max_drop: float = MAX_DROP,
    max_changed: float = 0.0,
    backend: str = DEFAULT_BACKEND,
    force: bool = False,
    progress: Progress = no_progress,
) -> ModelFile:
    """Write a model file again, after comparing it with its source on the validation images.

    Args:
        source: the folder of a run, or a model file.
        precision: `fp32`, from the weights of a run; `fp16` or `int8`, from a run or an fp32 model file.
        output: the model file to write; None writes it beside the source, with the suffix `-fp16` or `-int8`.
        data: images to compare on, labeled or not; None uses the run's validation images.
        max_drop: maximum drop of the primary metric in fp16 and int8, in [0, 1].
        max_changed: maximum share of images with a changed decision in int8, in [0, 1].
        backend: the registered name of the backend that an int8 file is made for, and certified with first.
        force: whether to write a file that is not certified; its certificate states it.
        progress: called with the stage of the quantization, and the number of finished steps and of all.

    Raises:
        BadInput: there are no images to compare on, or nothing to make the file from; see `code`.
        UnknownName: unknown precision.
        ExportRefused: the metric drops too far, a decision changes (fp32, int8), or the outputs are
            near-constant.
    """
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    if backend != DEFAULT_BACKEND and precision != "int8":
        raise BadInput(
            f"backend {backend!r}: only int8 files are made for one backend; leave it out with {precision}",
            reason="int8-backend",
        )
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
                f"{source}: fp32 needs the weights of a run; give the folder of a run, or --precision fp16 "
                "or int8",
                reason="no-weights",
            )
        return _export_weights(file, folder, output or path, data, force=force)
    target = output or path.with_name(f"{path.stem}-{precision}.onnx")
    if target.resolve() == path.resolve():
        raise BadInput(
            f"{target}: the output is the source itself; give another --output", reason="output-is-source"
        )
    certificate = file.contract.certificate
    if certificate is not None and certificate.precision in ("fp16", "int8"):
        raise BadInput(
            f"{path}: expected an fp32 model file, got one in {certificate.precision}; give the file that it "
            "was made from",
            reason="not-fp32",
        )
    samples = validation_samples(file, data)
    if precision == "int8":
        exported = export_int8(
            file,
            target,
            samples,
            max_drop,
            max_changed,
            backend=backend,
            is_of_run=data is None,
            force=force,
            progress=progress,
        )
    else:
        exported = _export_half(file, target, samples, max_drop, is_of_run=data is None, force=force)
    explanation = explanation_path(file.path)
    if explanation.is_file():  # explanations stay float32; the graph only has to name the new file
        _bind_explanation(explanation, explanation_path(exported.path), exported.graph_digest)
    return exported


def validation_samples(file: ModelFile, data: Path | None) -> Sequence[Sample]:
    """Return the images to compare on: the `val` split of `data`, or all of it; else the run's own.

    Images without labels are compared too, without a metric. Data without splits of their own have those of
    the run, if it was trained on the same images.

    Args:
        file: a model file in the folder of its run.
        data: a data set or images without labels, or None for the run's.

    Raises:
        BadInput: the file is not in the folder of its run, or the run's images do not exist any more
            ("bad-input.no-images"); or the ground truth has another label ("bad-input.label-not-in-model").
    """
    if data is not None:
        from blemish.data import open_dataset

        try:
            dataset = open_dataset(data, task=file.contract.task)
        except BadDataset as error:
            if error.code != "bad-dataset.no-labels":
                raise
            return [Sample(id=path.name, path=path) for path in find_paths([str(data)])]
        if not dataset.splits and (split := _run_split(file.path.parent, dataset)) is not None:
            dataset = split
        _check_labels(file, data, dataset)
        return dataset.of_split("val").samples if "val" in dataset.splits else dataset.samples
    folder = file.path.parent
    if not (folder / "recipe.yaml").is_file() or not (folder / "split.csv").is_file():
        raise BadInput(
            f"{file.path}: this file is not in the folder of its run; give images to compare on with --data",
            reason="no-images",
        )
    return _open_run_data(folder).of_split("val").samples


def _check_labels(file: ModelFile, data: Path, dataset: Dataset) -> None:
    """Raise BadInput if the ground truth has a label that the model does not have."""
    known = file.contract.to_labels()
    unknown = [name for name in dataset.labels.names if name not in known]
    if unknown and any(sample.ground_truth is not None for sample in dataset.samples):
        raise BadInput(
            f"{data}: the model does not have the data set's label {unknown[0]!r}; known are "
            f"{', '.join(known.names)}. Give data with the model's labels, or images without labels",
            reason="label-not-in-model",
        )


def _run_split(folder: Path, dataset: Dataset) -> Dataset | None:
    """Return the data set with the split of the run in a folder, if the run was of these images."""
    from blemish.config.split_file import read_split_file

    path = folder / "split.csv"
    if not path.is_file():
        return None
    split = read_split_file(path)
    if set(split) != {sample.id for sample in dataset.samples}:
        return None
    return dataset.with_splits(split)


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
    file: ModelFile,
    target: Path,
    samples: Sequence[Sample],
    max_drop: float,
    *,
    is_of_run: bool,
    force: bool,
) -> ModelFile:
    from blemish.export.fp16 import to_half

    graph = to_half(read_graph(file.path))

    def judge(candidate: ModelFile) -> Contract:
        before = open_backend(file, backend="onnxruntime", device="cpu")
        reference = Reference.of(before, candidate, samples)
        after = open_backend(candidate, backend="onnxruntime", device="cpu")
        compared = compare(reference, after, candidate, samples, precision="fp16", max_drop=max_drop)
        contract = with_new_scores(file.contract, compared.pairs) if is_of_run else file.contract
        return with_certificates(
            contract, compared.certificate, reference, candidate, samples, max_drop=max_drop
        )

    return write_certified(target, graph, file.contract, file.fingerprints, judge, force=force)


def _export_weights(
    file: ModelFile, folder: Path, target: Path, data: Path | None, *, force: bool
) -> ModelFile:
    from blemish.export.explanation_graph import write_explanation
    from blemish.export.onnx_export import export_network
    from blemish.models._run_loader import load_run_network
    from blemish.models._torch_backend import TorchBackend

    samples = validation_samples(file, data)
    network, _ = load_run_network(folder)

    def judge(candidate: ModelFile) -> Contract:
        reference = Reference.of(TorchBackend(network), candidate, samples)
        after = open_backend(candidate, backend="onnxruntime", device="cpu")
        compared = compare(reference, after, candidate, samples)
        contract = file.contract.model_copy(update={"familiarity": None})
        return with_certificates(contract, compared.certificate, reference, candidate, samples)

    graph = export_network(network)
    exported = write_certified(target, graph, file.contract, file.fingerprints, judge, force=force)
    write_explanation(network, exported)
    return exported


def _bind_explanation(source: Path, target: Path, graph_digest: str) -> None:
    """Copy an explanation graph and add the digest of one more model file that it explains."""
    import json

    import onnx

    from blemish.explanation.gradient_graph import EXPLANATION_KEY, set_explanation_facts

    graph = source.read_bytes()
    facts = json.loads({p.key: p.value for p in onnx.load_from_string(graph).metadata_props}[EXPLANATION_KEY])
    digests = [*facts["graph_digests"], graph_digest]
    write_atomically(target, set_explanation_facts(graph, facts | {"graph_digests": digests}))
