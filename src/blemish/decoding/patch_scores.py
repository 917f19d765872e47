"""Anomaly scores: one per image, and a heatmap over its patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemish.decoding.decoder import DetectionFilter, Outputs, decoder, require_finite, require_output
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction


@decoder("patch-scores")
def decode_patch_scores(
    contract: Contract,
    outputs: Outputs,
    placements: Sequence[Placement],
    detection_filter: DetectionFilter,
) -> list[Prediction]:
    """Return the score of each image, decided at the threshold of the model file, with its heatmap.

    Roles:
        scores: (B, 1) in [0, 1].
        heatmap: (B, h, w) in [0, 1], evenly over the network's input, which the whole image fills.
    """
    labels, thresholds = contract.to_labels(), contract.threshold_array()
    count = len(placements)
    raw, _ = require_output(contract, outputs, "scores", (count, len(labels)))
    maps, _ = require_output(contract, outputs, "heatmap", (count, None, None))
    scores = np.clip(require_finite(np.asarray(raw, np.float64), "scores"), 0.0, 1.0)
    heatmaps = np.clip(require_finite(np.asarray(maps, np.float32), "heatmap"), 0.0, 1.0)
    predictions = []
    for row, heatmap, placement in zip(scores, heatmaps, placements, strict=True):
        index = np.flatnonzero(row >= thresholds)
        predictions.append(
            Prediction(
                task=contract.task,
                labels=labels,
                size_hw=placement.size_hw,
                label_index=index,
                scores=row[index],
                label_scores=row,
                thresholds=thresholds,
                heatmap=heatmap,
            )
        )
    return predictions
