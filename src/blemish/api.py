"""Functions of the public API that need more than one package, or a package that imports torch.

`blemish` itself offers them beside the functions that it takes from other packages as they are. Each
function imports what it needs when it is called, so that `import blemish` stays fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from blemish.config.recipe import Recipe
    from blemish.explanation import Heatmap
    from blemish.model_file import ModelFile
    from blemish.structures import Prediction
    from blemish.training.callback_registry import Callback
    from blemish.training.run import Run


def predict(
    model: Path | str | ModelFile,
    source: Path | str | bytes | Image | NDArray[np.uint8],
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    white_level: int | None = None,
    check_capture: bool = False,
) -> Prediction:
    """Return the prediction of a model file for one image.

    This opens the model file for each call; `load` it once to predict many images.

    Args:
        model: the model file, or `hf://user/name[@revision][/file]`.
        source: a path, the bytes of an image file, a PIL image, or an (h, w, 3) uint8 array in RGB.
        backend: `onnxruntime`, `openvino`, `openvino:bf16`, `certified` or `auto`; see `load`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; for OpenVINO its own names too.
        threads: threads that run the network; None uses every available core.
        white_level: the sample value of white in 16-bit images; None takes that of the model file, or of the
            image.
        check_capture: whether the prediction states if the image should be taken again.

    Raises:
        BadImage: the image cannot be used.
        BadModelFile: the model file cannot be used.
    """
    from blemish.inference import load

    predictor = load(
        model,
        backend=backend,
        device=device,
        threads=threads,
        white_level=white_level,
        check_capture=check_capture,
    )
    return predictor.predict(source)


def explain(
    model: Path | str | ModelFile,
    source: Path | str | bytes | Image | NDArray[np.uint8],
    *,
    method: str | None = None,
    label: str | None = None,
    layer: str | None = None,
    max_targets: int = 5,
    max_evals: int | None = None,
    seed: int = 0,
    faithfulness: bool = True,
    faithfulness_steps: int = 16,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    white_level: int | None = None,
) -> list[Heatmap]:
    """Return heatmaps of the image regions behind a prediction.

    Args:
        model: the model file, or `hf://user/name[@revision][/file]`.
        source: as `predict` takes it.
        method: such as `grad-cam`, `occlusion` or `rise`; None selects the method that was the most faithful
            on validation images when the model file was written, or `occlusion` without explanation graph.
        label: the label to explain; None explains every positive label or object.
        layer: the feature map that a gradient method reads; None selects that of the model file for its
            method, else the average of all.
        max_targets: the maximum number of labels or objects to explain, those of the highest score.
        max_evals: the maximum number of forward passes per heatmap; None selects the method's own.
        seed: random seed of the masks of `rise`.
        faithfulness: whether to measure deletion and insertion, which takes 32 more forward passes.
        faithfulness_steps: steps of each of both; two forward passes per step.
        backend: as `predict` takes it.
        device: as `predict` takes it.
        threads: as `predict` takes it.
        white_level: as `predict` takes it.

    Returns:
        One heatmap per label or object; empty if a detector finds nothing.

    Raises:
        BadImage: the image cannot be used.
        BadModelFile: the model file cannot be used, or has no explanation graph and the method needs one.
        UnknownName: there is no such method, label or layer.
        WrongTask: the method needs gradients, and the model file is of a detector.
    """
    from blemish.hub import local_file
    from blemish.inference import load
    from blemish.model_file import ModelFile, read_model_file

    file = model if isinstance(model, ModelFile) else read_model_file(local_file(model, explanation=True))
    predictor = load(file, backend=backend, device=device, threads=threads, white_level=white_level)
    return predictor.explain(
        source,
        method=method,
        label=label,
        layer=layer,
        max_targets=max_targets,
        max_evals=max_evals,
        seed=seed,
        faithfulness=faithfulness,
        faithfulness_steps=faithfulness_steps,
    )


def train(
    recipe: Recipe | Path | str | None = None,
    *,
    data: Path | str | None = None,
    model: str | None = None,
    epochs: int | None = None,
    weights: Path | str | None = None,
    output: Path | str | None = None,
    device: str = "auto",
    set: Sequence[str] | Mapping[str, Any] = (),  # noqa: A002  (the option's name)
    resume: Path | str | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
) -> Run:
    """Train a model and write its model file; see `blemish.training.run.train`."""
    options = {name: value for name, value in locals().items() if name != "recipe"}
    from blemish.training.run import train as run

    return run(recipe, **options)


def export_model(
    source: Path,
    *,
    precision: str = "fp32",
    output: Path | None = None,
    data: Path | None = None,
    max_drop: float = 0.005,
    max_changed: float = 0.0,
    backend: str = "onnxruntime",
    force: bool = False,
) -> ModelFile:
    """Write a model file again in another precision, certified against its source on validation images.

    Args:
        source: the folder of a run, or a model file.
        precision: `fp32`, from the weights of a run; `fp16` or `int8`, from a run or an fp32 model file.
        output: the new model file; None writes it beside the source.
        data: the data set to compare on; None takes the validation images of the run.
        max_drop: by how much the primary metric may fall in fp16 and int8, in [0, 1].
        max_changed: share of the images on which int8 may change a decision, in [0, 1].
        backend: what an int8 file is made for, and certified with first: `onnxruntime` or `openvino`.
        force: whether to write a model file that is not certified.

    Raises:
        ExportRefused: the new model file does not decide as its source does.
    """
    from blemish.export.reexport import reexport

    return reexport(
        Path(source),
        precision=precision,
        output=output,
        data=data,
        max_drop=max_drop,
        max_changed=max_changed,
        backend=backend,
        force=force,
    )
