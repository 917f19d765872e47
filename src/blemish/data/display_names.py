"""Label names as people read them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from blemish.structures import Labels

PREFIXES = {"F": "Front", "R": "Rear"}


def title_of(name: str) -> str:
    """What people read for a label's name.

    Example:
        >>> title_of("F_Crushed"), title_of("glass_crack"), title_of("LED-broken")
        ('Front Crushed', 'Glass Crack', 'LED Broken')
    """
    words = [w for w in re.split(r"[\s_\-]+", name.strip()) if w]
    if len(words) > 1 and words[0] in PREFIXES:
        words[0] = PREFIXES[words[0]]
    return " ".join(w[0].upper() + w[1:] for w in words) or name


def labels_with_titles(names: Iterable[str]) -> Labels:
    """Labels whose titles are made from their names; a title that two names share is the name itself.

    Example:
        >>> labels_with_titles(["R_Normal", "dent"]).titles
        ('Rear Normal', 'Dent')
    """
    names = tuple(names)
    titles = [title_of(n) for n in names]
    return Labels(names, tuple(n if titles.count(t) > 1 else t for n, t in zip(names, titles, strict=True)))
