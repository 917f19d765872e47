"""Cached features of a frozen backbone: the head is trained to the same weights."""

import torch
from safetensors.torch import load_file

from blemish.models import create
from blemish.testing import raises
from blemish.training.run import train


def same(first, second):
    return all(torch.equal(first[k], second[k]) for k in first)


def weights_of(run):
    return load_file(run.path / "weights.safetensors")


FROZEN = {"model__trainable": [], "training__epochs": 3}


def test_cached_features_train_the_same_head(recipe, tmp_path, monkeypatch):
    slow = train(recipe(**FROZEN, training__feature_cache="off"), output=tmp_path / "slow", device="cpu")
    quick = train(recipe(**FROZEN), output=tmp_path / "quick", device="cpu")
    assert [r["macro_f1"] for r in slow.history] == [r["macro_f1"] for r in quick.history]
    first, second = weights_of(slow), weights_of(quick)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)
    assert not same(
        {"w": first["head.1.weight"]},
        {
            "w": weights_of(train(recipe(**FROZEN, training__seed=5), output=tmp_path / "c", device="cpu"))[
                "head.1.weight"
            ]
        },
    )


def test_can_cache_features_only_if_they_do_not_change(recipe, tmp_path):
    for changes in (
        {"augmentation__horizontal_flip": 0.5},
        {"augmentation__mixup": 0.2},
        {"model__trainable": ["layer4"]},
    ):
        from blemish.training.feature_cache import can_cache_features
        from blemish.training.optimizers import freeze

        chosen = recipe(**{**FROZEN, **changes})
        network = create("timm/test_resnet", task="classification", label_count=2, input_size=32)
        freeze(network, chosen.model.trainable)
        assert not can_cache_features(network, chosen)
    with raises("bad-recipe.feature-cache", "training.feature_cache", "model.trainable"):
        train(recipe(training__feature_cache="on"), output=tmp_path / "run", device="cpu")
