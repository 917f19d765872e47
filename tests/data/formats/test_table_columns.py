"""Tables whose columns or cells were left out, or read as something else, in silence."""

import pytest

from blemish.data import open_dataset
from blemish.structures import Task
from blemish.testing import raises


@pytest.fixture
def read(draw, table):
    """A function that reads a table of the images a.png to d.png."""
    for name in "abcd":
        draw(f"{name}.png", (80, 60))

    def one(text, **options):
        return open_dataset(table(text), **options)

    return one


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("cx,cy,w,h", "40,30,20,10"),
        ("x_center,y_center,width,height", ".5,.5,.2,.2"),
        ("x,y", "40,30"),
        ("x1,y1,x2,y2,x3,y3,x4,y4", "1,1,20,1,20,20,1,20"),
        ("polygon", '"[[1,1],[20,1],[20,20]]"'),
        ("segmentation", "1 1 20 1 20 20"),
        ("bbox", "10 10 20 20"),
        ("bounding box", '"10,10,20,20"'),
    ],
)
def test_coordinates_that_are_not_read_are_refused(header, cells, read):
    text = f"filename,label,{header}\na.png,dent,{cells}\nb.png,rust,{cells}\n"
    with raises("bad-dataset.unread-geometry", "labels.csv:1"):
        read(text)
    if not header.startswith("x1"):
        assert read(text, columns={"label": "label"}).task is Task.CLASSIFICATION


@pytest.mark.parametrize("header", ["x,y", "box", "points"])
def test_labels_that_look_like_coordinates_are_read(header, read):
    if header == "x,y":
        assert read("x,y\na.png,0\nb.png,1\n").labels.names == ("0", "1")
    else:
        assert read(f"filename,{header},dent\na.png,0,1\nb.png,1,0\n").labels.names == (header, "dent")


@pytest.mark.parametrize("cell", ["dent;scratch", '"dent, scratch"', "dent|scratch"])
def test_separated_labels_in_a_column_of_one_label_are_several(cell, read):
    found = read(f"filename,label\na.png,{cell}\nb.png,dent\nc.png,scratch\nd.png,rust\n")
    assert (found.task, found.labels.names) == (Task.MULTILABEL, ("dent", "rust", "scratch"))
    assert found[0].ground_truth.label_names == ("dent", "scratch")


@pytest.mark.parametrize("cell", ["dent/scratch", "dent + scratch", "dent & scratch", "dent and scratch"])
def test_joined_labels_are_refused(cell, read):
    text = f"filename,label\na.png,{cell}\nb.png,dent\nc.png,scratch\n"
    with raises("bad-dataset.joined-labels", "labels.csv:2", "'dent'", "'scratch'"):
        read(text)
    assert read(text, columns={"label": "label"}).labels.names == ("dent", cell, "scratch")


def test_labels_with_a_comma_stay_whole(read):
    found = read('filename,label\na.png,"glass, broken"\nb.png,dent\nc.png,"glass, broken"\n')
    assert (found.task, found.labels.names) == (Task.CLASSIFICATION, ("dent", "glass, broken"))


def test_second_column_of_labels_is_refused(read):
    with raises("bad-dataset.label-column", "'label2'"):
        read("filename,label,label2\na.png,dent,front\nb.png,rust,rear\n")
    with raises("bad-dataset.label-column", "'label2'"):
        read("filename,x1,y1,x2,y2,label1,label2\na.png,1,2,9,9,dent,rust\nb.png,1,2,9,9,dent,\n")


def test_columns_of_words_next_to_boxes_are_named(read):
    text = "filename,Schaden,x1,y1,x2,y2\na.png,Beule,1,2,9,9\nb.png,Rost,1,2,9,9\n"
    found = read(text)
    assert found.labels.names == ("object",)
    assert any("--column label=Schaden" in note for note in found.notes)
    assert read(text, columns={"label": "Schaden"}).labels.names == ("Beule", "Rost")


def test_numbers_with_fractions_are_no_labels(read):
    with raises("bad-dataset.label-column", "price"):
        read("filename,price\na.png,100.5\nb.png,200.1\nc.png,99.0\n")
