"""From a network's raw outputs to predictions, in pixels of the image.

One file for each kind of output: `scores` (image-level), `point` (one box), `dense` (boxes and scores
before suppression), `final` (suppressed in the graph), `set` (no suppression), `label_maps` (boxes of one of
these, masks from a map a label). A new kind is one file here with one function under `@decoder(...)`,
imported below.
"""

from blemish.decoding import dense, detr, point, postprocessed, scores, semantic_masks  # noqa: F401  (each registers its decoder)
from blemish.decoding.decoder import DECODERS, EVERYTHING, DetectionFilter, decode, decoder

__all__ = ["DECODERS", "EVERYTHING", "DetectionFilter", "decode", "decoder"]
