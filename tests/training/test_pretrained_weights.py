"""The source of pretrained weights: in the model file, `info` and the card, also after a resumed run."""

import hashlib

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from blemish.commands.info_command import summary_rows
from blemish.hub.card import model_card
from blemish.model_file import read_model_file
from blemish.models import create
from blemish.pretrained import PRETRAINED
from blemish.testing import raises
from blemish.training.callbacks import RunLogger
from blemish.training.run import train


@pytest.fixture(scope="module")
def content(lite):
    return lite.legacy_bytes(lite.published_layout(np.random.default_rng(0)))


@pytest.fixture
def lite_recipe(recipe):
    def make(**changes):
        return recipe(
            model__name="efficientnet-lite0",
            model__weights="default",
            training__epochs=1,
            model__trainable=(),
            **changes,
        )

    return make


@pytest.mark.usefixtures("exported")
def test_model_file_info_and_card_name_source_license_and_digest(
    lite, monkeypatch, tmp_path, content, lite_recipe
):
    lite.install_wheel(monkeypatch, tmp_path / "site", content)
    run = train(lite_recipe(), output=tmp_path / "run", device="cpu")
    file = read_model_file(run.model_file)
    digest, source = hashlib.sha256(content).hexdigest(), PRETRAINED["efficientnet-lite0"].source
    training = file.contract.training
    assert (training["weights"], training["weights_sha256"]) == (source, digest)
    assert "Apache-2.0" in file.contract.licenses.weights
    rows = dict(summary_rows(file))
    assert source in rows["pretrained"] and digest in rows["pretrained"]
    assert "Apache-2.0" in rows["licenses"]
    card = model_card(file, "ada/cells")
    assert source in card and digest in card and "Apache-2.0" in card


def test_resumed_run_keeps_the_source_of_its_weights(
    lite, monkeypatch, tmp_path, content, lite_recipe, contract_of
):
    file = lite.install_wheel(monkeypatch, tmp_path / "site", content)
    original = RunLogger.on_train_epoch_end

    def stop(self, trainer, module):
        original(self, trainer, module)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunLogger, "on_train_epoch_end", stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(lite_recipe().changed({"training.epochs": 2}), output=tmp_path / "run", device="cpu")
    monkeypatch.setattr(RunLogger, "on_train_epoch_end", original)
    file.unlink()
    run = train(resume=tmp_path / "run", device="cpu")
    training = contract_of(run).training
    assert training["weights_sha256"] == hashlib.sha256(content).hexdigest()
    assert training["weights"] == PRETRAINED["efficientnet-lite0"].source


def test_license_of_a_published_file_given_by_path(
    lite, monkeypatch, tmp_path, content, lite_recipe, contract_of
):
    lite.install_wheel(monkeypatch, tmp_path / "site", content)
    copy = tmp_path / "copy.pth"
    copy.write_bytes(content)
    chosen = lite_recipe().changed({"model.weights": str(copy)})
    contract = contract_of(train(chosen, output=tmp_path / "a", device="cpu"))
    assert contract.licenses.weights == "Apache-2.0"
    stated = chosen.changed({"model.weights_license": "mine"})
    assert contract_of(train(stated, output=tmp_path / "b", device="cpu")).licenses.weights == "mine"


def test_train_refuses_a_package_whose_file_differs(lite, monkeypatch, tmp_path, content, lite_recipe):
    lite.install_wheel(monkeypatch, tmp_path / "site", content[:-1] + b"x", published=content)
    with raises("bad-weights.digest", "efficientnet-lite0"):
        train(lite_recipe(), output=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "restored"),
    [({}, True), ({"training__batch_norm": "frozen"}, False), ({"model__trainable": ["layer4"]}, False)],
)
def test_training_restores_normalization_that_its_weights_have_folded(tmp_path, recipe, settings, restored):
    network = create("resnet18-scratch", task="classification", label_count=2, input_size=32)
    state = network.state_dict()
    for name in [name for name in state if name.endswith("running_var")]:
        state[name].fill_(1)
        state[name.replace("running_var", "bias")].fill_(0.25)
    save_file(state, tmp_path / "folded.safetensors")
    chosen = recipe(
        model__name="resnet18-scratch",
        model__weights=str(tmp_path / "folded.safetensors"),
        training__epochs=1,
        **settings,
        training__optimizer__learning_rate=1e-9,
    )
    run = train(chosen, output=tmp_path / "run", device="cpu")
    mean = load_file(run.path / "weights.safetensors")["backbone.bn1.running_mean"]
    assert bool((mean != 0).any()) == restored
