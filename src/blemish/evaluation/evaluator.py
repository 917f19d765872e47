"""A model file on labelled images: predict, compare, score, report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.split_names import SPLITS
from blemish.errors import BadInput, UnknownName, WrongTask
from blemish.evaluation.build_report import score
from blemish.evaluation.label_mapping import match_labels
from blemish.evaluation.report import Report, ReportWarning
from blemish.evaluation.train_overlap import TrainOverlap, find_leaks, split_as_in_training
from blemish.metrics.intervals import RESAMPLES
from blemish.structures import Dataset, Prediction, Sample, Task

if TYPE_CHECKING:
    from blemish.inference import PredictionResult, Predictor
    from blemish.inference.tiles import Tiling

ALL = "all"
# Where a set has splits and none is named, the first of these that it holds is taken.
PREFERRED_SPLITS = ("test", "val")


@dataclass(eq=False)
class _Answers:
    """What came of looking at each image."""

    samples: list[Sample] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    pixel: list[int] = field(default_factory=list)
    perceptual: list[int] = field(default_factory=list)
    detail: list[NDArray[np.uint64]] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)


def evaluate(
    model: Predictor | Path | str,
    data: Dataset | Path | str,
    *,
    split: str | None = None,
    output: Path | str | None = None,
    map_labels: Mapping[str, str] | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    format: str | None = None,  # noqa: A002 - the word people type
    images: Path | str | None = None,
    intervals: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
    pictures: bool = True,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    tiling: Tiling | None = None,
) -> Report:
    """How a model does on labelled images.

    Truth and model are matched by label name. Images that cannot be read are listed and not scored;
    those that the model has learned from are found by their fingerprints and stamped on the report.

    Args:
        model: the model file, its `hf://` address, or a predictor.
        data: a data set, or the path of one.
        split: which images; `all` for every one. Where not given, `test`, else `val`, else all.
            In a set that has no splits, `train` and `val` are what the model file remembers of training,
            and `test` is what it has never seen.
        output: a folder for `report.json` and `report.html`.
        map_labels: names of the data's labels to the model's, where they differ; "" leaves a label out.
        batch_size: images that go through the network together.
        progress: called with how many images are done, and how many there are.
        format: of the data, where it should not be recognised.
        images: the folder of images, where it is not beside the labels.
        intervals: whether to bootstrap 95 % intervals.
        resamples: how many.
        seed: of the resampling.
        pictures: whether the report shows the worst images.
        backend: what runs the model; see `blemish.load`.
        device: likewise.
        threads: likewise.
        tiling: how large images are cut; None to look at whole ones.

    Returns:
        The report.

    Raises:
        BadInput: no image could be scored, or a label of the data that the model does not know.
        WrongTask: data of another task than the model's.
    """
    from blemish import inference

    predictor = (
        inference.load(model, backend=backend, device=device, threads=threads)
        if isinstance(model, Path | str)
        else model
    )
    dataset = data if isinstance(data, Dataset) else open_for(data, predictor.task, format, images)
    if not predictor.task.can_score(dataset.task):
        raise WrongTask(
            f"{dataset.root} holds truths of {dataset.task}, and the model's task is {predictor.task}: "
            "give data of the same task"
        )
    match_labels(predictor.labels, dataset.labels, map_labels)  # before any work
    file = predictor.model_file
    if split in SPLITS and not dataset.splits and file is not None and len(file.fingerprints.pixel):
        dataset = split_as_in_training(dataset, file.fingerprints)
    chosen, split = choose_split(dataset, split)
    labelled = [s for s in chosen if s.ground_truth is not None]
    if not labelled:
        raise BadInput(f"{dataset.root}: no image has a truth; there is nothing to compare with")
    found = _look(predictor, labelled, batch_size, progress, tiling)
    if not found.predictions:
        raise BadInput(f"none of {len(labelled)} images could be read; the first: {found.broken[0][1]}")
    report = score(
        found.predictions,
        [s.ground_truth for s in found.samples if s.ground_truth is not None],
        groups=[s.group for s in found.samples],
        ids=[s.id for s in found.samples],
        intervals=intervals,
        resamples=resamples,
        seed=seed,
        map_labels=map_labels,
    )
    leaks = _leaks(predictor, found)
    report = replace(
        report,
        stamps=(
            *leaks.stamps(),
            *_tuned(predictor, leaks, split),
            *(ReportWarning("note", text) for text in predictor.warnings),
            *_in_tiles(tiling),
            *_left_out(found, len(chosen) - len(labelled)),
            *report.stamps,
        ),
        model=model_facts(predictor),
        data={
            "name": dataset.root.resolve().name,
            "path": dataset.root.as_posix(),
            "format": dataset.format,
            "split": split or "",
            "images": len(chosen),
        },
        leaks=leaks.to_dict(),
        broken=tuple(found.broken),
    )
    if pictures:
        from blemish.evaluation.example_images import draw_worst

        white_level = predictor.contract.inputs[0].white_level
        report = replace(report, pictures=draw_worst(report, found.samples, found.predictions, white_level))
    if output is not None:
        report.write(output)
    return report


def choose_split(dataset: Dataset, split: str | None) -> tuple[Dataset, str | None]:
    """The images to evaluate, and the name of their split, None for all of them.

    Raises:
        UnknownName: the set has no split of that name.
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
    """What the report says of the model."""
    contract, file = predictor.contract, predictor.model_file
    certificate = contract.certificate
    parity = None
    if certificate is not None:
        state = "passed" if certificate.passed else "did not pass"
        changed = f"{certificate.verdicts_changed} verdicts changed"
        largest = f"largest difference {certificate.largest_difference:.1e}"
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
        "temperature": contract.temperature if contract.task.is_image_level else None,
        "thresholds_tuned_on": contract.thresholds_tuned_on,
        "weights_licence": contract.licences.weights,
        "data_licence": contract.licences.data,
        "certificate": parity,
        "bytes": file.path.stat().st_size if file is not None else None,
    }


def open_for(path: Path | str, task: Task, name: str | None, images: Path | str | None) -> Dataset:
    """The data set at `path`, as a model of `task` is scored on it; see `open_dataset`."""
    from blemish.data import as_task, open_dataset

    # A test set may hold images of one label only; and outlines size the truths of detection.
    wanted = None if task.fields.scorable_ground_truth else task
    dataset = open_dataset(path, format=name, images=images, task=wanted, minimum_labels=1)
    return dataset if task.can_score(dataset.task) else as_task(dataset, task)


def _look(
    predictor: Predictor,
    samples: list[Sample],
    batch_size: int | None,
    progress: Callable[[int, int], None] | None,
    tiling: Tiling | None,
) -> _Answers:
    """Predict every image, and take its fingerprints where the file has some to compare with."""
    from blemish.data.image_hashes import detail_hash, perceptual_hash, pixel_hash

    compare = predictor.model_file is not None and len(predictor.model_file.fingerprints.pixel) > 0
    found = _Answers()
    outcomes = looked_at(predictor, [s.path for s in samples], tiling, batch_size, keep_images=compare)
    for done, (sample, outcome) in enumerate(zip(samples, outcomes, strict=True), 1):
        if outcome.prediction is None:
            found.broken.append((sample.id, str(outcome.error)))
        else:
            found.samples.append(sample)
            found.predictions.append(outcome.prediction)
            if outcome.image is not None:
                found.pixel.append(pixel_hash(outcome.image))
                found.perceptual.append(perceptual_hash(outcome.image))
                found.detail.append(detail_hash(outcome.image))
        if progress is not None:
            progress(done, len(samples))
    return found


def looked_at(
    predictor: Predictor,
    paths: Sequence[Path],
    tiling: Tiling | None = None,
    batch_size: int | None = None,
    *,
    keep_images: bool = False,
) -> Iterator[PredictionResult]:
    """What a model says of images, whole or tile by tile."""
    return predictor.stream(paths, batch_size, tiling=tiling, keep_images=keep_images)


def _in_tiles(tiling: Tiling | None) -> tuple[ReportWarning, ...]:
    return () if tiling is None else (ReportWarning("note", f"looked at in tiles of {tiling.size} pixels"),)


def _leaks(predictor: Predictor, found: _Answers) -> TrainOverlap:
    if predictor.model_file is None or len(found.pixel) != len(found.samples):
        return TrainOverlap(evaluated=len(found.samples))
    return find_leaks(
        [s.id for s in found.samples],
        np.array(found.pixel, np.uint64),
        np.array(found.perceptual, np.uint64),
        np.array(found.detail, np.uint64).reshape(-1, 4),
        predictor.model_file.fingerprints,
    )


def _tuned(predictor: Predictor, leaks: TrainOverlap, split: str | None) -> tuple[ReportWarning, ...]:
    """A stamp where only the split's name says that thresholds were chosen on it."""
    tuned_on = predictor.contract.thresholds_tuned_on
    if leaks.compared or not tuned_on or split != tuned_on:
        return ()
    text = f"the thresholds were chosen on a split called {tuned_on}; if it is this one, the figures lean to"
    return (ReportWarning("tuned", f"{text} the good side"),)


def _left_out(found: _Answers, unlabelled: int) -> tuple[ReportWarning, ...]:
    out = []
    if found.broken:
        count = len(found.broken)
        text = "1 image" if count == 1 else f"{count} images"
        out.append(
            ReportWarning(
                "broken", f"{text} could not be read and {'is' if count == 1 else 'are'} not scored"
            )
        )
    if unlabelled:
        out.append(ReportWarning("note", f"{unlabelled} images without a truth are not scored"))
    return tuple(out)
