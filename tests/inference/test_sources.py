import io

import pytest

from blemish.imaging import PassedOver
from blemish.inference import InputKind
from blemish.inference.sources import find_inputs, find_paths, natural_key
from blemish.testing import raises


@pytest.fixture
def folder(tmp_path):
    for name in [
        "b/10.jpg",
        "b/2.JPG",
        "b/1.png",
        "a.tiff",
        "c.txt",
        ".hidden.jpg",
        ".git/x.jpg",
        "b/2.blemish.jpg",
    ]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def names(found, folder):
    return [path.relative_to(folder).as_posix() for path in found]


def test_find_paths_searches_folder_recursively_in_natural_order(folder):
    assert names(find_paths([str(folder)]), folder) == ["a.tiff", "b/1.png", "b/2.JPG", "b/10.jpg"]


def test_find_paths_glob_patterns(folder):
    assert names(find_paths([str(folder / "b" / "*.jpg")]), folder)[-1] == "b/10.jpg"
    found = names(find_paths([str(folder / "**" / "*.png"), str(folder / "a.*")]), folder)
    assert found == ["b/1.png", "a.tiff"]
    with raises("bad-input.no-images", "*.webp"):
        find_paths([str(folder / "*.webp")])


def test_find_paths_existing_file_with_glob_characters(folder):
    odd = folder / "cell[1].jpg"
    odd.write_bytes(b"")
    assert list(find_paths([str(odd)])) == [odd]


def test_find_paths_keeps_order_and_any_suffix_of_named_files(folder):
    named = [folder / "c.txt", folder / "a.tiff"]
    assert list(find_paths(named)) == named


def test_find_paths_reads_standard_input_lazily():
    taken = []

    def lines():
        for i in range(1000):
            taken.append(i)
            yield f"photo {i}.jpg\r\n" if i % 2 else "\n"

    found = find_paths(["-"], lines())
    assert [str(next(found)) for _ in range(2)] == ["photo 1.jpg", "photo 3.jpg"]
    assert len(taken) < 6


def test_find_paths_folder_and_standard_input(folder):
    found = find_paths([str(folder / "b"), "-"], io.StringIO("somewhere/else.jpg\n"))
    assert [p.name for p in found] == ["1.png", "2.JPG", "10.jpg", "else.jpg"]


@pytest.mark.parametrize(
    ("sources", "code", "fact"),
    [
        ([], "bad-input.no-images", "none"),
        (["nowhere.jpg"], "bad-input.not-found", "nowhere.jpg"),
        (["-"], "bad-input.no-images", "-"),
        (["https://example.org/car.jpg"], "bad-input.url", "example.org/car.jpg"),
    ],
)
def test_find_paths_refuses_sources_without_images_at_call(sources, code, fact):
    with raises(code, fact):
        find_paths(sources, io.StringIO(""))
    with raises("bad-input.no-stdin"):
        find_paths(["-"])


def test_find_paths_refuses_empty_folder_and_missing_second_source(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with raises("bad-input.no-images", "empty", ".jpg"):
        find_paths([str(tmp_path / "empty")])
    with raises("bad-input.not-found", "gone.jpg"):
        find_paths([str(folder), str(tmp_path / "gone.jpg")])


def test_find_paths_does_not_follow_links(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"")
    try:
        (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("links cannot be made here")
    assert len(list(find_paths([str(tmp_path)]))) == 1


def test_natural_key_other_digits_and_empty_names():
    assert sorted(["x10", "x9", "", "10", "9", "²"], key=natural_key)[:3] == ["", "9", "10"]


def test_find_inputs_expands_videos(folder, monkeypatch):
    """One input per image and per frame, in the order of the sources."""
    from blemish.inference import ImageInput, video

    def frames(path, limits, *, step):
        for index in range(0, 4, step):
            yield ImageInput.from_frame(path, index, index / 10, None)

    monkeypatch.setattr(video, "read_frames", frames)
    (folder / "walk.mp4").write_bytes(b"")
    inputs = list(find_inputs([folder / "a.tiff", folder / "walk.mp4"], frame_step=2))
    assert [one.kind for one in inputs] == [InputKind.FILE, InputKind.FRAME, InputKind.FRAME]
    assert [one.frame_index for one in inputs] == [None, 0, 2]
    assert [one.id for one in inputs][1:] == [f"{folder / 'walk.mp4'} frame {i}" for i in (0, 2)]
    assert inputs[2].to_dict() == {
        "path": (folder / "walk.mp4").as_posix(),
        "frame": 2,
        "time_seconds": 0.2,
    }
    assert inputs[0].to_dict() == {"path": (folder / "a.tiff").as_posix()}


def test_find_paths_reports_images_in_unsupported_formats(folder):
    for name in ("b/x.HEIC", "b/y.jxl", "z.jfif", "z.jpe", "z.mpo", ".hidden.heic"):
        (folder / name).write_bytes(b"")
    passed_over = PassedOver()
    found = names(find_paths([folder], passed_over=passed_over), folder)
    assert {"z.jfif", "z.jpe", "z.mpo"} <= set(found)
    assert passed_over.count == 2
    assert "2 images in unsupported formats were passed over: 1 HEIC (x.HEIC); 1 JPEG XL (y.jxl)" in (
        passed_over.sentence()
    )


def test_find_paths_names_what_it_passed_over_if_there_is_nothing_else(tmp_path):
    (tmp_path / "x.heic").write_bytes(b"")
    with raises("bad-input.no-images", "1 HEIC (x.heic)"):
        find_paths([tmp_path])
