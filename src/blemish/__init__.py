"""Blemish finds damage and defects in images: what, where, how sure, and why.

The public names are `load`, `predict`, `train`, `evaluate` and `open_dataset`. Importing this module loads
neither torch nor NumPy; each name loads what it needs when it is called.

Example:
    >>> import blemish
    >>> blemish.__version__.count(".")
    2
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blemish._version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from blemish.evaluation import Report
    from blemish.inference import Predictor
    from blemish.structures import Dataset, Prediction
    from blemish.training import Run

__all__ = ["__version__", "evaluate", "load", "open_dataset", "predict", "train"]


def load(model: Path | str, **options: Any) -> Predictor:
    """A model file, ready to look at images.

    Args:
        model: the file, or `hf://user/name[@revision][/file]`.
        options: `backend`, `device` and `threads`, as `blemish.inference.load` takes them.

    Returns:
        A predictor: `blemish.load("model.onnx").predict("photo.jpg")`.

    Raises:
        BadModelFile: missing, damaged, or without Blemish's contract.
    """
    from blemish import inference

    return inference.load(model, **options)


def predict(source: Any, model: Path | str, **options: Any) -> Prediction:
    """What a model says of one image.

    Args:
        source: a path, the bytes of a file, a PIL image, or an (h, w, 3) uint8 array in RGB.
        model: the model file. To look at many images, `load` it once.
        options: as `load` takes them.

    Raises:
        BadImage: the image cannot be used.
        BadModelFile: the model file cannot be used.
    """
    return load(model, **options).predict(source)


def open_dataset(path: Path | str, **options: Any) -> Dataset:
    """Labelled images, in any format that Blemish recognises.

    Args:
        path: a folder or a file of labels.
        options: `format`, `images` and others, as `blemish.data.open_dataset` takes them.

    Raises:
        BadDataset: nothing that could be read as a data set; the message says what was looked for.
    """
    from blemish import data

    return data.open_dataset(path, **options)


def evaluate(model: Path | str, data: Path | str | Dataset, **options: Any) -> Report:
    """How a model does on labelled images.

    Args:
        model: the model file.
        data: a data set, or the path of one.
        options: `split`, `output` and others, as `blemish.evaluation.evaluate` takes them.
    """
    from blemish import evaluation

    return evaluation.evaluate(model, data, **options)


def train(recipe: Any = None, **options: Any) -> Run:
    """Train a model, and write its model file.

    Args:
        recipe: a recipe, the path of one, or None for the defaults.
        options: `data`, `model`, `epochs`, `output`, `device` and recipe keys with dots as `set`.

    Returns:
        The run: its folder, its metrics and its model file.

    Raises:
        BadRecipe: a key or value that is not possible.
        BadDataset: the data cannot be used.
    """
    from blemish import training

    return training.train(recipe, **options)
