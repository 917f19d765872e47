"""`calibrate`: give a model file the scores of labeled images, from which `--risk` decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from blemish.abstention import ANY_OBJECT, Risk, check_task
from blemish.abstention.conformal import excluded_count
from blemish.errors import BadInput
from blemish.evaluation.abstention_calibration import collect_scores
from blemish.evaluation.evaluator import choose_split, open_for, overlap_of, predict_samples
from blemish.evaluation.label_match import match_labels
from blemish.inference import load
from blemish.model_file import FORMAT_VERSION, AbstentionScores, ModelFile, read_graph, write_model_file
from blemish.structures import Dataset

CALIBRATION_SPLIT = "val"


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` did.

    Attributes:
        model_file: the written file.
        scores: the calibration scores in it.
        excluded: number of images that were left out because the model was trained on them.
        unreadable: number of images that could not be read.
        warnings: what limits the decisions, one sentence each.
    """

    model_file: ModelFile
    scores: AbstentionScores
    excluded: int
    unreadable: int
    warnings: tuple[str, ...]


def calibrate(
    model: Path | str,
    data: Dataset | Path | str,
    *,
    split: str | None = None,
    output: Path | str | None = None,
    format: str | None = None,  # noqa: A002 - named as on the command line
    images: Path | str | None = None,
    seed: int = 0,
    backend: str = "auto",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Store the scores of labeled images in a model file, so that it can decide at a risk or cost.

    Images that the model was trained on, and images nearly identical to them, are left out: their scores are
    better than those of new images. The network is not changed, and the certificate stays valid.

    Args:
        model: the model file.
        data: labeled images, drawn as the images to come.
        split: of the data [default: "val" if there is one, else all images].
        output: the new model file [default: `model` itself].
        format: of the data [default: detected].
        images: folder of the images [default: next to the labels].
        seed: of the choice of one image per group.
        backend: what runs the model.
        threads: that run the network.
        progress: called with the number of finished images and of all.

    Raises:
        BadInput: no image remains.
        BadModelFile: the model cannot be read.
        WrongTask: the task has no abstention, or the data cannot measure the model.
    """
    predictor = load(model, backend=backend, threads=threads)
    file = predictor.model_file
    assert file is not None  # noqa: S101  (it was loaded from a file)
    check_task(predictor.task, file.path)
    dataset = data if isinstance(data, Dataset) else open_for(data, predictor.task, format, images)
    if split is None:
        split = CALIBRATION_SPLIT if CALIBRATION_SPLIT in dataset.splits else "all"
    match = match_labels(predictor.labels, dataset.labels)
    chosen, name = choose_split(dataset, split)
    samples = []
    for sample in chosen:
        applied = None if sample.ground_truth is None else match.apply(sample.ground_truth)
        if applied is not None:
            samples.append(replace(sample, ground_truth=applied))
    results = predict_samples(predictor, samples, None, progress, None) if samples else None
    overlap = None if results is None else overlap_of(predictor, results)
    trained = set() if overlap is None else {*overlap.train, *overlap.near_train}
    kept = (
        []
        if results is None
        else [
            (p, s) for p, s in zip(results.predictions, results.samples, strict=True) if s.id not in trained
        ]
    )
    if not kept:
        raise BadInput(
            f"{dataset.root}: expected labeled images that the model was not trained on, got none of "
            f"{len(chosen)} (split {name or 'all'}, {len(trained)} are in its training set). Give others.",
            reason="nothing-to-calibrate",
        )
    where = f"{dataset.root.resolve().name}{f', split {name}' if name else ''}"
    scores = collect_scores([p for p, _ in kept], [s for _, s in kept], split=where, seed=seed)
    assert scores is not None  # noqa: S101  (the task was checked)
    contract = file.contract.model_copy(update={"abstention": scores, "format_version": FORMAT_VERSION})
    target = file.path if output is None else Path(output)
    written = write_model_file(target, read_graph(file.path), contract, file.fingerprints)
    return Calibration(
        written,
        scores,
        len(trained),
        0 if results is None else len(results.unreadable),
        tuple(_warnings(scores, Risk(0.05))),
    )


def side_counts(scores: AbstentionScores) -> list[tuple[str, str, int]]:
    """Return the number of calibration images by label and side: "present" or "absent"."""
    rows = []
    for label, known in {
        **scores.labels,
        **({} if scores.any_object is None else {ANY_OBJECT: scores.any_object}),
    }.items():
        rows.append((label, "present", len(known.present)))
        rows.append((label, "absent", len(known.absent)))
    return rows


def _warnings(scores: AbstentionScores, risk: Risk) -> list[str]:
    few = [
        f"{label} {side} {count}"
        for label, side, count in side_counts(scores)
        if excluded_count(count, risk.value) == 0
    ]
    if not few:
        return []
    return [
        f"too few images to decide at a risk of {risk.value:g}, which needs 19 on each side: {', '.join(few)}"
    ]
