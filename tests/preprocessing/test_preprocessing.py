import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from blemish.imaging import LoadedImage
from blemish.model_file import InputSpec
from blemish.preprocessing import Placement, normalize, place, prepare, resize
from blemish.testing import raises


def wave_image(size_hw, seed=0):
    """Return a smooth color image, so that resizing preserves its content."""
    height, width = size_hw
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(seed)
    waves = [128 + 120 * np.sin(x * a + y * b) for a, b in rng.uniform(0.01, 0.3, (3, 2))]
    return LoadedImage(np.stack(waves, 2).astype(np.uint8))


SPECS = {
    "stretch": InputSpec(size_hw=(48, 64)),
    "letterbox": InputSpec(size_hw=(64, 64), resize="letterbox"),
    "letterbox-corner": InputSpec(size_hw=(64, 48), resize="letterbox", letterbox_align="corner"),
    "shortest": InputSpec(size_hw=(56, 56), resize="shortest", resize_to=64),
    "shortest-padded": InputSpec(size_hw=(80, 72), resize="shortest", resize_to=64),
}
SIZES = [(33, 80), (80, 33), (64, 64), (200, 301), (1, 1), (1, 90), (7, 500)]


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("size_hw", SIZES, ids=str)
def test_placement_round_trip(spec, size_hw):
    _, placement = prepare(wave_image(size_hw), spec)
    rng = np.random.default_rng(1)
    boxes = rng.uniform(0, 1, (20, 4)) * np.tile(size_hw[::-1], 2)
    assert np.allclose(placement.to_image(placement.to_network(boxes)), boxes, rtol=1e-12, atol=1e-9)
    assert placement.size_hw == size_hw
    assert placement.input_hw == spec.size_hw


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("size_hw", [(400, 300), (300, 420)], ids=str)
def test_resize_moves_pixels_as_placement_moves_boxes(spec, size_hw):
    """Pixels and coordinates move together: a bright square is inside its transformed box."""
    pixels = np.zeros((*size_hw, 3), np.uint8)
    box = np.array([[140, 150, 180, 190]])
    pixels[150:190, 140:180] = 255
    small, placement = resize(LoadedImage(pixels), InputSpec(**{**spec.model_dump(), "pad_value": 0}))
    mass = small[..., 0].astype(float)
    center_y, center_x = np.average(np.indices(mass.shape).reshape(2, -1) + 0.5, axis=1, weights=mass.ravel())
    left, top, right, bottom = placement.to_network(box)[0]
    assert center_x == pytest.approx((left + right) / 2, abs=0.05)
    assert center_y == pytest.approx((top + bottom) / 2, abs=0.05)
    assert mass.sum() / 255 == pytest.approx((right - left) * (bottom - top), rel=0.03)


@pytest.mark.parametrize("size_hw", [(97, 61), (300, 200), (10, 12)], ids=str)
@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos", "box"])
def test_resize_stretch_equals_pillow(size_hw, name):
    image = wave_image(size_hw)
    small, _ = resize(image, InputSpec(size_hw=(32, 40), interpolation=name))
    kind = getattr(Image.Resampling, name.upper())
    assert (small == np.asarray(Image.fromarray(image.pixels).resize((40, 32), kind))).all()


@pytest.mark.parametrize(
    "size_hw", [(333, 500), (500, 333), (97, 2000), (50, 60), (1, 1), (224, 224)], ids=str
)
@pytest.mark.parametrize(
    ("resize_to", "side"), [(256, 224), (64, 64), (224, 224), (32, 64), (33, 64), (30, 65), (31, 64)]
)
def test_resize_shortest_equals_torchvision(size_hw, resize_to, side):
    transforms = pytest.importorskip("torchvision.transforms")
    image = wave_image(size_hw)
    spec = InputSpec(size_hw=(side, side), resize="shortest", resize_to=resize_to, pad_value=0)
    small, _ = resize(image, spec)
    both = transforms.Compose([transforms.Resize(resize_to), transforms.CenterCrop(side)])
    theirs = np.asarray(both(Image.fromarray(image.pixels)))
    # Only the part under the crop is computed here; rounding may differ by one level of 255.
    assert np.abs(small.astype(int) - theirs).max() <= 1


def test_resize_letterbox_keeps_aspect_ratio_and_pads():
    small, placement = resize(wave_image((50, 100)), InputSpec(size_hw=(64, 64), resize="letterbox"))
    assert placement.scale_xy == (0.64, 0.64)
    assert placement.offset_xy == (0.0, 16.0)
    assert (small[:16] == 114).all()
    assert (small[48:] == 114).all()
    assert not (small[16:48] == 114).all((1, 2)).any()


def test_resize_letterbox_corner_alignment():
    spec = InputSpec(size_hw=(64, 64), resize="letterbox", letterbox_align="corner")
    small, placement = resize(wave_image((100, 50)), spec)
    assert placement.offset_xy == (0.0, 0.0)
    assert (small[:, 32:] == 114).all()


def test_resize_shortest_long_strip_needs_little_memory():
    """Shorter side 1 to 256 px would be 30,000 x 256 x 256 pixels, if all of it were computed."""
    image = LoadedImage(np.zeros((1, 30_000, 3), np.uint8))
    small, _ = resize(image, InputSpec(size_hw=(224, 224), resize="shortest", resize_to=256))
    assert small.shape == (224, 224, 3)


def test_resize_keeps_16_bits():
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    small, _ = resize(LoadedImage(ramp), InputSpec(size_hw=(64, 64)))
    assert small.dtype == np.float32
    assert small.shape == (64, 64, 3)
    assert np.abs(small[..., 1] - ramp / 65535).max() < 1e-6
    assert len(np.unique(small)) > 4000


def test_resize_white_level():
    image = LoadedImage(np.array([[0, 2048, 4095, 65535]], np.uint16))
    small, _ = resize(image, InputSpec(size_hw=(1, 4), white_level=4095))
    assert small[0, :, 0] == pytest.approx([0, 2048 / 4095, 1, 1])


def test_resize_clips_overshoot_of_bicubic():
    edge = np.zeros((20, 20), np.uint16)
    edge[:, 10:] = 65535
    small, _ = resize(LoadedImage(edge), InputSpec(size_hw=(64, 64), interpolation="bicubic"))
    assert small.min() == 0.0
    assert small.max() == 1.0


def test_prepare_8_and_16_bits_agree():
    gray = np.asarray(wave_image((60, 90)).pixels[..., 0])
    eight = LoadedImage(np.repeat(gray[..., None], 3, 2))
    sixteen = LoadedImage(gray.astype(np.uint16) * 257)
    spec = InputSpec(size_hw=(32, 32))
    first, _ = prepare(eight, spec)
    second, _ = prepare(sixteen, spec)
    # Pillow rounds to a level of 255 after each of its two passes in 8 bits.
    assert np.abs(first - second).max() < 1.5 / 255 / 0.224


def test_normalize_equals_definition():
    spec = InputSpec(size_hw=(5, 7))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    out = normalize(pixels, spec)
    mean, std = np.array(spec.mean), np.array(spec.std)
    expected = ((pixels.astype(np.float64) / 255 - mean) / std).transpose(2, 0, 1)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    assert np.abs(out - expected).max() < 1e-6
    as_float = normalize((pixels / 255).astype(np.float32), spec)
    assert np.abs(as_float - expected).max() < 1e-6


def test_normalize_byte_scale():
    spec = InputSpec(size_hw=(2, 2), scale="byte", mean=(10, 20, 30), std=(1, 2, 4))
    pixels = np.full((2, 2, 3), 130, np.uint8)
    assert normalize(pixels, spec)[:, 0, 0].tolist() == [120, 55, 25]
    assert normalize(np.full((2, 2, 3), 130 / 255, np.float32), spec)[:, 0, 0] == pytest.approx([120, 55, 25])


def test_prepare_one_channel_is_luma():
    spec = InputSpec(size_hw=(4, 4), channels=1, mean=(0,), std=(1,))
    out, _ = prepare(LoadedImage(np.full((4, 4, 3), (255, 0, 0), np.uint8)), spec)
    assert out.shape == (1, 4, 4)
    assert out[0, 0, 0] == pytest.approx(0.299, abs=0.003)
    out, _ = prepare(LoadedImage(np.full((4, 4), 65535, np.uint16)), spec)
    assert out.shape == (1, 4, 4)
    assert (out == 1).all()


def test_resize_crop_placement_is_in_whole_image():
    image = wave_image((100, 200))
    part, placement = resize(image, InputSpec(size_hw=(40, 40)), (50, 20, 90, 60))
    assert (part == image.pixels[20:60, 50:90]).all()
    assert placement.to_network(np.array([[50, 20, 90, 60]])).tolist() == [[0, 0, 40, 40]]
    assert placement.to_image(np.array([[0, 0, 40, 40]])).tolist() == [[50, 20, 90, 60]]


def test_resize_shortest_crop_replaces_center_crop():
    spec = SPECS["shortest"]
    _, placement = resize(wave_image((100, 200)), spec, (10, 20, 110, 70))
    assert placement.to_network(np.array([[10, 20, 110, 70]])) == pytest.approx(np.array([[0, 0, 56, 56]]))


@pytest.mark.parametrize("crop", [(-1, 0, 10, 10), (0, 0, 0, 10), (5, 5, 4, 9), (0, 0, 10, 101)])
def test_resize_refuses_crop_outside_image(crop):
    with raises("bad-input.crop-outside-image", "100 x 100"):
        resize(wave_image((100, 100)), SPECS["stretch"], crop)


def test_placement_no_boxes():
    placement = Placement((10, 10), (5, 5), (0.5, 0.5), (0.0, 0.0))
    assert placement.to_network(np.zeros((0, 4))).shape == (0, 4)
    assert placement.to_image(np.zeros((0, 4))).shape == (0, 4)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    kind=st.sampled_from(["stretch", "letterbox", "shortest"]),
    resize_to=st.integers(1, 40),
    deep=st.booleans(),
)
def test_prepare_any_image_any_input(height, width, size, kind, resize_to, deep):
    pixels = np.zeros((height, width), np.uint16) if deep else np.zeros((height, width, 3), np.uint8)
    spec = InputSpec(size_hw=size, resize=kind, resize_to=resize_to)
    out, placement = prepare(LoadedImage(pixels), spec)
    assert out.shape == (3, *size)
    assert np.isfinite(out).all()
    assert min(placement.scale_xy) > 0


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("size_hw", SIZES, ids=str)
def test_place_equals_placement_of_resize(spec, size_hw):
    assert place(size_hw, spec) == resize(wave_image(size_hw), spec)[1]


@pytest.mark.parametrize(
    ("size_hw", "spec", "box"),
    [
        # 51 x 0.64 = 32.64 becomes 33 pixels; of 31 pixels of padding, 15 are on the left or above.
        ((100, 51), {}, (15, 0, 48, 64)),
        ((51, 100), {}, (0, 15, 64, 48)),
        ((100, 51), {"letterbox_align": "corner"}, (0, 0, 33, 64)),
        # 49 x 0.64 = 31.36 becomes 31 pixels; of 33 pixels of padding, 16 are on the left or above.
        ((100, 49), {}, (16, 0, 47, 64)),
        ((49, 100), {}, (0, 16, 64, 47)),
        ((100, 100), {"size_hw": (64, 37)}, (0, 13, 37, 50)),
        ((100, 100), {"size_hw": (37, 64)}, (13, 0, 50, 37)),
    ],
)
def test_resize_letterbox_odd_padding(size_hw, spec, box):
    white = LoadedImage(np.full((*size_hw, 3), 255, np.uint8))
    spec = InputSpec(**{"size_hw": (64, 64), "resize": "letterbox", "pad_value": 0, **spec})
    small, placement = resize(white, spec)
    expected = np.zeros(spec.size_hw, np.uint8)
    expected[box[1] : box[3], box[0] : box[2]] = 255
    assert (small == expected[..., None]).all()
    corners = np.array([[0, 0, size_hw[1], size_hw[0]]])
    assert placement.to_network(corners) == pytest.approx(np.array([box]))


def test_resize_shortest_default_is_shorter_side_of_input():
    for size_hw in ((40, 60), (60, 40)):
        _, placement = resize(wave_image((100, 200)), InputSpec(size_hw=size_hw, resize="shortest"))
        assert placement.scale_xy == (0.4, 0.4)


def test_resize_padding_of_16_bits_equals_padding_of_8_bits():
    image = LoadedImage(np.zeros((10, 20), np.uint16))
    small, _ = resize(image, InputSpec(size_hw=(20, 20), resize="letterbox", pad_value=51))
    assert small[0, 0].tolist() == [np.float32(0.2)] * 3


@pytest.mark.parametrize("crop", [(0, 0, 101, 50), (0, 0, 100, 51), (90, 40, 100, 60)])
def test_resize_refuses_crop_outside_landscape_and_portrait(crop):
    with raises("bad-input.crop-outside-image", "100 x 50"):
        resize(wave_image((50, 100)), SPECS["stretch"], crop)
    with raises("bad-input.crop-outside-image", "50 x 100"):
        resize(wave_image((100, 50)), SPECS["stretch"], (crop[1], crop[0], crop[3], crop[2]))
    resize(wave_image((50, 100)), SPECS["stretch"], (0, 0, 100, 50))


def test_resize_crop_placement_of_different_scales():
    _, placement = resize(wave_image((100, 200)), InputSpec(size_hw=(40, 40)), (50, 20, 90, 40))
    assert placement.to_network(np.array([[50, 20, 90, 40]])).tolist() == [[0, 0, 40, 40]]


@pytest.mark.parametrize("crop", [(30, 20, 90, 50), (30, 20, 50, 90), (7, 11, 100, 31)])
@pytest.mark.parametrize("how", [{"resize": "stretch"}, {"resize": "letterbox"},
                                 {"resize": "letterbox", "letterbox_align": "corner"}])  # fmt: skip
def test_resize_crop_placement_equals_that_of_the_cut_image(crop, how):
    spec = InputSpec(size_hw=(48, 64), **how)
    left, top, right, bottom = crop
    _, placement = resize(wave_image((100, 120)), spec, crop)
    alone = place((bottom - top, right - left), spec)
    assert placement.scale_xy == pytest.approx(alone.scale_xy)
    moved = np.subtract(alone.offset_xy, np.multiply((left, top), alone.scale_xy))
    assert placement.offset_xy == pytest.approx(moved)
    assert placement.size_hw == (100, 120)


@pytest.mark.parametrize("size_hw", [(30, 40), (97, 61), (640, 480), (1500, 2000)], ids=str)
@pytest.mark.parametrize("input_hw", [(64, 64), (48, 91)], ids=str)
def test_linear_plain_is_opencvs_linear_filter(size_hw, input_hw):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is the reference")
    pixels = np.random.default_rng(2).integers(0, 256, (*size_hw, 3), np.uint8)
    spec = InputSpec(size_hw=input_hw, interpolation="linear-plain")
    theirs = cv2.resize(pixels, input_hw[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resize(LoadedImage(pixels), spec)[0], theirs)


@pytest.mark.parametrize("channels", [1, 3])
def test_linear_plain_samples_the_four_nearest_pixels(channels):
    scipy = pytest.importorskip("scipy.ndimage", reason="an independent linear interpolation")
    levels = np.random.default_rng(3).integers(0, 65536, (70, 50), np.uint16)
    spec = InputSpec(
        size_hw=(23, 31),
        interpolation="linear-plain",
        channels=channels,
        mean=(0,) * channels,
        std=(1,) * channels,
    )
    crop = (4.5, 10.25, 40, 61)
    ours = resize(LoadedImage(levels), spec, crop)[0]
    y = 10.25 + (np.arange(23) + 0.5) * (61 - 10.25) / 23 - 0.5
    x = 4.5 + (np.arange(31) + 0.5) * (40 - 4.5) / 31 - 0.5
    expected = scipy.map_coordinates(
        levels / 65535, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest"
    )
    assert ours.shape == (23, 31, channels)
    assert np.allclose(ours, expected[..., None], atol=1e-5)


def test_linear_plain_gray_of_8_bits_keeps_a_letterbox():
    spec = InputSpec(
        size_hw=(32, 32), resize="letterbox", interpolation="linear-plain", channels=1, mean=(0,), std=(1,)
    )
    pixels, _ = resize(LoadedImage(np.full((40, 80, 3), 200, np.uint8)), spec)
    assert pixels.dtype == np.uint8
    assert np.all(pixels[:8] == 114)
    assert np.all(pixels[8:24] == 200)
