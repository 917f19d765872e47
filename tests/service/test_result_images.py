"""Images behind links: bounded in pixels and memory before they are made, and canceled between the steps."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from blemish.inference import load
from blemish.service import result_images
from blemish.service.fair_executor import StopSignal
from blemish.service.result_images import MAX_SIDE, reduction, render
from blemish.service.result_links import ArtifactKind, LinkedResult
from blemish.service.settings import Settings
from blemish.testing import raises

KINDS: tuple[ArtifactKind, ...] = ("image", "overlay", "heatmap", "heatmap_overlay")


@pytest.fixture
def linked(model_folder, tools):
    def make(size_wh, model="resnet"):
        data = tools.image(size=size_wh)
        prediction = load(model_folder / f"{model}.onnx", threads=1).predict(data)
        return LinkedResult(data, prediction, np.full((2, 3), 200, np.uint8))

    return make


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["resnet", "yolo", "masks"])
@pytest.mark.parametrize("size_wh", [(1_000_000, 1), (1, 1_000_000), (70_000, 1), (20_000, 40)])
def test_render_reduces_an_elongated_image(linked, size_wh, model, kind):
    settings = Settings()
    result = linked(size_wh, model)
    factor = reduction(size_wh[::-1], settings)
    tracemalloc.start()
    try:
        data, media_type = render(result, kind, settings, StopSignal(600))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert media_type == ("image/jpeg" if kind == "image" else "image/png")
    image = opened(data)
    expected = tuple(-(-side // factor) for side in size_wh)
    assert max(expected) <= MAX_SIDE
    if kind == "overlay" and model == "resnet":  # bars below the image
        assert image.width == expected[0] and image.height <= expected[1] + 250
    else:
        assert image.size == expected
    assert peak < 200e6


@pytest.mark.parametrize("kind", KINDS)
def test_render_bounds_the_pixels_of_every_kind(linked, kind):
    settings = Settings(max_linked_pixels=10_000)
    result = linked((640, 480), "yolo")
    assert reduction((480, 640), settings) == 6
    assert opened(render(result, kind, settings, StopSignal(600))[0]).size == (107, 80)


def test_render_of_a_usual_image_is_not_reduced(linked):
    for kind in KINDS:
        assert opened(render(linked((64, 48), "yolo"), kind, Settings(), StopSignal(600))[0]).size == (64, 48)
    assert reduction((3024, 4032), Settings()) == 1


def test_render_draws_the_boxes_at_the_scale_of_the_reduced_image(linked, tools):
    settings = Settings(max_linked_pixels=100 * 400)
    for size_wh in ((200, 800), (800, 200)):
        result = linked(size_wh, "yolo")
        plain = np.asarray(opened(render(result, "image", settings, StopSignal(600))[0]), int)
        drawn = np.asarray(opened(render(result, "overlay", settings, StopSignal(600))[0]), int)
        changed = np.argwhere(np.abs(drawn - plain).max(2) > 60)
        x1, y1 = result.prediction.boxes_xyxy[:, :2].min(0) / 2
        x2, y2 = result.prediction.boxes_xyxy[:, 2:].max(0) / 2
        assert changed.min(0) == pytest.approx([y1, x1], abs=4)
        assert changed.max(0) == pytest.approx([y2 - 1, x2 - 1], abs=4)


@pytest.mark.parametrize("kind", KINDS)
def test_render_stops_before_it_opens_the_image(linked, kind, monkeypatch):
    monkeypatch.setattr(result_images, "open_upload", None)
    stop = StopSignal(600)
    stop.set()
    with raises("work-stopped.canceled"):
        render(linked((40, 30)), kind, Settings(), stop)


def test_render_stops_between_two_objects(linked):
    result = linked((40, 30), "yolo")
    checks = []

    class Stop(StopSignal):
        def check(self):
            checks.append(1)
            if len(checks) == 5:  # three before the first object
                self.set()
            super().check()

    with raises("work-stopped.canceled"):
        render(result, "overlay", Settings(), Stop(600))
    assert len(checks) == 5
