"""Load the torch network of a finished run, from its recipe, its model file's contract and its weights."""

from __future__ import annotations

from pathlib import Path

from blemish.config.recipe import read_run_recipe
from blemish.errors import BadInput, BadWeights
from blemish.model_file import ModelFile, read_model_file
from blemish.models._build import build_network
from blemish.models._network import Network


def load_run_network(folder: Path) -> tuple[Network, ModelFile]:
    """Return a run's network with its best weights, in evaluation mode, and the run's model file.

    The training data are not needed.

    Raises:
        BadInput: the folder is not a finished run ("bad-input.unfinished-run").
        BadWeights: `weights.safetensors` is damaged, or does not match the recipe.
    """
    from safetensors.torch import load_file

    for name in ("recipe.yaml", "weights.safetensors", "model.onnx"):
        if not (folder / name).is_file():
            raise BadInput(
                f"{folder}: expected the folder of a finished run, and there is no {name}; finish the run "
                f"with blemish train --resume {folder}",
                reason="unfinished-run",
            )
    file = read_model_file(folder / "model.onnx")
    contract = file.contract
    # The contract contains what was measured on the data: the channels' statistics and the largest
    # coordinate.
    recipe = read_run_recipe(folder).changed({"data.normalization": "weights"})
    network = build_network(
        recipe,
        task=contract.task,
        label_count=len(contract.labels),
        largest_coordinate=contract.decoder.settings.get("coord_max"),
    )
    network.inputs = contract.inputs
    try:
        state = load_file(folder / "weights.safetensors")
    except Exception as error:  # the reader's exceptions have no common class
        raise BadWeights(
            f"{folder}: weights.safetensors is damaged; restore it, or train again", reason="unreadable"
        ) from error
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise BadWeights(
            f"{folder}: weights.safetensors does not match recipe.yaml", reason="other-architecture"
        ) from error
    return network.eval(), file
