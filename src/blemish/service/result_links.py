"""Private links to the images of an answer: random, expiring, in memory, rendered only when opened.

An answer costs nothing but its tokens: the uploaded bytes and the prediction are kept for as long as the
links work, and the image is rendered when a link is opened.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blemish.structures import Prediction

ArtifactKind = Literal["image", "overlay", "heatmap", "heatmap_overlay"]
Colormap = Literal["viridis", "jet"]


@dataclass(eq=False)
class LinkedResult:
    """The data from which the images of one answer are rendered.

    Attributes:
        image: the bytes as uploaded.
        prediction: the prediction that the overlay shows.
        heatmap: (h, w) uint8 over the whole image, perhaps at a lower resolution; None if none was made.
        colormap: the colors of the heatmap's overlay.
        white_level: the sample value that becomes white in a 16-bit image.
        client: the client that got the answer; see `blemish.service.middleware.get_client`.
        expires: time of the store's clock at which the links stop working, seconds.
        size_bytes: approximate memory.
        tokens: the tokens of its links.
    """

    image: bytes
    prediction: Prediction
    heatmap: NDArray[np.uint8] | None = None
    colormap: Colormap = "viridis"
    white_level: int = 65535
    client: str = ""
    expires: float = 0.0
    size_bytes: int = 0
    tokens: list[str] = field(default_factory=list)


class LinkStore:
    """Linked results by token, bounded in time and memory.

    Attributes:
        seconds: lifetime of a link; 0 gives no links.
        max_bytes: maximum memory; the oldest results are removed first.
    """

    def __init__(self, seconds: float, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.max_bytes = seconds, max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._results: OrderedDict[int, LinkedResult] = OrderedDict()
        self._links: dict[str, tuple[LinkedResult, ArtifactKind]] = {}
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Memory in use, in bytes."""
        return self._used_bytes

    def add(self, result: LinkedResult, kinds: tuple[ArtifactKind, ...]) -> dict[ArtifactKind, str]:
        """Store a result and return one token for each kind of image.

        Returns:
            The tokens by kind; empty if links are switched off or the result alone exceeds `max_bytes`.
        """
        result.size_bytes = len(result.image) + _prediction_bytes(result.prediction) + 1024
        if result.heatmap is not None:
            result.size_bytes += result.heatmap.nbytes
        if self.seconds <= 0 or result.size_bytes > self.max_bytes:
            return {}
        tokens = {kind: secrets.token_urlsafe(32) for kind in kinds}
        result.tokens = list(tokens.values())
        with self._lock:
            result.expires = self._clock() + self.seconds
            self._remove_expired()
            while self._used_bytes + result.size_bytes > self.max_bytes:
                self._remove(next(iter(self._results.values())))
            self._results[id(result)] = result
            self._used_bytes += result.size_bytes
            self._links.update({token: (result, kind) for kind, token in tokens.items()})
        return tokens

    def get(self, token: str) -> tuple[LinkedResult, ArtifactKind] | None:
        """Return the result and the kind of image behind a token, or None if it is unknown or expired."""
        with self._lock:
            self._remove_expired()
            return self._links.get(token)

    def remove_expired(self) -> None:
        """Remove every expired result."""
        with self._lock:
            self._remove_expired()

    def clear(self) -> None:
        """Remove every result."""
        with self._lock:
            for result in list(self._results.values()):
                self._remove(result)

    def _remove_expired(self) -> None:
        now = self._clock()
        while self._results:
            oldest = next(iter(self._results.values()))
            if oldest.expires > now:
                return
            self._remove(oldest)

    def _remove(self, result: LinkedResult) -> None:
        del self._results[id(result)]
        self._used_bytes -= result.size_bytes
        for token in result.tokens:
            del self._links[token]


def _prediction_bytes(prediction: Prediction) -> int:
    masks = sum(mask.counts.nbytes for mask in prediction.masks or ())
    return int(masks + prediction.label_scores.nbytes * 2 + prediction.scores.nbytes * 6)
