"""From a network's raw outputs to predictions, in pixels of the photograph.

One file for each kind of output: `scores` (image-level), `point` (one box), `dense` (boxes and scores
before suppression), `final` (suppressed in the graph), `set` (no suppression), `label_maps` (boxes of one of
these, masks from a map a label). A new kind is one file here with one function under `@decoder(...)`,
imported below.
"""

from blemish.decoding import (  # noqa: F401  (they register)
    dense,
    final,
    label_maps,
    point,
    scores,
    set_prediction,
)
from blemish.decoding.registry import DECODERS, EVERYTHING, Selection, decode, decoder

__all__ = ["DECODERS", "EVERYTHING", "Selection", "decode", "decoder"]
