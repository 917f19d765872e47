"""Severity levels by rules."""

import pytest

from blemish.inspections.severity import builtin_rules, load_rules, rules_from_dict
from blemish.testing import raises

RULES = {
    "scale": "s",
    "levels": [0, 1, 2],
    "rules": [
        {"name": "door", "label": "dent", "part": "door", "level": 2},
        {"name": "large", "label": ["dent", "scratch"], "min_area_share": 0.1, "level": 1},
        {"name": "wide", "min_width_mm": 2.0, "max_width_mm": 3.0, "level": 2},
        {"name": "small", "label": "dent", "level": 0},
    ],
}


@pytest.mark.parametrize(
    ("label", "part", "measures", "expected"),
    [
        ("dent", "door", {"area_share": 0.0}, ("2", "door")),
        ("dent", "hood", {"area_share": 0.1}, ("1", "large")),
        ("dent", "", {"area_share": 0.09}, ("0", "small")),
        ("dent", "", {"area_share": None}, ("0", "small")),
        ("scratch", "", {"area_share": 0.01}, ("", "")),
        ("rust", "", {"width_mm": 2.0}, ("2", "wide")),
        ("rust", "", {"width_mm": 3.0}, ("", "")),
        ("rust", "", {}, ("", "")),
    ],
)
def test_decide_takes_the_first_rule_that_applies(label, part, measures, expected):
    assert rules_from_dict(RULES).decide(label, part, measures) == expected


def test_worst_is_the_last_level_of_the_scale():
    rules = rules_from_dict(RULES)
    assert rules.worst(["1", "", "2", "0"]) == "2"
    assert rules.worst(["", "other"]) == ""


@pytest.mark.parametrize("name", builtin_rules())
def test_builtin_rules_survive_writing_and_reading(name):
    rules = load_rules(name)
    assert rules_from_dict(rules.to_dict()) == rules


@pytest.mark.parametrize(
    "change",
    [
        {"levels": [0, 0, 1, 2]},
        {"rules": []},
        {"rules": [{"name": "x", "level": 9}]},
        {"rules": [{"name": "x", "level": 1}, {"name": "x", "level": 2}]},
        {"rules": [{"name": "x", "level": 1, "price": 100}]},
        {"rules": [{"name": "x", "level": 1, "min_area_share": -1}]},
        {"rules": 3},
    ],
)
def test_rules_from_dict_refuses_impossible_rules(change):
    with raises("bad-input.severity-rules"):
        rules_from_dict({**RULES, **change})


def test_load_rules_refuses_what_is_no_file_of_rules(tmp_path):
    with raises("unknown-name.severity-rules", "vehicle"):
        load_rules("vehicles")
    (tmp_path / "rules.yaml").write_text("scale: [")
    with raises("bad-input.severity-rules", "rules.yaml"):
        load_rules(tmp_path / "rules.yaml")
