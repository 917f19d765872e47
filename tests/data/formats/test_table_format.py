"""blemish.data.formats.table_format: tables of labels and of boxes, and their faults."""

import pytest

from blemish.data import as_task, image_index, open_dataset
from blemish.data.audit import check
from blemish.structures import Task
from blemish.testing import raises


@pytest.fixture
def three(draw):
    for name in ("a.png", "b.png", "c.png"):
        draw(name)


def labels_of(dataset):
    return [s.ground_truth.label_names for s in dataset]


@pytest.mark.parametrize(
    "text",
    [
        "filename,label\na.png,dent\nb.png,scratch\nc.png,dent\n",
        ",filename,label\n0,a.png,dent\n1,b.png,scratch\n2,c.png,dent\n",
        "Unnamed: 0;Image Path;Class\n5;a.png;dent\n6;b.png;scratch\n7;c.png;dent\n",
        '\ufefffile\tcategory\r\na.png\tdent\r\n"b.png"\t"scratch"\r\n\r\nc.png\tdent\r\n',
        "label | path\ndent | .\\a.png\nscratch | b.png\ndent | ./c.png\n",
        "img,decision\na.png,dent\nb.png,scratch\nc.png,dent",
        "filename,label,serial\nC:\\data\\set\\a.png,dent,1\n/home/x/b.png,scratch,2\nc.png,dent,2\n",
    ],
)
def test_one_label_per_line(three, table, text):
    found = open_dataset(table(text))
    assert found.task is Task.CLASSIFICATION
    assert found.labels.names == ("dent", "scratch")
    assert [s.id for s in found] == ["a.png", "b.png", "c.png"]
    assert labels_of(found) == [("dent",), ("scratch",), ("dent",)]


def test_labels_that_are_numbers_are_in_numeric_order(three, table):
    found = open_dataset(table("filename,label\na.png,10\nb.png,2\nc.png,10\n"))
    assert found.labels.names == ("2", "10")
    assert found.task is Task.CLASSIFICATION


@pytest.mark.parametrize(
    ("text", "names", "display_names"),
    [
        (
            "filename;crack;inactive\na.png;0;0\nb.png;1;0\nc.png;1;1\n",
            ("crack", "inactive"),
            ("Crack", "Inactive"),
        ),
        (
            "Image Path, Crack Label, Inactive Label\na.png, 0, 0\nb.png, 1, 0\nc.png, 1, 1\n",
            ("crack", "inactive"),
            ("Crack", "Inactive"),
        ),
        (
            "file,labels\na.png,\nb.png,crack\nc.png,inactive|crack\n",
            ("crack", "inactive"),
            ("Crack", "Inactive"),
        ),
        (
            ('file,tags\na.png,\nb.png,crack\nc.png,"inactive, crack"\n'),
            ("crack", "inactive"),
            ("Crack", "Inactive"),
        ),
        (
            "file,label_1,label_2\na.png,,\nb.png,crack,\nc.png,inactive,crack\n",
            ("crack", "inactive"),
            ("Crack", "Inactive"),
        ),
        (
            "file,has_crack,has_inactive\na.png,no,no\nb.png,YES,no\nc.png,yes,yes\n",
            ("crack", "inactive"),
            None,
        ),
        ("file,crack,inactive\na.png,0.0,0\nb.png,1.0,no\nc.png,True,x\n", ("crack", "inactive"), None),
    ],
)
def test_any_number_of_labels_per_line(three, table, text, names, display_names):
    found = open_dataset(table(text))
    assert found.task is Task.MULTILABEL
    assert found.labels.names == names
    assert display_names is None or found.labels.display_names == display_names
    assert labels_of(found) == [(), ("crack",), ("crack", "inactive")]


def test_other_columns_are_kept_in_the_sample(three, table):
    text = "filename,label,module,split,group\na.png,x,m1,train,g\nb.png,y,m2,valid,\nc.png,y,m2,testing,g\n"
    found = open_dataset(table(text))
    assert [s.split for s in found] == ["train", "val", "test"]
    assert [s.group for s in found] == ["g", None, "g"]
    assert found[0].columns == {"module": "m1"}
    assert found[2].origin.endswith("labels.csv:4")


def test_one_table_per_split(three, table, tmp_path):
    table("filename,label\na.png,x\nb.png,y\n", "train.csv")
    table("filename,label\nc.png,x\n", "test.csv")
    assert open_dataset(tmp_path).splits == {"test": 1, "train": 2}


def test_images_in_another_folder(draw, tmp_path):
    draw("images/deep/a.png")
    draw("images/b.png")
    path = tmp_path / "labels" / "l.csv"
    path.parent.mkdir()
    path.write_text("file,label\ndeep/a.png,x\nb.png,y\n")
    found = open_dataset(path, images=tmp_path / "images")
    assert [s.path.name for s in found] == ["a.png", "b.png"]
    with raises("bad-dataset.no-images", "l.csv", "--images"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("text", "code", "facts"),
    [
        ("", "empty-file", ()),
        ("filename,label\n", "no-rows", ()),
        ("a.png,dent\nb.png,scratch\nc.png,dent\n", "no-header", (":1", "'a.png'")),
        ("filename label\na.png dent\n", "one-column", (":1", "','")),
        ("filename,label\na.png,dent\nmissing.png,dent\nb.png,x\n", "missing-image", (":3", "missing.png")),
        ("filename,label\na.png,dent\nb.png,\nc.png,x\n", "empty-label", (":3", "'b.png'")),
        ("filename,label\na.png,dent\na.png,scratch\n", "contradicting-labels", (":3", "'a.png'", ":2")),
        ("filename,label\na.png,dent\nb.png,dent\n", "too-few-labels", ("'dent'",)),
        (
            "filename,probability,type\na.png,0.3333,mono\nb.png,1.0,poly\n",
            "probabilities",
            (":2", "'probability'", "0.3333"),
        ),
        (
            "filename,crack,inactive\na.png,1,0.25\nb.png,0,1\n",
            "probabilities",
            (":2", "'inactive'", "0.25"),
        ),
        ("color,label\nred,x\nblue,y\n", "no-image-column", (":1", "color, label")),
        ("filename,color,shape\na.png,red,round\nb.png,blue,flat\n", "label-column", (":1", "color, shape")),
        ("filename,label,split\na.png,x,train\nb.png,y,holdout\n", "unknown-split", (":3", "'holdout'")),
        ("filename,label\na.png,x,\nb.png,y,z\n", "bad-line", (":3", "2 cells", "got 3")),
        ('filename,label\na.png,"x\nb.png,y\n', "invalid-csv", (":3",)),
    ],
)
def test_invalid_table_is_one_sentence_with_file_and_line(three, table, text, code, facts):
    path = table(text)
    with raises(f"bad-dataset.{code}", path, *facts) as caught:
        open_dataset(path)
    assert "\n" not in caught.message


def test_wrong_delimiter_suggests_the_right_one(three, table):
    with raises("bad-dataset.one-column", "labels.csv:1", "delimiter=';'"):
        open_dataset(table("filename;label\na.png;x\nb.png;y\n"), delimiter=",")


def test_binary_file_is_an_error(three, tmp_path):
    (tmp_path / "labels.csv").write_bytes(bytes(range(256)) * 4)
    with raises("bad-dataset.zero-byte", "labels.csv:1"):
        open_dataset(tmp_path / "labels.csv")


def test_read_utf16_and_cp1252(three, table):
    assert open_dataset(table("filename;label\na.png;Öl\nb.png;y\n", encoding="utf-16")).labels.names == (
        "y",
        "Öl",
    )
    assert open_dataset(table("filename;label\na.png;Öl\nb.png;y\n", encoding="cp1252")).labels.names == (
        "y",
        "Öl",
    )


def test_columns_by_option(three, table):
    path = table("filename,color,shape\na.png,red,round\nb.png,blue,flat\n")
    assert open_dataset(path, columns={"label": "shape"}).labels.names == ("flat", "round")
    assert open_dataset(path, columns={"label": 1}).labels.names == ("blue", "red")
    with raises("unknown-name.column", "'shap'", "'shape'"):
        open_dataset(path, columns={"label": "shap"})
    with raises("unknown-name.column-role", "'lable'", "'label'"):
        open_dataset(path, columns={"lable": "shape"})


def test_table_without_header_is_read_by_position(three, table):
    path = table("dent,a.png\nscratch,b.png\n")
    assert labels_of(open_dataset(path, columns={"path": 1, "label": 0})) == [("dent",), ("scratch",)]


def test_missing_images_can_be_dropped(three, table):
    found = open_dataset(table("file,label\na.png,x\nno.png,y\nb.png,y\n"), missing="drop")
    assert len(found) == 2
    assert "no.png" in found.notes[0]


BOX = [[1, 2, 11, 8]]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("filename,x,y,w,h\na.png,1,2,10,6\nb.png,1,2,10,6\n", {}),
        ("filename,x,y,height,width\na.png,1,2,6,10\nb.png,1,2,6,10\n", {}),
        ("filename,width,height,class,x,y,w,h\na.png,24,20,r,1,2,10,6\nb.png,24,20,r,1,2,10,6\n", {}),
        (
            "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,24,20,r,1,2,11,8\nb.png,24,20,r,1,2,11,8\n",
            {},
        ),
        ("file,c1,c2,c3,c4\na.png,1,2,6,10\nb.png,1,2,6,10\n", {"box_order": "xyhw"}),
        ("file,c1,c2,c3,c4\na.png,1,2,10,6\nb.png,1,2,10,6\n", {"box_order": "xywh"}),
        ("file,n,c1,c2,c3,c4\na.png,7,1,2,11,8\nb.png,7,1,2,11,8\n", {"box_order": "xyxy"}),
        (
            "file,p,q,r,s\na.png,2,1,10,6\nb.png,2,1,10,6\n",
            {"columns": {"x": "q", "y": "p", "w": 3, "h": "s"}},
        ),
        ("a.png,1,2,6,10\nb.png,1,2,6,10\n", {"columns": {"path": 0, "x": 1, "y": 2, "h": 3, "w": 4}}),
    ],
)
def test_one_box_per_image_is_a_localization_set(three, table, text, options):
    found = open_dataset(table(text), **options)
    assert found.task is Task.LOCALIZATION
    assert [s.ground_truth.boxes_xyxy.tolist() for s in found] == [BOX, BOX]
    assert found[0].size_hw == (20, 24)


def test_boxes_drawn_at_the_stated_size_are_scaled_to_the_image(three, table):
    text = (
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,48,40,r,2,4,22,16\nb.png,24,20,r,1,2,11,8\n"
    )
    found = open_dataset(table(text))  # the images are 24 pixels wide and 20 high
    assert [s.ground_truth.boxes_xyxy.tolist() for s in found] == [BOX, BOX]
    assert any(n.startswith("1 image") for n in found.notes)


def test_several_boxes_per_image_are_a_detection_set(three, table):
    lines = "a.png,dent,1,2,11,8", "a.png,scratch,0,0,4,4", "b.png,dent,1,2,11,8", "c.png,,,,,"
    text = "\n".join(["filename,class,x1,y1,x2,y2", *lines])
    found = open_dataset(table(text))
    assert found.task is Task.DETECTION
    assert labels_of(found) == [("dent", "scratch"), ("dent",), ()]
    assert as_task(found, "multilabel")[0].ground_truth.label_names == ("dent", "scratch")
    with raises("wrong-task.box-count", "labels.csv:2", "2"):
        as_task(found, "localization")
    with raises("wrong-task.needs-outlines", "segmentation"):
        as_task(found, "segmentation")


@pytest.mark.parametrize(
    ("line", "code", "fact"),
    [
        ("a.png,1,2,-3,8", "box-inside-out", "[1.0, 2.0, -2.0, 10.0]"),
        ("a.png,1,two,3,8", "bad-box", "'1', 'two'"),
        ("a.png,1,nan,3,8", "bad-box", "'nan'"),
        ("a.png,1,,3,8", "bad-box", "''"),
    ],
)
def test_invalid_box_is_named(three, table, line, code, fact):
    with raises(f"bad-dataset.{code}", "labels.csv:2", fact):
        open_dataset(table(f"filename,x,y,w,h\n{line}\n"))


def test_task_must_fit_the_labels(three, table):
    path = table("file,crack,inactive\na.png,1,0\nb.png,0,1\nc.png,1,0\n")
    assert labels_of(open_dataset(path, task="classification")) == [("crack",), ("inactive",), ("crack",)]
    with raises("wrong-task.needs-boxes", "detection"):
        open_dataset(path, task="detection")
    with raises("unknown-name.task", "'detektion'", "'detection'"):
        open_dataset(path, task="detektion")
    with raises("unknown-name.format", "'cvs'", "'csv'"):
        open_dataset(path, format="cvs")


def test_blank_cells_are_false_in_a_table_that_only_marks_labels(draw, table):
    for name in "abc":
        draw(f"{name}.png")
    dataset = open_dataset(table("file,crack,dirt\na.png,x,\nb.png,,x\nc.png,,\n"))
    assert [s.ground_truth.label_names for s in dataset] == [("crack",), ("dirt",), ()]


def test_blank_cell_next_to_zeros_is_an_error(draw, table):
    for name in "abc":
        draw(f"{name}.png")
    path = table("file,crack,dirt\na.png,1,0\nb.png,,1\nc.png,0,0\n")
    with raises("bad-dataset.empty-cell", "labels.csv:3", "'crack'", "'b.png'"):
        open_dataset(path)


def test_delimiter_line_of_excel(draw, table):
    draw("a,1.png")
    draw("b,2.png")
    dataset = open_dataset(table("sep=;\nfile;label\na,1.png;x\nb,2.png;y\n"))
    assert [s.origin.rsplit(":")[-1] for s in dataset] == ["3", "4"]


def test_line_with_too_many_cells_is_left_out(draw, table, tmp_path):
    draw("a.png")
    draw("b.png")
    path = table("filename,label\na.png,dent,deep\nb.png,rust\n")
    found = check(path, duplicates=False)
    assert [f.origin for f in found.of("bad-line")] == [f"{path}:2"]
    assert not found.of("unreadable-set")
    with raises("bad-dataset.bad-line", "labels.csv:2", "2 cells", "got 3"):
        open_dataset(path)


def test_zero_byte_is_named_by_its_line(draw, table):
    draw("a.png")
    with raises("bad-dataset.zero-byte", "labels.csv:2"):
        open_dataset(table("filename,label\na.png,de\0nt\n"))


def test_nearest_name_is_suggested_for_a_few_missing_images_only(draw, table, monkeypatch):
    draw("photo_1.png")
    lines = "".join(f"foto_{i}.png,{'ab'[i % 2]}\n" for i in range(40))
    path = table(f"filename,label\nphoto_1.png,a\n{lines}")
    calls = []
    monkeypatch.setattr(image_index, "nearest_name", lambda *names: calls.append(names))
    found = check(path, duplicates=False).of("missing-image")
    assert len(found) == 40
    assert len(calls) == 5


UNCERTAIN = "filename,crack,inactive\na.png,1,0\nb.png,{},1\nc.png,0,0\n"


@pytest.mark.parametrize(
    ("cell", "can_choose"), [("-1", True), ("nan", True), ("O", False), ("maybe", False)]
)
def test_flag_column_with_other_cells_does_not_vanish(three, table, cell, can_choose):
    path = table(UNCERTAIN.format(cell))
    with raises("bad-dataset.flag-value", "'crack'", repr(cell), "1 of 3 lines", "labels.csv:3") as raised:
        open_dataset(path)
    assert ("--uncertain" in str(raised.value)) is can_choose
    assert "flag-value" not in check(path).counts and "unreadable-set" in check(path).counts


@pytest.mark.parametrize(
    ("uncertain", "expected"),
    [
        ("negative", [("crack",), ("inactive",), ()]),
        ("positive", [("crack",), ("crack", "inactive"), ()]),
        ("drop", [("crack",), ()]),
    ],
)
def test_uncertain_flags_by_option(three, table, uncertain, expected):
    found = open_dataset(table(UNCERTAIN.format("-1")), uncertain=uncertain)
    assert labels_of(found) == expected
    assert any("--uncertain" in note for note in found.notes)
    with raises("bad-dataset.flag-value", "'O'"):
        open_dataset(table(UNCERTAIN.format("O")), uncertain=uncertain)
    with raises("unknown-name.value-of-uncertain", "'negativ'"):
        open_dataset(table(UNCERTAIN.format("-1")), uncertain="negativ")


def test_columns_that_are_no_labels_are_named(three, table):
    text = "filename,crack,inactive,is_verified,age\na.png,0,1,1,3\nb.png,1,0,1,4\nc.png,1,1,1,5\n"
    found = open_dataset(table(text))
    assert found.labels.names == ("crack", "inactive")
    assert found.samples[0].columns == {"is_verified": "1", "age": "3"}
    assert any("'is_verified', 'age'" in note for note in found.notes)


@pytest.mark.parametrize(
    "cells",
    [
        ("\"['crack', 'inactive']\"", "['crack']", "[]"),
        ('"[""crack"", ""inactive""]"', '"[""crack""]"', "[]"),
        ("crack|inactive", "crack", ""),
    ],
)
@pytest.mark.parametrize("header", ["label", "labels"])
def test_lists_in_a_cell_are_several_labels(three, table, cells, header):
    found = open_dataset(
        table(f"image,{header}\n" + "".join(f"{n}.png,{c}\n" for n, c in zip("abc", cells, strict=True)))
    )
    assert found.task is Task.MULTILABEL
    assert labels_of(found) == [("crack", "inactive"), ("crack",), ()]


def test_words_in_a_cell_are_labels_if_they_occur_alone(three, table):
    found = open_dataset(table("image,labels\na.png,scratch dent\nb.png,scratch\nc.png,dent\n"))
    assert labels_of(found) == [("dent", "scratch"), ("scratch",), ("dent",)]
    assert any("spaces separate" in note for note in found.notes)
    whole = open_dataset(table("image,label\na.png,broken glass\nb.png,flat tire\nc.png,dent\n"))
    assert whole.task is Task.CLASSIFICATION
    assert whole.labels.names == ("broken glass", "dent", "flat tire")


@pytest.mark.parametrize("cell", ['"{""a"": 1}"', '"[{""a"": 1}]"', '"[1, 2"', "[3]"])
def test_other_structured_cells_are_refused(three, table, cell):
    text = f"image,label\na.png,dent\nb.png,{cell}\nc.png,scratch\n"
    if cell == '"[1, 2"':  # a text that only begins like a list is a name
        assert "[1, 2" in open_dataset(table(text)).labels.names
        return
    with raises("bad-dataset.unreadable-cell", "'label'", "labels.csv:3"):
        open_dataset(table(text))


def test_boxes_as_lists_in_a_cell(three, table):
    text = 'image_id,width,height,bbox,source\na.png,{0},"[4.0, 5.0, 10.0, 8.0]",x\n'
    text += 'b.png,{0},"[1, 2, 3, 4]",y\nb.png,{0},"[2, 2, 5, 6]",y\nc.png,{0},[],y\n'
    width, height = (
        open_dataset(table("image,label\na.png,x\nb.png,y\n")).samples[0].size_hw[::-1] if False else (64, 48)
    )
    found = open_dataset(table(text.format(f"{width},{height}")), task="detection")
    assert found.samples[0].ground_truth.boxes_xyxy.tolist() == [[4, 5, 14, 13]]
    assert [len(s.ground_truth.boxes_xyxy) for s in found] == [1, 2, 0]
    assert found.labels.names == ("object",)
    corners = open_dataset(table(text.format(f"{width},{height}")), task="detection", box_order="xyxy")
    assert corners.samples[0].ground_truth.boxes_xyxy.tolist() == [[4, 5, 10, 8]]
    with raises("bad-dataset.unreadable-cell", "four numbers", "labels.csv:2"):
        open_dataset(table('image,bbox\na.png,"[1, 2, 3]"\nb.png,"[1, 2, 3, 4]"\n'))


def label_studio(*rectangles):
    import json

    return '"' + json.dumps(list(rectangles)).replace('"', '""') + '"'


def test_boxes_of_label_studio_in_a_cell(three, table, tmp_path):
    from PIL import Image

    with Image.open(tmp_path / "a.png") as image:
        width, height = image.size
    box = {"x": 25, "y": 50, "width": 25, "height": 25, "rotation": 0, "rectanglelabels": ["dent"]}
    box |= {"original_width": width, "original_height": height}
    text = "annotation_id,id,image,label,lead_time\n"
    text += (
        f"1,1,/data/upload/1/a.png,{label_studio(box, box | {'x': 5, 'rectanglelabels': ['crack']})},3.2\n"
    )
    text += "2,2,/data/upload/1/b.png,,3.2\n"
    found = open_dataset(table(text), task="detection")
    assert found.labels.names == ("crack", "dent")
    annotation = found.samples[0].ground_truth
    assert sorted(annotation.label_names) == ["crack", "dent"]
    expected = [width * 0.25, height * 0.5, width * 0.5, height * 0.75]
    assert any(b == pytest.approx(expected) for b in annotation.boxes_xyxy.tolist())
    assert len(found.samples[1].ground_truth.boxes_xyxy) == 0
    for wrong in (box | {"rotation": 30}, {"choices": ["a"], "rectanglelabels": []}):
        with raises("bad-dataset.unreadable-cell", "labels.csv:2"):
            open_dataset(table(f"image,label\na.png,{label_studio(wrong)}\n"))


def test_lines_of_one_image_are_its_labels_for_multilabel(three, table):
    path = table("image,label\na.png,crack\na.png,inactive\nb.png,crack\nc.png,ok\n")
    with raises("bad-dataset.contradicting-labels", "--task multilabel"):
        open_dataset(path)
    found = open_dataset(path, task="multilabel")
    assert labels_of(found) == [("crack", "inactive"), ("crack",), ("ok",)]
