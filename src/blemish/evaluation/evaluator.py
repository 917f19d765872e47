"""`evaluate`: run a model file on labeled images and report how well it predicts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.abstention import Decider, Policy
from blemish.data.image_index import files_below
from blemish.data.split_names import SPLITS
from blemish.errors import BadInput, UnknownName, WrongTask
from blemish.evaluation.abstention_report import abstention_warnings, report_abstention
from blemish.evaluation.build_report import score_predictions
from blemish.evaluation.label_match import LabelMatch, match_labels
from blemish.evaluation.report import Report, ReportWarning
from blemish.evaluation.train_overlap import TrainOverlap, find_train_overlap, split_as_in_training
from blemish.imaging import PassedOver
from blemish.metrics.intervals import RESAMPLES
from blemish.structures import Dataset, Prediction, Sample, Task

if TYPE_CHECKING:
    from blemish.inference import PredictionResult, Predictor
    from blemish.inference.tiles import Tiling

ALL = "all"
# The default split is the first of these that the data set has.
PREFERRED_SPLITS = ("test", "val")


@dataclass(eq=False)
class PredictedSamples:
    """The predictions and the image hashes of the images that could be read, and the others."""

    samples: list[Sample] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    pixel: list[int] = field(default_factory=list)
    perceptual: list[int] = field(default_factory=list)
    detail: list[NDArray[np.uint64]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    suspicious: list[tuple[str, str]] = field(default_factory=list)


def evaluate(
    model: Predictor | Path | str,
    data: Dataset | Path | str,
    *,
    split: str | None = None,
    output: Path | str | None = None,
    label_map: Mapping[str, str] | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    format: str | None = None,  # noqa: A002 - named as on the command line
    images: Path | str | None = None,
    crowd: str = "ignore",
    intervals: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
    thumbnails: bool = True,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    tiling: Tiling | None = None,
    policy: Policy | None = None,
) -> Report:
    """Evaluate a model on labeled images.

    The labels of the data set and of the model are matched by name. Images that cannot be read are listed
    and not evaluated. Images that the model was trained on are found by their fingerprints, and the report
    warns of them.

    Args:
        model: a model file, its `hf://` address, or a predictor.
        data: a data set or its path.
        split: the split to evaluate, or "all" [default: "test", else "val", else all images]. In a data set
            without splits, "train" and "val" are the images that the model file remembers from training, and
            "test" are those that it has never seen.
        output: a folder for `report.json` and `report.html`.
        label_map: the data set's label names to the model's, for labels whose names differ; "" leaves a label
            out.
        batch_size: the number of images per forward pass.
        progress: a function that is called with the number of finished images and the number of all images.
        format: the format of the data set [default: detected].
        images: the folder of the images [default: next to the labels].
        crowd: how objects that are marked as crowd are read, "ignore" or "objects"; see `open_dataset`.
        intervals: whether to compute 95 % bootstrap intervals.
        resamples: the number of bootstrap resamples.
        seed: the random seed of the bootstrap.
        thumbnails: whether the page shows the images with the worst errors.
        backend: what runs the model; see `blemish.load`.
        device: where the model runs; see `blemish.load`.
        threads: the number of threads; see `blemish.load`.
        tiling: how large images are divided into tiles; None runs the model on whole images.
        policy: the risk or the costs at which images are decided or left for review, such as `Risk(0.05)`;
            None decides every image.

    Returns:
        The report.

    Raises:
        BadInput: no image could be evaluated, or the model does not have a label of the data set.
        BadModelFile: the model file has no scores to decide at a risk or cost.
        UnknownName: the data set does not have the split.
        WrongTask: the data set cannot evaluate the model's task.
    """
    from blemish import inference

    predictor = (
        inference.load(model, backend=backend, device=device, threads=threads)
        if isinstance(model, Path | str)
        else model
    )
    if isinstance(data, Dataset):
        dataset, notes = data, tuple[str, ...]()
    else:
        dataset = open_for(data, predictor.task, format, images, crowd=crowd)
        notes = dataset.notes
    if not predictor.task.can_score(dataset.task):
        raise WrongTask(
            f"{dataset.root}: expected a data set for {predictor.task}, the model's task, got one for "
            f"{dataset.task}"
        )
    match = match_labels(predictor.labels, dataset.labels, label_map)  # fails before images are predicted
    file = predictor.model_file
    decider = None
    if policy is not None:
        decider = Decider(predictor.contract, policy, file.path if file is not None else "the model")
    if split in SPLITS and not dataset.splits and file is not None and len(file.fingerprints.pixel):
        dataset = split_as_in_training(dataset, file.fingerprints)
    chosen, split = choose_split(dataset, split)
    labeled = [s for s in chosen if s.ground_truth is not None]
    if not labeled:
        raise BadInput(
            f"{dataset.root}: expected at least one image with ground truth, got none",
            reason="nothing-to-evaluate",
        )
    results = predict_samples(predictor, labeled, batch_size, progress, tiling)
    if not results.predictions:
        raise BadInput(
            f"none of the {len(labeled)} images can be read; the first error is: {results.unreadable[0][1]}",
            reason="nothing-to-evaluate",
        )
    report = score_predictions(
        results.predictions,
        [s.ground_truth for s in results.samples if s.ground_truth is not None],
        groups=[s.group for s in results.samples],
        ids=[s.id for s in results.samples],
        intervals=intervals,
        resamples=resamples,
        seed=seed,
        label_map=label_map,
    )
    overlap = overlap_of(predictor, results)
    abstention = {} if decider is None else _report_abstention(results, match, decider)
    report = replace(
        report,
        abstention=abstention,
        warnings=(
            *overlap.warnings(),
            *_split_warnings(predictor, overlap, split),
            *(ReportWarning("note", text) for text in predictor.warnings),
            *(ReportWarning("note", text) for text in notes),
            *_tile_notes(tiling),
            *_excluded_images(results, len(chosen) - len(labeled)),
            *_suspicious_images(results, dataset),
            *abstention_warnings(abstention),
            *report.warnings,
        ),
        model=model_facts(predictor),
        data={
            "name": dataset.root.resolve().name,
            "path": dataset.root.as_posix(),
            "format": dataset.format,
            "split": split or "",
            "images": len(chosen),
        },
        train_overlap=overlap.to_dict(),
        unreadable=tuple(results.unreadable),
    )
    if thumbnails:
        from blemish.evaluation.example_images import draw_top_errors

        white_level = predictor.contract.inputs[0].white_level
        drawn = draw_top_errors(report, results.samples, results.predictions, white_level)
        report = replace(report, thumbnails=drawn)
    if output is not None:
        from blemish.evaluation.report_files import save_report

        save_report(report, output)
    return report


def _report_abstention(results: PredictedSamples, match: LabelMatch, decider: Decider) -> dict[str, Any]:
    kept = [
        (prediction, actual, sample.group)
        for prediction, sample in zip(results.predictions, results.samples, strict=True)
        if sample.ground_truth is not None and (actual := match.apply(sample.ground_truth)) is not None
    ]
    predictions, ground_truths, groups = zip(*kept, strict=True)
    return report_abstention(predictions, ground_truths, groups, decider.scores, decider.policy)


def choose_split(dataset: Dataset, split: str | None) -> tuple[Dataset, str | None]:
    """Return the images of a split and its name, which is None for all images.

    Args:
        dataset: with or without splits.
        split: a name, "all", or None for the first of `PREFERRED_SPLITS` that the data set has.

    Raises:
        UnknownName: the data set has no split of that name.
    """
    if split is None:
        split = next((name for name in PREFERRED_SPLITS if name in dataset.splits), None)
    elif split == ALL and ALL not in dataset.splits:
        split = None
    if split is not None and split not in dataset.splits:
        known = sorted(dataset.splits)
        raise UnknownName("split", split, [*known, ALL], where=str(dataset.root))
    return (dataset, None) if split is None else (dataset.of_split(split), split)


def model_facts(predictor: Predictor) -> dict[str, Any]:
    """Return the facts about a model that the report contains under `model`."""
    contract, file = predictor.contract, predictor.model_file
    certificate = contract.certificate
    has_probabilities = contract.task.is_image_level and not contract.task.is_one_class
    parity = None
    if certificate is not None:
        state = "passed" if certificate.passed else "failed"
        changed = f"{certificate.decisions_changed} changed decisions"
        largest = f"largest difference {certificate.max_difference:.1e}"
        parity = {
            "passed": certificate.passed,
            "text": f"{state} on {certificate.images} images: {changed}, {largest} ({certificate.backend})",
        }
    return {
        "name": contract.name or (file.path.stem if file is not None else ""),
        "path": file.path.as_posix() if file is not None else "",
        "model_digest": predictor.digest,
        "architecture": contract.architecture,
        "backend": f"{predictor.backend.name} {predictor.backend.precision}",
        "temperature": contract.temperature if has_probabilities else None,
        "temperature_fitted_on": contract.temperature_fitted_on if has_probabilities else None,
        "thresholds_tuned_on": contract.thresholds_tuned_on,
        "weights_license": contract.licenses.weights,
        "data_license": contract.licenses.data,
        "certificate": parity,
        "bytes": file.path.stat().st_size if file is not None else None,
    }


def open_for(
    path: Path | str, task: Task, name: str | None, images: Path | str | None, *, crowd: str = "ignore"
) -> Dataset:
    """Open a data set for the evaluation of a model.

    Args:
        path: of the data set.
        task: the model's task.
        name: the format, or None to detect it.
        images: the folder of the images, or None.
        crowd: see `open_dataset`.
    """
    from blemish.data import as_task, open_dataset

    # A test set may have images of one label only, and the masks of a detection data set define object sizes.
    data_task = None if task.fields.scorable_ground_truth else task
    dataset = open_dataset(path, format=name, images=images, task=data_task, crowd=crowd, minimum_labels=1)
    return dataset if task.can_score(dataset.task) else as_task(dataset, task)


def predict_samples(
    predictor: Predictor,
    samples: list[Sample],
    batch_size: int | None,
    progress: Callable[[int, int], None] | None,
    tiling: Tiling | None,
) -> PredictedSamples:
    """Predict every image, and hash it if the model file has fingerprints to compare with.

    Args:
        predictor: the model.
        samples: with ground truth.
        batch_size: the number of images per forward pass.
        progress: called with the number of finished images and of all.
        tiling: how images are divided into tiles; None runs the model on whole images.
    """
    from blemish.data.image_hashes import detail_hash, perceptual_hash, pixel_hash

    has_fingerprints = predictor.model_file is not None and len(predictor.model_file.fingerprints.pixel) > 0
    results = PredictedSamples()
    outcomes = predict_paths(
        predictor, [s.path for s in samples], tiling, batch_size, keep_images=has_fingerprints
    )
    for finished, (sample, outcome) in enumerate(zip(samples, outcomes, strict=True), 1):
        if outcome.prediction is None:
            results.unreadable.append((sample.id, str(outcome.error)))
        else:
            results.samples.append(sample)
            results.predictions.append(outcome.prediction)
            if outcome.warning:
                results.suspicious.append((sample.id, outcome.warning))
            if outcome.image is not None:
                results.pixel.append(pixel_hash(outcome.image))
                results.perceptual.append(perceptual_hash(outcome.image))
                results.detail.append(detail_hash(outcome.image))
        if progress is not None:
            progress(finished, len(samples))
    return results


def predict_paths(
    predictor: Predictor,
    paths: Sequence[Path],
    tiling: Tiling | None = None,
    batch_size: int | None = None,
    *,
    keep_images: bool = False,
) -> Iterator[PredictionResult]:
    """Yield the model's result for each image, whole or in tiles.

    Args:
        predictor: the model.
        paths: of the images.
        tiling: how images are divided into tiles; None runs the model on whole images.
        batch_size: the number of images per forward pass.
        keep_images: whether the results keep the decoded images.
    """
    return predictor.stream(paths, batch_size, tiling=tiling, keep_images=keep_images)


def _tile_notes(tiling: Tiling | None) -> tuple[ReportWarning, ...]:
    if tiling is None:
        return ()
    return (ReportWarning("note", f"Images were predicted in tiles of {tiling.size} pixels."),)


def overlap_of(predictor: Predictor, results: PredictedSamples) -> TrainOverlap:
    """Return which predicted images the model file has fingerprints of."""
    if predictor.model_file is None or len(results.pixel) != len(results.samples):
        return TrainOverlap(images=len(results.samples))
    return find_train_overlap(
        [s.id for s in results.samples],
        np.array(results.pixel, np.uint64),
        np.array(results.perceptual, np.uint64),
        np.array(results.detail, np.uint64).reshape(-1, 4),
        predictor.model_file.fingerprints,
    )


def _split_warnings(
    predictor: Predictor, overlap: TrainOverlap, split: str | None
) -> tuple[ReportWarning, ...]:
    """Warn if only the name of the split indicates that the thresholds were chosen on these images."""
    tuned_on = predictor.contract.thresholds_tuned_on
    if overlap.fingerprints or not tuned_on or split != tuned_on:
        return ()
    text = (
        f"The thresholds were chosen on a split named {tuned_on!r}. If it is this one, the metrics have an "
        "optimistic bias."
    )
    return (ReportWarning("optimistic-bias", text),)


def _suspicious_images(results: PredictedSamples, dataset: Dataset) -> tuple[ReportWarning, ...]:
    """Warn of images that may look nearly black to the model, and of images in unsupported formats."""
    out = []
    if results.suspicious:
        sample_id, warning = results.suspicious[0]
        images = "1 image" if len(results.suspicious) == 1 else f"{len(results.suspicious)} images"
        out.append(
            ReportWarning(
                "note",
                f"{images} may look nearly black to the model. {sample_id}: {warning}. Name the value of "
                "white with --white-level.",
            )
        )
    passed_over = PassedOver()
    for prefix, entry in files_below(dataset.root) if dataset.root.is_dir() else ():
        passed_over.add(Path(dataset.root, prefix, entry.name))
    if passed_over.count:
        out.append(ReportWarning("note", passed_over.sentence()))
    return tuple(out)


def _excluded_images(results: PredictedSamples, unlabeled: int) -> tuple[ReportWarning, ...]:
    """Warn of images that could not be read or have no ground truth."""
    out = []
    if results.unreadable:
        number = len(results.unreadable)
        images, pronoun = ("1 image", "it") if number == 1 else (f"{number} images", "them")
        out.append(
            ReportWarning("unreadable", f"{images} could not be read: the report leaves out {pronoun}.")
        )
    if unlabeled:
        images = "1 image has" if unlabeled == 1 else f"{unlabeled} images have"
        out.append(ReportWarning("note", f"{images} no ground truth and cannot be evaluated."))
    return tuple(out)
