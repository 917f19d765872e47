"""The names of splits, as formats and users write them."""

from __future__ import annotations

SPLIT_NAMES = {
    "train": "train", "training": "train", "trn": "train", "trainset": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "eval": "val",
    "test": "test", "testing": "test", "tst": "test", "testset": "test",
}  # fmt: skip
SPLITS = ("train", "val", "test")


def split_named(name: str) -> str | None:
    """Return the split that the name of a folder, file or cell stands for, or None.

    Example:
        >>> split_named("Validation"), split_named("dent")
        ('val', None)
    """
    return SPLIT_NAMES.get(name.strip().casefold())
