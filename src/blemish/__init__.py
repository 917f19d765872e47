"""Blemish finds damage and defects in images: what, where, how certain, and why.

Importing this package loads neither torch nor NumPy: each name below is imported when it is first used.

| name | |
|---|---|
| `load`, `predict`, `explain` | run a model file |
| `train`, `export_model` | make a model file; they need the extra `train` |
| `train_few` | make a model file from few labels, without PyTorch; extras `few` and `pretrained` |
| `evaluate`, `compare` | measure model files on labeled images |
| `Decider`, `Risk`, `Costs`, `calibrate` | decide images at a risk or cost, and leave the others for review |
| `open_dataset` | read labeled images |
| `create_app` | the REST service as an ASGI application; it needs the extra `serve` |
| `Task`, `Labels`, `GroundTruth`, `Prediction`, `Sample`, `Dataset` | the values that all of these share |
| `Predictor`, `PredictionResult`, `ModelFile` | what runs a model |
| `Recipe`, `Run`, `FewShotRun` | what training takes and makes |
| `Report`, `Comparison`, `Heatmap`, `Decision`, `Calibration` | what the functions above return |
| `BlemishError` and its subclasses | every error, each with a stable `code` |

Example:
    >>> import blemish
    >>> blemish.__version__.count(".")
    2
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blemish._privacy import disable_telemetry
from blemish._version import __version__

if TYPE_CHECKING:
    from blemish.abstention import Costs, Decider, Decision, Risk
    from blemish.api import explain, export_model, predict, train
    from blemish.config.recipe import Recipe
    from blemish.data import open_dataset
    from blemish.errors import (
        BadDataset,
        BadImage,
        BadInput,
        BadModelFile,
        BadRecipe,
        BadStore,
        BadWeights,
        BlemishError,
        Conflict,
        DuplicateName,
        EngineFailed,
        ExportRefused,
        ImageTooLarge,
        ImageTruncated,
        ImageUndecodable,
        MissingExtra,
        NetworkTooSlow,
        NoNetwork,
        StorageFull,
        TrainingFailed,
        UnknownName,
        WrongTask,
    )
    from blemish.evaluation import Report, evaluate
    from blemish.evaluation.calibrate_model import Calibration, calibrate
    from blemish.evaluation.comparison import Comparison, compare
    from blemish.explanation import Heatmap
    from blemish.few_shot import FewShotRun, train_few
    from blemish.inference import PredictionResult, Predictor, load
    from blemish.model_file import ModelFile
    from blemish.service.app import create_app
    from blemish.structures import Dataset, GroundTruth, Labels, Prediction, Sample, Task
    from blemish.training.run import Run

disable_telemetry()
__all__ = [
    "BadDataset",
    "BadImage",
    "BadInput",
    "BadModelFile",
    "BadRecipe",
    "BadStore",
    "BadWeights",
    "BlemishError",
    "Calibration",
    "Comparison",
    "Conflict",
    "Costs",
    "Dataset",
    "Decider",
    "Decision",
    "DuplicateName",
    "EngineFailed",
    "ExportRefused",
    "FewShotRun",
    "GroundTruth",
    "Heatmap",
    "ImageTooLarge",
    "ImageTruncated",
    "ImageUndecodable",
    "Labels",
    "MissingExtra",
    "ModelFile",
    "NetworkTooSlow",
    "NoNetwork",
    "Prediction",
    "PredictionResult",
    "Predictor",
    "Recipe",
    "Report",
    "Risk",
    "Run",
    "Sample",
    "StorageFull",
    "Task",
    "TrainingFailed",
    "UnknownName",
    "WrongTask",
    "__version__",
    "calibrate",
    "compare",
    "create_app",
    "evaluate",
    "explain",
    "export_model",
    "load",
    "open_dataset",
    "predict",
    "train",
    "train_few",
]

# Where each name comes from; names that are not listed come from `blemish.errors`.
_HOMES = {
    "abstention": ("Costs", "Decider", "Decision", "Risk"),
    "api": ("explain", "export_model", "predict", "train"),
    "config.recipe": ("Recipe",),
    "data": ("open_dataset",),
    "evaluation": ("Report", "evaluate"),
    "evaluation.calibrate_model": ("Calibration", "calibrate"),
    "evaluation.comparison": ("Comparison", "compare"),
    "explanation": ("Heatmap",),
    "few_shot": ("FewShotRun", "train_few"),
    "inference": ("PredictionResult", "Predictor", "load"),
    "model_file": ("ModelFile",),
    "service.app": ("create_app",),
    "structures": ("Dataset", "GroundTruth", "Labels", "Prediction", "Sample", "Task"),
    "training.run": ("Run",),
}

if not TYPE_CHECKING:  # a type checker must see a name that does not exist as an error

    def __getattr__(name: str) -> Any:
        """Import the public name `name` when it is first used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        home = next((module for module, names in _HOMES.items() if name in names), "errors")
        value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return value

    def __dir__() -> list[str]:
        """Return the public names, those not imported yet included."""
        return sorted({*globals(), *__all__})
