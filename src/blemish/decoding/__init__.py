"""From a network's raw outputs to predictions in image pixels.

One module per kind of output: `scores` (a probability per label), `point` (one box), `dense` (boxes and
scores before NMS), `postprocessed` (boxes after NMS in the graph), `detr` (a set of boxes without NMS) and
`semantic_masks` (boxes of one of these, masks from one map per label). To add a decoder, write a function
under `@decoder("name")` in a module here, or in your own package behind the entry point `blemish.decoders`.
"""

from blemish.decoding.decoder import (
    DECODERS,
    NO_FILTER,
    DecodeFunction,
    Decoder,
    DetectionFilter,
    decode,
    decoder,
    find_output,
    require_finite,
    require_output,
)

__all__ = [
    "DECODERS",
    "NO_FILTER",
    "DecodeFunction",
    "Decoder",
    "DetectionFilter",
    "decode",
    "decoder",
    "find_output",
    "require_finite",
    "require_output",
]
