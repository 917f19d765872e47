"""Limits learned from usual images, the check of others, and near-duplicates of a batch."""

import numpy as np
import pytest

from blemish.capture import (
    CaptureMeasures,
    NearDuplicates,
    find_faults,
    fit_limits,
    judge_capture,
    learn_limits,
    measure,
)
from blemish.capture.near_duplicates import MAX_REMEMBERED
from blemish.image_checks import Capture, CaptureReason
from blemish.imaging import LoadedImage
from blemish.model_file import InputSpec
from blemish.model_file.capture_spec import DIRECTIONS
from blemish.preprocessing import prepare
from blemish.structures import Sample

SPEC = InputSpec(size_hw=(96, 96))
ROWS = np.zeros((8, 8), np.float32)
NAMES = (
    "sharpness",
    "sharpness_coarse",
    *DIRECTIONS,
    "bright",
    "dark",
    "brightness",
    "glare",
    "border",
    "enlargement",
)


def measured(image):
    feed, placement = prepare(LoadedImage(image), SPEC)
    return measure(feed, SPEC, placement)


def row(**values):
    return CaptureMeasures({**dict.fromkeys(NAMES, 0.0), "brightness": 0.5, **values}, ROWS)


@pytest.fixture(scope="module")
def limits(scenes):
    return fit_limits([measured(s) for s in scenes], [str(i) for i in range(len(scenes))])


def codes(limits, image):
    return {reason.code for reason in find_faults(limits, measured(image).values)}


def test_faults_of_drawn_scenes_are_found(limits, drawing):
    for seed in range(100, 105):
        image = drawing.scene(seed)
        assert codes(limits, image) == set()
        assert codes(limits, drawing.blur(image, 3)) & {"blurred", "motion-blur"}
        assert "motion-blur" in codes(limits, drawing.motion(image, 15, (0, 1)))
        assert "blurred" not in codes(limits, drawing.motion(image, 15, (0, 1)))
        assert "overexposed" in codes(limits, drawing.gain(image, 2.2))
        assert "underexposed" in codes(limits, drawing.gain(image, 0.2))
        assert "glare" in codes(limits, drawing.with_glare(image))
        assert "borders" in codes(limits, drawing.with_bars(image, 20))
        assert "too-small" in codes(limits, image.resize((60, 60)))


def test_find_faults_names_motion_only_where_one_direction_is_less_sharp():
    usual = [row(sharpness_0=0.8, sharpness_90=-0.8) for _ in range(50)]  # such as lines along columns
    fitted = fit_limits(usual, [str(i) for i in range(50)])
    blank = row(sharpness=-3.0, sharpness_coarse=-3.0)
    moved = row(sharpness=-1.0, sharpness_0=-0.5)
    assert [r.code for r in find_faults(fitted, blank.values)] == ["blurred"]
    assert [r.code for r in find_faults(fitted, moved.values)] == ["motion-blur"]


def test_fit_limits_holds_the_rate_of_each_fault_on_exchangeable_images():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(150):
        values = rng.normal(size=(99 + 200))
        rows = [row(sharpness=float(v)) for v in values]
        fitted = fit_limits(rows[:99], [str(i) for i in range(99)], rate=0.1)
        margin = next(x for x in fitted.limits if x.measure == "sharpness").value + 0.1
        shares.append(np.mean(values[99:] < margin))
    assert np.mean(shares) == pytest.approx(0.05, abs=4 * np.std(shares) / np.sqrt(150))


def test_fit_limits_uses_one_image_of_each_group_and_needs_twenty():
    rows = [row(sharpness=i / 10) for i in range(100)]
    assert fit_limits(rows, [str(i // 10) for i in range(100)]) is None
    assert fit_limits(rows, [str(i // 5) for i in range(100)]).images == 20
    assert fit_limits([None] * 100, ["a"] * 100) is None
    assert fit_limits([*rows, None], [str(i) for i in range(101)]).images == 100


def test_what_is_usual_or_harmless_is_not_a_fault():
    rows = [row(enlargement=0.4, border=0.2) for _ in range(50)]
    fitted = fit_limits(rows, [str(i) for i in range(50)])
    assert fitted.flagged == 0
    assert not find_faults(fitted, row(enlargement=0.99, border=0.2, brightness=0.51).values)
    assert [r.code for r in find_faults(fitted, row(enlargement=1.01).values)] == ["too-small"]
    assert [r.code for r in find_faults(fitted, row(border=0.25).values)] == ["borders"]
    assert judge_capture(fitted, None) is None and judge_capture(None, row()) is None


def test_capture_in_words_and_as_plain_values():
    reasons = (
        CaptureReason("blurred", "sharpness", -2.0, -1.0),
        CaptureReason("near-duplicate", "", 3.0, 24.0, "a.png"),
    )
    capture = Capture(reasons, 0.005)
    assert capture.retake and capture.sentence.count(" and ") == 1 and "a.png" in capture.sentence
    fields = capture.to_dict()
    assert fields["retake"] and fields["reasons"][1]["other"] == "a.png"
    assert Capture((), 0.005).sentence == "" and not Capture((), 0.005).retake


def test_near_duplicates_names_the_earlier_image_and_forgets_the_oldest(monkeypatch):
    monkeypatch.setattr("blemish.capture.near_duplicates.MAX_REMEMBERED", 100)
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**63, (130, 4)).astype(np.uint64)
    seen = NearDuplicates()
    usual = Capture((), 0.005)
    for i, word in enumerate(words):
        assert seen.add(usual, f"{i}", word) is usual
    again = seen.add(usual, "copy", words[110] ^ np.uint64(7))
    assert [(r.code, r.other, r.value) for r in again.reasons] == [("near-duplicate", "110", 12.0)]
    assert seen.add(usual, "old", words[3]) is usual  # 100 others came after it
    assert seen.add(usual, "kept", words[60]).reasons[0].other == "60"
    assert seen.add(usual, "oldest", words[33]).reasons[0].other == "33"  # whose place this one takes
    assert MAX_REMEMBERED == 10_000


def test_learn_limits_reads_images_and_skips_damaged_ones(scenes, tmp_path):
    samples = []
    for i, image in enumerate(scenes[:24]):
        path = tmp_path / f"{i}.png"
        image.save(path)
        samples.append(Sample(id=str(i), path=path))
    samples[3].path.write_bytes(b"damaged")
    assert learn_limits(samples, (SPEC,)).images == 23
    assert learn_limits(samples[:10], (SPEC,)) is None and learn_limits([], (SPEC,)) is None
