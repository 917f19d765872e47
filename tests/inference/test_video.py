import struct
import sys

import numpy as np
import pytest
from PIL import Image

from blemish.errors import BadImage, BadInput, ImageTooLarge, MissingExtra, StorageFull
from blemish.imaging import Limits
from blemish.inference import load
from blemish.inference.video import VideoWriter, frames

av = pytest.importorskip("av")


def picture(number, size_wh=(64, 48)):
    """Grey that says its number, and a bright corner that says how it is turned."""
    pixels = np.full((size_wh[1], size_wh[0], 3), 40 + 10 * number, np.uint8)
    pixels[:16, :16] = 255
    return Image.fromarray(pixels)


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mp4"
    with VideoWriter(path) as writer:
        for i in range(10):
            writer.write(picture(i), i / 5)
    return path


def test_what_was_written_is_read_back_in_order_and_on_time(film):
    found = list(frames(film))
    assert [f.index for f in found] == list(range(10))
    assert [f.time_seconds for f in found] == pytest.approx([i / 5 for i in range(10)], abs=0.002)
    for i, frame in enumerate(found):
        assert frame.error is None
        assert frame.image.size_hw == (48, 64)
        assert frame.image.pixels[30:, 30:].mean() == pytest.approx(40 + 10 * i, abs=4)
        assert frame.image.pixels[2:12, 2:12].mean() > 230


def test_every_third_frame(film):
    assert [f.index for f in frames(film, step=3)] == [0, 3, 6, 9]
    with pytest.raises(BadInput):
        frames(film, step=0)


def test_odd_sizes_are_written_too(tmp_path):
    path = tmp_path / "odd.mp4"
    with VideoWriter(path) as writer:
        writer.write(picture(3, (63, 47)), 0)
    (found,) = frames(path)
    assert found.image.size_hw == (48, 64)


def test_a_film_that_changes_its_size_keeps_that_of_its_first_picture(tmp_path):
    path = tmp_path / "film.mp4"
    with VideoWriter(path) as writer:
        for i, size in enumerate(((64, 48), (128, 96), (48, 64))):
            writer.write(picture(i, size), i / 5)
    assert [f.image.size_hw for f in frames(path)] == [(48, 64)] * 3


@pytest.mark.parametrize(("turned", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_films_of_turned_telephones_are_upright(film, turned, corner):
    """The track's display matrix is written into the file by hand: degrees clockwise."""
    data = bytearray(film.read_bytes())
    at = data.index(b"tkhd")
    matrix = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[turned]
    a, b, c, d = (x << 16 for x in matrix)
    data[at + 44 : at + 80] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    film.write_bytes(bytes(data))
    frame = next(frames(film))
    assert frame.image.size_hw == ((48, 64) if turned == 180 else (64, 48))
    rows = slice(2, 12) if corner[0] == 0 else slice(-12, -2)
    columns = slice(2, 12) if corner[1] == 0 else slice(-12, -2)
    assert frame.image.pixels[rows, columns].mean() > 230


def test_a_film_that_breaks_off_gives_what_it_has_and_says_so(film):
    whole = film.read_bytes()
    # Without its index at the end an MP4 holds nothing that can be found.
    film.write_bytes(whole[: len(whole) // 2])
    (found,) = frames(film)
    assert found.image is None
    assert isinstance(found.error, BadImage)
    assert "film.mp4" in str(found.error)


def test_a_film_damaged_in_the_middle_gives_its_beginning(tmp_path):
    path = tmp_path / "film.avi"
    rng = np.random.default_rng(0)
    with VideoWriter(path) as writer:
        for i in range(20):
            writer.write(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), i / 10)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = list(frames(path))
    assert 1 < len(found) < 20
    assert found[0].image is not None


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x00\x00\x00\x18ftypmp42" + bytes(50)])
def test_what_is_no_film_is_named(tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    (found,) = frames(path)
    assert isinstance(found.error, BadImage)
    assert str(path) in str(found.error)
    (missing,) = frames(tmp_path / "gone.mp4")
    assert "no such file" in str(missing.error)


def test_frames_over_the_limit_are_refused_before_decoding(film):
    (found,) = frames(film, Limits(max_pixels=1000))
    assert isinstance(found.error, ImageTooLarge)


def test_sound_alone_is_no_film(tmp_path):
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    (found,) = frames(path)
    assert "no picture" in str(found.error)


def test_a_film_goes_through_a_predictor(film, tiny, tmp_path):
    predictor = load(tiny.write_scores_model(tmp_path / "m.onnx").path)
    outcomes = list(predictor.predict_many(frames(film), 3))
    assert [o.source.index for o in outcomes] == list(range(10))
    assert all(o.prediction.path == film for o in outcomes)
    film.write_bytes(b"broken")
    (outcome,) = predictor.predict_many(frames(film))
    assert isinstance(outcome.error, BadImage)


def test_a_writer_that_fails_leaves_nothing_and_the_earlier_film(film, monkeypatch):
    before = film.read_bytes()
    with pytest.raises(RuntimeError), VideoWriter(film) as writer:
        writer.write(picture(0), 0)
        raise RuntimeError
    assert film.read_bytes() == before
    assert [p.name for p in film.parent.iterdir()] == ["film.mp4"]
    (film.parent / "file").write_text("")
    with pytest.raises(StorageFull), VideoWriter(film.parent / "file" / "film.mp4") as writer:
        writer.write(picture(0), 0)


def test_without_the_extra_it_is_named(film, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"blemish\[video\]"):
        frames(film)
