"""The torch network of a run, from its recipe, its model file's contract and its weights."""

from __future__ import annotations

from pathlib import Path

from blemish.errors import BadInput, BadWeights
from blemish.model_file import Fingerprints, ModelFile, read_model_file
from blemish.models._network import Network
from blemish.structures import Dataset


def network_of_run(folder: Path) -> tuple[Network, ModelFile]:
    """A run's network with its best weights, in evaluation mode, and the model file it became.

    The images it learned from are not needed.

    Raises:
        BadInput: the folder is no finished run.
        BadWeights: the weights are not those of the run's recipe.
    """
    from safetensors.torch import load_file

    from blemish.config.recipe import read_run_recipe
    from blemish.training.data_setup import TrainingData, build_network

    for name in ("recipe.yaml", "weights.safetensors", "model.onnx"):
        if not (folder / name).is_file():
            raise BadInput(f"{folder}: no finished run, because it holds no {name}")
    file = read_model_file(folder / "model.onnx")
    contract = file.contract
    # What the data would be asked for stands in the contract: mean and deviation, and the coordinates' scale.
    settled: dict[str, object] = {"data.normalization": "imagenet"}
    if "coord_max" in contract.decoder.settings:
        settled["model.options.coord_max"] = contract.decoder.settings["coord_max"]
    recipe = read_run_recipe(folder).changed(settled)
    labels = Dataset(task=contract.task, labels=contract.label_vocabulary(), samples=(), root=folder)
    network = build_network(recipe, TrainingData(labels, (), (), Fingerprints.none()), ())
    network.inputs = contract.inputs
    try:
        state = load_file(folder / "weights.safetensors")
    except Exception as error:  # its reader's exceptions share no class of their own
        raise BadWeights(
            f"{folder}: weights.safetensors is damaged; begin a new run, or restore it"
        ) from error
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise BadWeights(f"{folder}: weights.safetensors does not fit the run's recipe.yaml") from error
    return network.eval(), file
