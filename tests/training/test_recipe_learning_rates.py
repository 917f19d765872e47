"""The built-in recipes train the stages that their systems document, at the documented learning rates."""

import pytest

from blemish.config.recipe import read_recipe
from blemish.models import create
from blemish.training.optimizers import freeze, parameter_groups

RESNET = ("stem", "layer1", "layer2", "layer3", "layer4", "head")
RATES = {
    "damagelens-resnet18": {"layer3": 1e-5, "layer4": 1e-5, "head": 1e-4},
    "damagelens-fusion": {
        "efficientnet.5": 1e-5, "efficientnet.6": 3e-5, "efficientnet.7": 3e-5,
        "convnext.2": 3e-5, "convnext.3": 3e-5, "convnext.norm": 3e-5, "head": 1e-4,
    },
    "solar-crack-inactive": dict.fromkeys(RESNET, 1e-4),
    "localize-resnet50-scratch": dict.fromkeys(RESNET, 1e-3),
}  # fmt: skip


@pytest.mark.parametrize("name", RATES)
def test_builtin_recipe_trains_the_documented_stages_at_the_documented_rates(name):
    recipe = read_recipe(name)
    options = {**recipe.model.options, **({"coord_max": 100} if recipe.model.options else {})}
    if recipe.model.head:
        options["head"] = recipe.model.head
    network = create(recipe.model.name, task=recipe.task, label_count=6, **options)
    freeze(network, recipe.model.trainable)
    rate = {id(p): g["lr"] for g in parameter_groups(network, recipe.training.optimizer) for p in g["params"]}
    trained = {}
    for stage in network.stages:
        rates = {rate.get(id(p)) for p in network.parameters_of(stage)}
        assert len(rates) == 1, stage
        if rates != {None}:
            trained[stage] = rates.pop()
    assert trained == RATES[name]
