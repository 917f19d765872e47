"""Private links to the pictures of an answer: random, expiring, in memory, made only when somebody looks.

An answer costs nothing but its tokens: the image's bytes and the prediction are kept for as long as
the links live, and the picture is drawn when the link is opened.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from blemish.structures import Prediction

Kind = Literal["photograph", "overlay", "map", "map_overlay"]


@dataclass(eq=False)
class LinkedResult:
    """What the links of one answer are made from.

    Attributes:
        image: the bytes as uploaded.
        prediction: what was said.
        heat: (h, w) uint8 map over the image, or over a grid on it; None where none was made.
        jet: whether its colours are those of DamageLens' maps.
        expires: on the shelf's clock.
        size: bytes it takes, roughly.
        tokens: of its links.
    """

    image: bytes
    prediction: Prediction
    heat: Any = None
    jet: bool = False
    expires: float = 0.0
    size: int = 0
    tokens: list[str] = field(default_factory=list)


class LinkStore:
    """Records by token, at most so many bytes and so many seconds of them.

    Attributes:
        seconds: how long a link works.
        capacity: bytes; the oldest records go first.
    """

    def __init__(self, seconds: float, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.capacity = seconds, capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._records: OrderedDict[int, LinkedResult] = OrderedDict()
        self._links: dict[str, tuple[LinkedResult, Kind]] = {}
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes kept now."""
        return self._held

    def put(self, record: LinkedResult, kinds: tuple[Kind, ...]) -> dict[Kind, str]:
        """A token a kind of picture, or none where links are off or the record alone is over the capacity."""
        record.size = len(record.image) + _prediction_bytes(record.prediction) + 1024
        if record.heat is not None:
            record.size += record.heat.nbytes
        if self.seconds <= 0 or record.size > self.capacity:
            return {}
        tokens = {kind: secrets.token_urlsafe(32) for kind in kinds}
        record.tokens = list(tokens.values())
        with self._lock:
            record.expires = self._clock() + self.seconds
            self._sweep()
            while self._held + record.size > self.capacity:
                self._drop(next(iter(self._records.values())))
            self._records[id(record)] = record
            self._held += record.size
            self._links.update({token: (record, kind) for kind, token in tokens.items()})
        return tokens

    def get(self, token: str) -> tuple[LinkedResult, Kind] | None:
        """What a link points at; None where it never did or does not any more."""
        with self._lock:
            self._sweep()
            return self._links.get(token)

    def sweep(self) -> None:
        """Forget what has expired."""
        with self._lock:
            self._sweep()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for record in list(self._records.values()):
                self._drop(record)

    def _sweep(self) -> None:
        now = self._clock()
        while self._records:
            oldest = next(iter(self._records.values()))
            if oldest.expires > now:
                return
            self._drop(oldest)

    def _drop(self, record: LinkedResult) -> None:
        del self._records[id(record)]
        self._held -= record.size
        for token in record.tokens:
            del self._links[token]


def _prediction_bytes(prediction: Prediction) -> int:
    masks = sum(mask.counts.nbytes for mask in prediction.masks or ())
    return int(masks + prediction.label_scores.nbytes * 2 + prediction.scores.nbytes * 6)
