"""Pascal VOC folders in which names, lists and pages do not agree."""

import pytest

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.errors import BadDataset

PAGE = """<annotation><filename>{}</filename><size><width>24</width><height>20</height></size>
<object><name>dent</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def page(draw, tmp_path):
    """Draws an image and writes its page."""
    (tmp_path / "Annotations").mkdir()

    def one(name, text=None):
        image = draw(f"JPEGImages/{name}")
        file = tmp_path / f"Annotations/{image.stem}.xml"
        file.write_text(PAGE.format(name) if text is None else text)
        return image

    return one


@pytest.mark.parametrize("says", ["a.png", "a.jpg"])
def test_of_two_images_of_one_stem_one_is_without_label(page, draw, tmp_path, says):
    for name in ("a.png", "a.jpg", "b.png"):
        page(name)
    (tmp_path / "Annotations/a.xml").write_text(PAGE.format(says))
    other = {"a.png": "a.jpg", "a.jpg": "a.png"}[says]
    assert [s.path.name for s in open_dataset(tmp_path)] == [says, "b.png"]
    found = check(tmp_path, duplicates=False)
    assert [f.path.name for f in found.of("image-without-label")] == [other]


def test_a_page_of_something_else_is_no_empty_image(page, tmp_path):
    page("a.png")
    page("b.png", "<html><body/></html>")
    assert [f.path.name for f in check(tmp_path, duplicates=False).of("bad-file")] == ["b.xml"]
    with pytest.raises(BadDataset, match=r"b\.xml: no page of Pascal VOC, it begins with <html>"):
        open_dataset(tmp_path)


def test_an_image_that_no_list_names_is_told(page, tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        page(name)
    lists = tmp_path / "ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b\n")
    found = check(tmp_path, duplicates=False)
    assert [f.path.name for f in found.of("image-not-listed")] == ["c.png"]
