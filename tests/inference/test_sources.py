import io

import pytest

from blemish.errors import BadInput
from blemish.inference.sources import find_sources, natural_key


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


def test_a_folder_is_searched_to_the_bottom_in_natural_order(folder):
    assert names(find_sources([str(folder)]), folder) == ["a.tiff", "b/1.png", "b/2.JPG", "b/10.jpg"]


def test_patterns_work_without_a_shell(folder):
    assert names(find_sources([str(folder / "b" / "*.jpg")]), folder)[-1] == "b/10.jpg"
    everything = names(find_sources([str(folder / "**" / "*.png"), str(folder / "a.*")]), folder)
    assert everything == ["b/1.png", "a.tiff"]
    with pytest.raises(BadInput, match="matches no file"):
        find_sources([str(folder / "*.webp")])


def test_a_file_that_looks_like_a_pattern_is_a_file(folder):
    odd = folder / "cell[1].jpg"
    odd.write_bytes(b"")
    assert list(find_sources([str(odd)])) == [odd]


def test_a_named_file_may_have_any_suffix_and_order_is_the_callers(folder):
    given = [folder / "c.txt", folder / "a.tiff"]
    assert list(find_sources(given)) == given


def test_a_list_on_standard_input_is_read_as_it_is_asked_for():
    taken = []

    def lines():
        for i in range(1000):
            taken.append(i)
            yield f"photo {i}.jpg\r\n" if i % 2 else "\n"

    found = find_sources(["-"], lines())
    assert [str(next(found)) for _ in range(2)] == ["photo 1.jpg", "photo 3.jpg"]
    assert len(taken) < 6


def test_folders_and_standard_input_mix(folder):
    found = find_sources([str(folder / "b"), "-"], io.StringIO("somewhere/else.jpg\n"))
    assert [p.name for p in found] == ["1.png", "2.JPG", "10.jpg", "else.jpg"]


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ([], "no images given"),
        (["nowhere.jpg"], "nowhere.jpg: no such file"),
        (["-"], "no image found"),
    ],
)
def test_nothing_to_look_at_is_named_at_once(sources, said):
    with pytest.raises(BadInput, match=said):
        find_sources(sources, io.StringIO(""))
    with pytest.raises(BadInput, match="standard input"):
        find_sources(["-"])


def test_an_empty_folder_is_named_and_a_missing_second_source_too(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="no image found; known suffixes are"):
        find_sources([str(tmp_path / "empty")])
    with pytest.raises(BadInput, match=r"gone\.jpg: no such file"):
        find_sources([str(folder), str(tmp_path / "gone.jpg")])


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"")
    try:
        (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("links cannot be made here")
    assert len(list(find_sources([str(tmp_path)]))) == 1


def test_natural_order_does_not_mind_signs_and_empty_names():
    assert sorted(["x10", "x9", "", "10", "9", "²"], key=natural_key)[:3] == ["", "9", "10"]
