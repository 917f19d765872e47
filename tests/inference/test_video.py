import struct
import sys

import numpy as np
import pytest
from PIL import Image

from blemish.errors import BadImage, ImageTooLarge
from blemish.imaging import Limits, LoadedImage
from blemish.inference import load
from blemish.inference.inputs import ImageInput
from blemish.inference.video import VideoWriter, read_frames
from blemish.testing import raises

av = pytest.importorskip("av")


def image_of(frame: ImageInput) -> LoadedImage:
    """Return the decoded image of a frame of a video."""
    assert isinstance(frame.content, LoadedImage)
    return frame.content


def frame_image(number, size_wh=(64, 48)):
    """Return a gray image of a level that depends on `number`, with a bright corner at the top left."""
    pixels = np.full((size_wh[1], size_wh[0], 3), 40 + 10 * number, np.uint8)
    pixels[:16, :16] = 255
    return Image.fromarray(pixels)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "video.mp4"
    with VideoWriter(path) as writer:
        for i in range(10):
            writer.write(frame_image(i), i / 5)
    return path


def test_read_frames_returns_what_was_written(video):
    found = list(read_frames(video))
    assert [f.frame_index for f in found] == list(range(10))
    assert [f.time_seconds for f in found] == pytest.approx([i / 5 for i in range(10)], abs=0.002)
    for i, frame in enumerate(found):
        assert frame.error is None
        assert image_of(frame).size_hw == (48, 64)
        assert image_of(frame).pixels[30:, 30:].mean() == pytest.approx(40 + 10 * i, abs=4)
        assert image_of(frame).pixels[2:12, 2:12].mean() > 230


def test_read_frames_step(video):
    assert [f.frame_index for f in read_frames(video, step=3)] == [0, 3, 6, 9]
    with raises("bad-input.frame-step", "got 0"):
        read_frames(video, step=0)


def test_video_writer_odd_size(tmp_path):
    path = tmp_path / "odd.mp4"
    with VideoWriter(path) as writer:
        writer.write(frame_image(3, (63, 47)), 0)
    (found,) = read_frames(path)
    assert image_of(found).size_hw == (48, 64)


def test_video_writer_keeps_size_of_first_image(tmp_path):
    path = tmp_path / "video.mp4"
    with VideoWriter(path) as writer:
        for i, size in enumerate(((64, 48), (128, 96), (48, 64))):
            writer.write(frame_image(i, size), i / 5)
    assert [image_of(f).size_hw for f in read_frames(path)] == [(48, 64)] * 3


@pytest.mark.parametrize(("turned", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_read_frames_rotated_video_is_upright(video, turned, corner):
    """The display matrix of the track, in degrees clockwise, is written into the file by hand."""
    data = bytearray(video.read_bytes())
    at = data.index(b"tkhd")
    matrix = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[turned]
    a, b, c, d = (x << 16 for x in matrix)
    data[at + 44 : at + 80] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    video.write_bytes(bytes(data))
    frame = next(read_frames(video))
    assert image_of(frame).size_hw == ((48, 64) if turned == 180 else (64, 48))
    rows = slice(2, 12) if corner[0] == 0 else slice(-12, -2)
    columns = slice(2, 12) if corner[1] == 0 else slice(-12, -2)
    assert image_of(frame).pixels[rows, columns].mean() > 230


def test_read_frames_truncated_mp4(video):
    whole = video.read_bytes()
    # Without the index at its end, no frame of an MP4 can be found.
    video.write_bytes(whole[: len(whole) // 2])
    (found,) = read_frames(video)
    assert found.content is None
    assert isinstance(found.error, BadImage)
    assert "video.mp4" in str(found.error)


def test_read_frames_truncated_avi_returns_its_beginning(tmp_path):
    path = tmp_path / "video.avi"
    rng = np.random.default_rng(0)
    with VideoWriter(path) as writer:
        for i in range(20):
            writer.write(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), i / 10)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = list(read_frames(path))
    assert 1 < len(found) < 20
    assert found[0].content is not None


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x00\x00\x00\x18ftypmp42" + bytes(50)])
def test_read_frames_not_a_video(tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    (found,) = read_frames(path)
    assert isinstance(found.error, BadImage)
    assert str(path) in str(found.error)
    (missing,) = read_frames(tmp_path / "gone.mp4")
    assert missing.error.code == "bad-image.not-found"


def test_read_frames_over_pixel_limit(video):
    (found,) = read_frames(video, Limits(max_pixels=1000))
    assert isinstance(found.error, ImageTooLarge)


def test_read_frames_audio_only(tmp_path):
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    (found,) = read_frames(path)
    assert found.error.code == "bad-image.no-video-stream"


def test_stream_of_video_frames(video, tiny, tmp_path):
    predictor = load(tiny.write_scores_model(tmp_path / "m.onnx").path)
    results = list(predictor.stream(read_frames(video), 3))
    assert [r.input.frame_index for r in results] == list(range(10))
    assert all(r.prediction.path == video for r in results)
    video.write_bytes(b"broken")
    (result,) = predictor.stream(read_frames(video))
    assert isinstance(result.error, BadImage)


def test_video_writer_error_keeps_earlier_video(video, monkeypatch):
    before = video.read_bytes()
    with pytest.raises(RuntimeError), VideoWriter(video) as writer:
        writer.write(frame_image(0), 0)
        raise RuntimeError
    assert video.read_bytes() == before
    assert [p.name for p in video.parent.iterdir()] == ["video.mp4"]
    (video.parent / "file").write_text("")
    with raises("storage-full", "video.mp4"), VideoWriter(video.parent / "file" / "video.mp4") as writer:
        writer.write(frame_image(0), 0)


def test_read_frames_without_extra(video, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with raises("missing-extra", "video"):
        read_frames(video)


def with_matrix(video, a, b, c, d):
    """Write a display matrix into the track of a video by hand."""
    data = bytearray(video.read_bytes())
    at = data.index(b"tkhd")
    values = (round(v * 65536) for v in (a, b, c, d))
    a, b, c, d = values
    data[at + 44 : at + 80] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    video.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((1, 0, 0, -1), (-1, 0)),  # upside down
        ((-1, 0, 0, 1), (0, -1)),  # left and right exchanged
        ((0, 1, 1, 0), (0, 0)),  # transposed
        ((0, -1, -1, 0), (-1, -1)),  # transposed along the other diagonal
    ],
)
def test_read_frames_mirrored_video_is_mirrored(video, matrix, corner):
    with_matrix(video, *matrix)
    frame = next(read_frames(video))
    assert image_of(frame).size_hw == ((48, 64) if matrix[0] else (64, 48))
    rows = slice(2, 12) if corner[0] == 0 else slice(-12, -2)
    columns = slice(2, 12) if corner[1] == 0 else slice(-12, -2)
    pixels = image_of(frame).pixels
    assert pixels[rows, columns].mean() > 230
    assert (
        sum(
            pixels[r, c].mean() > 230
            for r in (slice(2, 12), slice(-12, -2))
            for c in (slice(2, 12), slice(-12, -2))
        )
        == 1
    )


def test_read_frames_refuses_an_oblique_display_matrix(video):
    with_matrix(video, 0.7071, 0.7071, -0.7071, 0.7071)
    frame = next(read_frames(video))
    assert frame.error.code == "bad-image.display-matrix"


LUMA = {
    "bt601": (5, 0.299, 0.114),
    "bt709": (1, 0.2126, 0.0722),
    "bt2020": (9, 0.2627, 0.0593),
}  # tag, Kr, Kb
COLOR = (200, 40, 90)


def components(matrix, *, full):
    """Return Y, Cb and Cr of COLOR in 8 bits, by ITU-T H.273, equations 32 to 40."""
    _, kr, kb = LUMA[matrix]
    red, green, blue = (v / 255 for v in COLOR)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    if full:
        return [round(255 * luma), round(255 * cb + 128), round(255 * cr + 128)]
    return [round(16 + 219 * luma), round(128 + 224 * cb), round(128 + 224 * cr)]


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", LUMA)
def test_read_frames_follows_color_matrix_and_range(matrix, full, tmp_path):
    path = tmp_path / "color.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=5)  # lossless
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace = LUMA[matrix][0]
        stream.codec_context.color_range = 2 if full else 1
        frame = av.VideoFrame(64, 48, "yuv420p")
        for plane, value in zip(frame.planes, components(matrix, full=full), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts, frame.colorspace, frame.color_range = 0, LUMA[matrix][0], 2 if full else 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    pixels = image_of(next(read_frames(path))).pixels
    assert np.abs(pixels.astype(int) - COLOR).max() <= 3
