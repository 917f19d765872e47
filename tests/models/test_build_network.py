"""Options of a recipe reach the builder of any architecture, or are refused by name."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

from blemish.config.architectures import ARCHITECTURES, describe
from blemish.config.image_level_options import IMAGENET_MEAN, HeadSpec
from blemish.config.recipe import Recipe
from blemish.config.recipe_options import architecture_options, check_architecture
from blemish.models import create
from blemish.models._build import build_network
from blemish.structures import Task
from blemish.testing import raises


@pytest.fixture(scope="module", autouse=True)
def outside():
    """Register the architectures of a module outside `blemish`, for these tests only."""
    module = importlib.import_module("tests.models.outside_architecture")
    yield module
    for name in ("outside-net", "outside-plain"):
        ARCHITECTURES.unregister(name)


def recipe(name, **data):
    model = {
        "name": name,
        "weights": "none",
        "input_size": 24,
        "resize": "shortest",
        "resize_to": 32,
        "head": {"hidden": [7], "dropout": 0.25},
        "options": {"width": 3},
    }
    return Recipe.of({"model": model, "data": {"white_level": 4095, "normalization": "imagenet", **data}})


def test_build_network_passes_every_option_to_an_architecture_from_outside(outside):
    network = build_network(recipe("outside-net"), task=Task.CLASSIFICATION, label_count=2)
    (spec,) = network.inputs
    assert (spec.size_hw, spec.resize, spec.resize_to) == ((24, 24), "shortest", 32)
    assert (spec.mean, spec.white_level) == (IMAGENET_MEAN, 4095)
    assert outside.received == {"width": 3, "head": HeadSpec(hidden=(7,), dropout=(0.25,))}


def test_the_contract_states_the_options_that_the_builder_applied(tmp_path):
    from blemish.model_file import Fingerprints
    from blemish.structures import Dataset, Labels
    from blemish.training.data_setup import TrainingData
    from blemish.training.network_setup import draft_contract, prepare_network

    dataset = Dataset(task=Task.CLASSIFICATION, labels=Labels(("a", "b")), samples=(), root=tmp_path)
    data = TrainingData(dataset, (), (), Fingerprints.none())
    chosen = recipe("outside-net")
    network = prepare_network(chosen, data, ())
    contract = draft_contract(chosen, network, data)
    (spec,) = contract.inputs
    assert (spec.resize, spec.white_level, spec.mean) == ("shortest", 4095, IMAGENET_MEAN)


def test_prepare_network_draws_what_a_weights_file_changes_from_the_seed(tmp_path, monkeypatch):
    """Such as the branch for labels of a YOLO, which gets the width that it has in the file."""
    import torch

    from blemish.model_file import Fingerprints
    from blemish.structures import Dataset, Labels
    from blemish.training import network_setup
    from blemish.training.data_setup import TrainingData

    drawn = []

    def load_weights(*_):
        drawn.append(float(torch.rand(())))
        return []

    monkeypatch.setattr(network_setup, "load_weights", load_weights)
    dataset = Dataset(task=Task.CLASSIFICATION, labels=Labels(("a", "b")), samples=(), root=tmp_path)
    data = TrainingData(dataset, (), (), Fingerprints.none())
    chosen = recipe("outside-net")
    for state, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(state)
        network_setup.prepare_network(chosen.changed({"training.seed": seed}), data, ())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("settings", "option", "key"),
    [
        ({"data.white_level": 4095}, "white_level", "data.white_level"),
        ({"data.normalization": "none"}, "mean", "data.normalization"),
        ({"model.resize": "letterbox"}, "resize", "model.resize"),
        ({"model.resize_to": 32}, "resize_to", "model.resize_to"),
        ({"model.head": {"hidden": [3]}}, "head", "model.head"),
        ({"model.options.depth": 3}, "depth", "model.options.depth"),
    ],
)
def test_build_network_refuses_an_option_that_the_builder_does_not_take(settings, option, key):
    plain = Recipe.of({"model": {"name": "outside-plain", "input_size": 8}})
    assert build_network(plain, task=Task.CLASSIFICATION, label_count=2).inputs[0].size_hw == (8, 8)
    with raises("bad-recipe.unknown-option", "outside-plain", repr(option), key):
        build_network(plain.changed(settings), task=Task.CLASSIFICATION, label_count=2)
    with raises("bad-recipe.unknown-option", "outside-plain", repr(option), key):
        check_architecture(plain.changed(settings))


def test_build_network_accepts_a_recipe_as_a_run_saves_it():
    """Defaults that are written out are not options of the architecture."""
    import yaml

    saved = Recipe.of(yaml.safe_load(Recipe.of({"model": {"name": "outside-plain"}}).to_yaml()))
    assert architecture_options(saved).values == {}
    build_network(saved, task=Task.CLASSIFICATION, label_count=2)


def test_build_network_fills_in_the_largest_coordinate():
    chosen = Recipe.of(
        {"model": {"name": "resnet18", "input_size": 32, "options": {"box_scale": "coord_max"}}}
    )
    network = build_network(chosen, task=Task.LOCALIZATION, label_count=0, largest_coordinate=640)
    assert network.decoder.settings["coord_max"] == 640


def test_create_refuses_an_option_of_a_detectors_head():
    with raises("bad-recipe.unknown-option", "ssd300-resnet50", "'head'", "model.head"):
        build_network(
            Recipe.of({"model": {"name": "ssd300-resnet50", "head": {"hidden": [3]}}}),
            task=Task.DETECTION,
            label_count=1,
        )


def test_create_builds_an_architecture_from_outside_by_keywords(outside):
    network = create("outside-net", task="multilabel", label_count=2, input_size=8)
    assert network.inputs[0].size_hw == (8, 8)
    with raises("bad-recipe.unknown-option", "outside-net", "widht", "'width'"):
        create("outside-net", task="multilabel", label_count=2, widht=2)
    with raises("wrong-task", "outside-net", "detection", "ssd300-resnet50"):
        create("outside-net", task="detection", label_count=2)


def test_register_refuses_the_name_of_another_module(outside):
    from blemish.config.architectures import register

    with raises("duplicate-name", "resnet18", "my.net", "blemish.models.architectures.timm_backbone"):
        register("resnet18", tasks=["multilabel"], summary="", license="MIT", builder="my.net:build")
    assert describe("resnet18").extra == ""


def test_the_registry_is_read_without_torch():
    code = (
        "import sys\n"
        "from blemish.config.architectures import all_architectures, describe, families\n"
        "from blemish.config.recipe import Recipe\n"
        "from blemish.config.recipe_options import check_architecture\n"
        "assert len(list(all_architectures())) > 50 and families()\n"
        "check_architecture(Recipe.of({'model': {'name': 'timm/convnext_tiny', 'input_size': 64}}))\n"
        "from blemish.models import register\n"
        "assert describe('yolo11n').extra == 'yolo'\n"
        "assert not {'torch', 'timm', 'torchvision'} & set(sys.modules)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


def test_models_names_no_function_like_a_subpackage():
    """Importing the subpackage `architectures` replaces an attribute of that name in `blemish.models`."""
    import blemish.models
    import blemish.models.architectures

    names = {module.name for module in pkgutil.iter_modules(blemish.models.__path__)}
    assert not names & set(blemish.models.__all__)
