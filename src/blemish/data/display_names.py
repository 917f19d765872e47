"""Display names of labels."""

from __future__ import annotations

import re
from collections.abc import Iterable

from blemish.structures import Labels

PREFIXES = {"F": "Front", "R": "Rear"}


def display_name_of(name: str) -> str:
    """Return the display name of a label: separate words, each with a capital letter.

    Example:
        >>> display_name_of("F_Crushed"), display_name_of("glass_crack"), display_name_of("LED-broken")
        ('Front Crushed', 'Glass Crack', 'LED Broken')
    """
    words = [w for w in re.split(r"[\s_\-]+", name.strip()) if w]
    if len(words) > 1 and words[0] in PREFIXES:
        words[0] = PREFIXES[words[0]]
    return " ".join(w[0].upper() + w[1:] for w in words) or name


def labels_with_display_names(names: Iterable[str]) -> Labels:
    """Return labels with display names made from their names; if two would be equal, the name itself is used.

    Example:
        >>> labels_with_display_names(["R_Normal", "dent"]).display_names
        ('Rear Normal', 'Dent')
    """
    names = tuple(names)
    display_names = [display_name_of(n) for n in names]
    return Labels(
        names,
        tuple(n if display_names.count(d) > 1 else d for n, d in zip(names, display_names, strict=True)),
    )
