"""Write the weights that Blemish starts a training of YOLO from, so that Ultralytics can start from them too.

    python bench/restored_weights.py --data cars --model yolo11n --weights yolo11n_coco_state_dict.pth \
        --size 256 --output restored.pth

The COCO weights at hand are rebuilt from int8 files, with batch normalization folded into the convolutions.
Blemish restores it before a training, Ultralytics does not. This writes the restored state dict, in
Ultralytics' layout and with its head of 80 labels, for the arm `ultralytics` of `detector_training.py`: the
two trainings then differ in nothing but the training. Both files give the same results before training.
"""

import argparse
from pathlib import Path

import torch

from blemish.config.recipe import read_recipe
from blemish.models._weights import find_weights
from blemish.training.data_setup import prepare_data, resolve
from blemish.training.network_setup import prepare_network


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--task", default="detection")
    parser.add_argument("--model", default="yolo11n")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    keys = {"data.path": options.data, "task": options.task, "model.name": options.model}
    keys |= {"model.weights": str(options.weights), "model.input_size": options.size}
    recipe = read_recipe(None, settings=[], overrides=keys)
    data = prepare_data(recipe)
    recipe = resolve(recipe, data)
    network = prepare_network(recipe, data, find_weights(options.model, recipe.model.weights, {}))
    ours = {name.removeprefix("model."): value for name, value in network.state_dict().items()}
    state = torch.load(options.weights, map_location="cpu", weights_only=True)
    restored = [name for name, value in ours.items() if name in state and state[name].shape == value.shape]
    loaded = [name for name in restored if f"model.{name}" in network.loaded]
    changed = sum(not torch.equal(state[name], ours[name]) for name in loaded)
    torch.save(state | {name: ours[name] for name in loaded}, options.output)
    print(f"{len(loaded)} of {len(state)} tensors are those of Blemish's start, {changed} of them restored")


if __name__ == "__main__":
    main()
