"""Collect the scores from which `--risk` decides again, for a file in another precision."""

from __future__ import annotations

from collections.abc import Sequence

from blemish.evaluation.abstention_calibration import collect_scores
from blemish.export.parity_certificate import ComparedPair
from blemish.model_file import Contract


def with_new_scores(contract: Contract, pairs: Sequence[ComparedPair]) -> Contract:
    """Return a contract with the scores of its own file; other precisions change scores slightly.

    Args:
        contract: unchanged if it has no such scores.
        pairs: predictions of the source and of the file for validation images of the run.
    """
    labeled = [(after, sample) for _, after, sample in pairs if sample.ground_truth is not None]
    scores = contract.abstention
    if scores is None or not labeled:
        return contract
    scores = collect_scores([p for p, _ in labeled], [s for _, s in labeled], split=scores.split)
    return contract.model_copy(update={"abstention": scores})
