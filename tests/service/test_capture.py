"""Images to take again, over REST."""

import httpx
import pytest

from blemish.model_file import CaptureLimit, CaptureSpec, read_graph, read_model_file, write_model_file
from blemish.service.app import create_app
from blemish.service.schemas import PredictionResponse
from blemish.service.settings import Settings

LIMITS = CaptureSpec(
    images=99,
    rate=0.005,
    flagged=0.0,
    limits=(
        CaptureLimit(measure="brightness", side="above", value=0.9),
        CaptureLimit(measure="enlargement", side="above", value=1.0),
    ),
)


@pytest.fixture(scope="module")
def model(model_folder, tmp_path_factory):
    file = read_model_file(model_folder / "resnet.onnx")
    contract = file.contract.model_copy(update={"capture": LIMITS})
    path = tmp_path_factory.mktemp("gated") / "gated.onnx"
    write_model_file(path, read_graph(file.path), contract)
    return path


@pytest.fixture(scope="module")
def address(model, model_folder, tools):
    models = {"gated": model, "old": model_folder / "resnet.onnx"}
    with tools.running(create_app(models, threads=1)) as address:
        yield address


def post(tools, address, image, **parameters):
    answer = tools.post(f"{address}/api/v1/predict", params=parameters, files={"image": image})
    return PredictionResponse.model_validate(answer.json())


def test_predict_states_why_an_image_should_be_taken_again(address, tools):
    white = post(tools, address, tools.image((255, 255, 255)))
    assert [r.code for r in white.capture.reasons] == ["overexposed"] and white.capture.retake
    assert white.labels and white.decision.labels  # the prediction is there nevertheless
    assert not post(tools, address, tools.image((90, 90, 90))).capture.retake
    small = post(tools, address, tools.image((90, 90, 90), size=(6, 6)))
    assert [r.code for r in small.capture.reasons] == ["too-small"]
    assert post(tools, address, tools.image((255, 255, 255)), model="old").capture is None
    metrics = httpx.get(f"{address}/metrics").text
    assert 'blemish_retake_images_total{model="gated",reason="overexposed"} 1.0' in metrics


def test_the_check_can_be_switched_off(model, tools):
    with tools.running(create_app({"m": model}, Settings(check_capture=False), threads=1)) as address:
        assert post(tools, address, tools.image((255, 255, 255))).capture is None
