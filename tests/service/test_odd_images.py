"""Images of unusual kinds over HTTP: the right answer, a warning, or a refusal with the right words."""

import io

import numpy as np
import pytest
from PIL import Image

COLOR = (200, 40, 30)


def encode(mode, kind, size=(40, 30), **options):
    with io.BytesIO() as buffer:
        Image.new("RGB", size, COLOR).convert(mode).save(buffer, kind, **options)
        return buffer.getvalue()


def predict(client, data):
    return client.post("/api/v1/predict", files={"image": ("a.jpg", data)})


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_has_the_colors_of_rgb(client, kind):
    answer = predict(client, encode("CMYK", kind)).json()
    linked = client.get(answer["links"]["image"]).content
    pixel = np.asarray(Image.open(io.BytesIO(linked)).convert("RGB"))[15, 20]
    assert np.abs(pixel.astype(int) - COLOR).max() <= 3
    rgb = predict(client, encode("RGB", kind)).json()
    for ours, expected in zip(answer["labels"], rgb["labels"], strict=True):
        assert ours["score"] == pytest.approx(expected["score"], abs=0.02)


@pytest.mark.parametrize("size", [(40, 30), (10_000, 10_000)])
def test_gif_is_refused_by_name(client, size):
    answer = predict(client, encode("P", "GIF", size))
    assert (answer.status_code, answer.json()["code"]) == (415, "image-undecodable.unsupported-format")
    assert "GIF" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_100_megapixels_are_refused(client, kind):
    answer = predict(client, encode("L", kind, (10_000, 10_000)))
    assert (answer.status_code, answer.json()["code"]) == (422, "image-too-large.max-pixels")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("left_out", [2, 10, 1000, 10_000])
def test_jpeg_without_its_end_is_refused(client, progressive, left_out):
    with io.BytesIO() as buffer:
        Image.effect_noise((160, 120), 80).save(buffer, "JPEG", quality=95, progressive=progressive)
        data = buffer.getvalue()
    assert len(data) > left_out + 500
    answer = predict(client, data[:-left_out])
    assert (answer.status_code, answer.json()["code"]) == (422, "image-truncated")


def test_unsupported_pixels_are_not_called_damaged(client):
    for data, word in ((encode("LAB", "TIFF"), "LAB"), (encode("F", "TIFF"), "floating-point")):
        answer = predict(client, data)
        assert (answer.status_code, answer.json()["code"]) == (422, "image-undecodable.pixel-type")
        assert word in answer.json()["detail"]


@pytest.mark.parametrize(("kind", "warned"), [("WEBP", True), ("PNG", True), ("MPO", False)])
def test_several_frames_are_a_warning(client, kind, warned):
    more = [Image.new("RGB", (40, 30), (0, 0, level)) for level in (90, 180)]
    answer = predict(client, encode("RGB", kind, save_all=True, append_images=more)).json()
    assert [("3" in text) for text in answer["warnings"]] == [True] * warned
    assert predict(client, encode("RGB", "PNG")).json()["warnings"] == []


def test_empty_file_is_not_called_damaged(client):
    answer = predict(client, b"")
    assert answer.json()["code"] == "bad-image.empty-file"
    assert "0 bytes" in answer.json()["detail"]
