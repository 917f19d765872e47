"""statistics: labels, objects, sizes and colors of a data set."""

import json

import numpy as np
import pytest
from PIL import Image

from blemish.data import open_dataset
from blemish.data.statistics import statistics


def test_statistics_equal_numpy(labeled, tmp_path):
    found = statistics(open_dataset(labeled))
    assert [(x.name, x.images, x.by_split) for x in found.labels] == [
        ("crack", 2, {"train": 2, "val": 0}),
        ("inactive", 2, {"train": 1, "val": 1}),
    ]
    assert found.co_occurrence == ((2, 1), (1, 2))
    assert found.background_fraction == 0.25
    assert found.sides["width"] == (30, 30.0, 30)
    pixels = (
        np.concatenate([np.asarray(Image.open(tmp_path / f"{n}.png")).reshape(-1, 3) for n in "abcd"]) / 255
    )
    np.testing.assert_allclose(found.mean, pixels.mean(0), atol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(0), atol=1e-12)
    assert json.loads(json.dumps(found.to_dict()))["images"] == 4
    assert "Inactive" in found.to_html()


def test_statistics_of_sixteen_bits_are_fractions_of_white(tmp_path, table):
    values = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "b.png")
    found = statistics(open_dataset(table("file,label\na.png,x\nb.png,y\n")))
    assert found.mean == pytest.approx((values.mean() / 65535,) * 3)
    assert found.modes == {"PNG I;16": 2}


def test_statistics_of_boxes(draw, table):
    draw("a.png", (20, 10))
    draw("b.png", (20, 10))
    text = "filename,class,x1,y1,x2,y2\na.png,dent,0,0,10,10\na.png,dent,0,0,2,1\nb.png,,,,,\n"
    found = statistics(open_dataset(table(text)), pixels=False)
    assert found.objects_per_image == (0, 1.0, 2)
    assert found.labels[0].objects == 2
    assert found.box_area_fraction[1] == pytest.approx((0.5 + 0.01) / 2)
    assert found.mean is None
