"""`risk`: what a model decides alone, and what it leaves for review, over REST."""

import dataclasses
import json

import numpy as np
import pytest

from blemish.abstention import Costs, Risk
from blemish.model_file import (
    AbstentionScores,
    BoxScoreBin,
    Contract,
    DecoderSpec,
    InputSpec,
    LabelScores,
    LabelSpec,
    OutputSpec,
    read_graph,
    read_model_file,
    write_model_file,
)
from blemish.service.app import create_app
from blemish.service.decisions import add_score_intervals, check_rule
from blemish.service.schemas import PredictionResponse
from blemish.service.settings import Settings
from blemish.testing import raises

GRID = tuple(np.linspace(0.4, 0.9, 39).round(4))


def with_scores(path, target, scores):
    file = read_model_file(path)
    contract = file.contract.model_copy(update={"abstention": scores})
    write_model_file(target, read_graph(path), contract)
    return target


@pytest.fixture(scope="module")
def address(model_folder, tmp_path_factory, tools):
    folder = tmp_path_factory.mktemp("calibrated")
    names = read_model_file(model_folder / "resnet.onnx").contract.to_labels().names
    of_labels = AbstentionScores(labels={name: LabelScores(present=GRID) for name in names})
    low = tuple(v / 2 for v in GRID)
    bins = (BoxScoreBin(min_score=0, detections=50, groups=20, correct=0.5, low=0.3, high=0.7),)
    of_objects = AbstentionScores(any_object=LabelScores(present=GRID, absent=low), boxes=bins)
    models = {
        "resnet": with_scores(model_folder / "resnet.onnx", folder / "resnet.onnx", of_labels),
        "yolo": with_scores(model_folder / "yolo.onnx", folder / "yolo.onnx", of_objects),
        "old": model_folder / "fusion.onnx",
    }
    with tools.running(create_app(models, threads=1)) as address:
        yield address


def post(tools, address, image, route="predict", **parameters):
    return tools.post(f"{address}/api/v1/{route}", params=parameters, files={"image": image})


def test_predict_decides_at_the_risk_of_the_request(address, tools):
    red = post(tools, address, tools.image((255, 0, 0)), risk=0.05).json()
    decision = red["risk_decision"]
    assert decision["outcome"] == "label" and decision["labels"] == ["F_Normal"] and decision["risk"] == 0.05
    assert PredictionResponse.model_validate(red).risk_decision is not None
    gray = post(tools, address, tools.image((120, 120, 120)), risk=0.001).json()["risk_decision"]
    assert gray["outcome"] == "review" and len(gray["possible_labels"]) == 3
    assert gray["reason_code"] == "several-labels" and gray["reason"]
    assert post(tools, address, tools.image((255, 0, 0))).json()["risk_decision"] is None


def test_predict_gives_the_interval_of_each_detection(address, tools):
    body = post(tools, address, tools.image((9, 9, 9)), model="yolo", risk=0.1).json()
    PredictionResponse.model_validate(body)
    assert body["risk_decision"]["states"][0]["label"] == "any damage"
    assert {tuple(d["correct_interval"]) for d in body["detections"]} == {(0.3, 0.7)}


def test_predict_batch_and_stream_decide_too(address, tools):
    image = tools.image((255, 0, 0))
    batch = post(tools, address, image, "predict:batch", risk=0.05).json()
    assert batch["items"][0]["result"]["risk_decision"]["outcome"] == "label"
    lines = post(tools, address, image, risk=0.05, stream=True).text.splitlines()
    assert json.loads(lines[-1])["result"]["risk_decision"]["outcome"] == "label"


COSTS = {"cost_miss": 50, "cost_false_positive": 10, "cost_review": 1}


def test_predict_decides_by_the_costs_of_the_request(address, tools):
    image = tools.image((255, 0, 0))
    good = {"good_label": "F_Normal"}
    asked = post(tools, address, image, **COSTS, **good).json()
    decision = PredictionResponse.model_validate(asked).risk_decision
    assert decision.rule == "cost" and decision.outcome == "review" and decision.risk is None
    assert decision.costs == {"miss": 50, "false_positive": 10, "review": 1}
    costly = post(tools, address, image, **{**COSTS, "cost_review": 1000}, **good).json()["risk_decision"]
    assert costly["outcome"] == "label"
    batch = post(tools, address, image, "predict:batch", **COSTS, **good).json()
    assert batch["items"][0]["result"]["risk_decision"] == asked["risk_decision"]
    objects = post(tools, address, image, model="yolo", **COSTS).json()["risk_decision"]
    assert objects["rule"] == "cost"


def test_costs_of_a_request_replace_the_risk_of_the_server():
    scores = AbstentionScores(labels={"a": LabelScores(present=GRID), "b": LabelScores(present=GRID)})
    contract = Contract(
        architecture="x",
        task="classification",
        labels=tuple(LabelSpec(name=n, display_name=n) for n in "ab"),
        inputs=(InputSpec(size_hw=(8, 8)),),
        outputs=(OutputSpec(name="y", role="scores"),),
        decoder=DecoderSpec(name="scores"),
        abstention=scores,
    )
    costs = Costs(1, 2, 3, "a")
    assert check_rule(contract, "m", costs, 0.1) is costs
    assert check_rule(contract, "m", None, 0.1) == Risk(0.1) and check_rule(contract, "m", None, None) is None


@pytest.mark.parametrize(
    "parameters, code",
    [
        ({"cost_miss": 5}, "bad-parameter.costs"),
        ({"cost_miss": -5}, "bad-parameter"),
        ({**COSTS, "risk": 0.1}, "bad-parameter.risk-and-costs"),
        (COSTS, "bad-parameter.good-label"),
        ({**COSTS, "good_label": "nothing"}, "bad-parameter.good-label"),
        ({**COSTS, "model": "old"}, "bad-parameter.no-abstention"),
        ({"risk": 0}, "bad-parameter"),
        ({"risk": 0.9}, "bad-parameter"),
        ({"risk": 0.05, "model": "old"}, "bad-parameter.no-abstention"),
    ],
)
def test_predict_refuses_a_risk_that_cannot_be(address, tools, parameters, code):
    response = post(tools, address, tools.image((1, 2, 3)), **parameters)
    assert response.status_code == 422 and response.json()["code"] == code


def test_create_app_refuses_a_default_risk_for_a_model_without_scores(model_folder):
    with raises("bad-model-file.no-abstention"):
        create_app({"old": model_folder / "fusion.onnx"}, Settings(risk=0.1))
    with raises("bad-input.risk"):
        dataclasses.replace(Settings(), risk=0.7)


def test_add_score_intervals_without_decision_changes_nothing():
    rows = [{"id": 1}]
    add_score_intervals(rows, None)
    add_score_intervals(None, None)
    assert rows == [{"id": 1}]
