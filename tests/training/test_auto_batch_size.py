"""`batch_size: auto`, memory formats and mixed precision."""

from typing import Any

import numpy as np
import torch

from blemish.models import create
from blemish.training.auto_batch_size import bytes_per_image, find_batch_size
from blemish.training.run import train


def test_auto_batch_size_is_written_to_the_recipe(recipe, tmp_path):
    run = train(
        recipe(training__batch_size="auto", training__epochs=1), output=tmp_path / "run", device="cpu"
    )
    text = (run.path / "recipe.yaml").read_text()
    assert "batch_size: 8" in text  # 14 training images: the largest power of two below


def test_bytes_per_image_grows_with_the_area():
    small = create("resnet18", task="classification", label_count=2, input_size=64)
    large = create("resnet18", task="classification", label_count=2, input_size=128)
    assert 3.5 < bytes_per_image(large) / bytes_per_image(small) < 4.5
    assert find_batch_size(large, torch.device("cpu"), 10**6) <= 64


def test_channels_last_and_bf16_train(recipe, tmp_path):
    options: list[dict[str, Any]] = [
        {"training__channels_last": True},
        {"training__precision": "bf16", "training__channels_last": True},
        {"training__precision": "bf16", "training__gradient_clip_val": 1.0},
    ]
    for i, changes in enumerate(options):
        run = train(recipe(**changes, training__epochs=1), output=tmp_path / str(i), device="cpu")
        assert np.isfinite(run.history[0]["val_loss"])
