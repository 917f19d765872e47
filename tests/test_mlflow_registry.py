"""Register model files in MLflow's own store, a SQLite file, and load them as MLflow and as Blemish do."""

import json
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from typer.testing import CliRunner

import blemish
from blemish import cli
from blemish.hub import MlflowAddress, local_file, register
from blemish.model_file import read_model_file
from blemish.testing import raises
from tests.service.conftest import image, write_classifier, write_detector

mlflow = pytest.importorskip("mlflow")
pandas = pytest.importorskip("pandas")
# MLflow's own calls of SQLAlchemy and pandas are deprecated in their newest versions.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def client(empty_mlflow_store, tmp_path, monkeypatch):
    shutil.copyfile(empty_mlflow_store, tmp_path / "mlflow.db")
    address = f"sqlite:///{tmp_path.as_posix()}/mlflow.db"
    monkeypatch.chdir(tmp_path)  # artifacts are written below it
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    mlflow.set_tracking_uri(address)  # other tests may have set it
    mlflow.set_registry_uri(address)
    return mlflow.MlflowClient(address, registry_uri=address)


@pytest.fixture
def detector(tmp_path):
    write_detector(tmp_path / "cars.onnx")
    return tmp_path / "cars.onnx"


PHOTO = image((250, 0, 0))


def test_a_registered_model_predicts_as_its_file(client, detector):
    assert str(register(detector, "cars")) == "mlflow:cars/1"
    expected = blemish.predict(detector, PHOTO)
    loaded = mlflow.pyfunc.load_model("models:/cars/1")
    frame = loaded.predict(pandas.DataFrame({"image": [PHOTO, PHOTO]}))
    assert len(frame) == 2
    (row, _) = frame.to_dict("records")
    found = [[d["label"], d["score"], d["box_xyxy"]] for d in row["detections"]]
    rows = zip(expected.label_names, expected.scores.tolist(), expected.boxes_xyxy.tolist(), strict=True)
    assert found == [list(r) for r in rows]
    assert list(row["label_scores"].values()) == expected.label_scores.tolist()
    assert json.loads(row["json"]) == expected.to_dict()
    fetched = local_file("mlflow:cars")
    assert fetched.read_bytes() == detector.read_bytes() and "cache" in fetched.parts
    other = blemish.load("mlflow:cars/1").predict(PHOTO)
    np.testing.assert_array_equal(other.boxes_xyxy, expected.boxes_xyxy)


def test_register_writes_signature_tags_and_a_run(client, tmp_path):
    write_classifier(tmp_path / "one.onnx")
    (tmp_path / "one.explain.onnx").write_bytes(b"graph")
    register(tmp_path / "one.onnx", "parts")
    version = client.get_model_version("parts", "1")
    contract = read_model_file(tmp_path / "one.onnx").contract
    assert version.tags["blemish.digest"] == read_model_file(tmp_path / "one.onnx").digest
    assert version.tags["blemish.task"] == "classification"
    assert client.get_run(version.run_id).info.status == "FINISHED"
    info = mlflow.models.get_model_info("models:/parts/1")
    assert [(c.name, c.type.name) for c in info.signature.inputs] == [("image", "binary")]
    scores = info.signature.outputs.input_dict()["label_scores"].type
    assert {p.name for p in scores.properties} == {label.name for label in contract.labels}
    assert info.metadata["labels"] == [label.name for label in contract.labels]
    assert local_file("mlflow:parts", explanation=True).with_suffix(".explain.onnx").read_bytes() == b"graph"


def test_a_new_version_and_an_alias(client, detector, tmp_path):
    register(detector, "cars")
    write_classifier(tmp_path / "b.onnx")
    assert register(tmp_path / "b.onnx", "cars") == MlflowAddress("cars", "2")
    client.set_registered_model_alias("cars", "champion", "1")
    assert local_file("mlflow:cars").name == "b.onnx"
    assert local_file("mlflow:cars@champion").name == "cars.onnx"


def test_register_uses_the_logged_run_of_the_training(client, detector, tmp_path):
    run = client.create_run(client.create_experiment("x")).info.run_id
    entry = {"run_id": run, "tracking_uri": f"sqlite:///{tmp_path.as_posix()}/mlflow.db"}
    (tmp_path / "loggers.json").write_text(json.dumps({"0": entry}))
    register(detector, "cars")
    assert client.get_model_version("cars", "1").run_id == run
    (tmp_path / "loggers.json").write_text(json.dumps({"0": {**entry, "tracking_uri": "https://other"}}))
    register(detector, "cars")
    assert client.get_model_version("cars", "2").run_id != run


def test_refusals_are_one_sentence(client, detector, tmp_path):
    for text in ("mlflow:", "mlflow:a/b", "mlflow:a b", "mlflow:a@"):
        with raises("bad-input.mlflow-address", text):
            local_file(text)
    with raises("bad-input.mlflow-missing", "nothing"):
        local_file("mlflow:nothing")
    with raises("bad-input.mlflow-address"):
        register(detector, "cars/1")
    register(detector, "cars")
    with raises("bad-input.mlflow-missing", "9"):
        local_file("mlflow:cars/9")
    with raises("bad-input.mlflow-missing", "old"):
        local_file("mlflow:cars@old")
    run = client.create_run("0").info.run_id
    client.create_model_version("cars", str(tmp_path), run)
    with raises("bad-input.mlflow-foreign", "mlflow:cars/2"):
        local_file("mlflow:cars/2")
    version = client.get_model_version("cars", "1")
    client.set_model_version_tag("cars", "1", "blemish.digest", "0" * 64)
    with raises("bad-model-file.wrong-digest", "mlflow:cars/1"):
        local_file("mlflow:cars/1")
    assert version.tags["blemish.digest"] != "0" * 64


@pytest.mark.parametrize(("status", "remedy"), [(401, "MLFLOW_TRACKING_TOKEN"), (403, "rights")])
def test_a_server_that_refuses(client, detector, monkeypatch, status, remedy):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_address[1]}")
        with raises("no-network.refused", status, remedy):
            register(detector, "cars")
        server.shutdown()
    with raises("no-network.unreachable", "MLFLOW_TRACKING_URI"):
        register(detector, "cars")


def test_without_mlflow_the_extra_is_named(detector, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with raises("missing-extra", "mlflow"):
        register(detector, "cars")


def test_push_command(client, detector):
    def push(*arguments):
        return CliRunner().invoke(cli.build_app(["push"]), ["push", str(detector), *arguments])

    done = push("--to", "mlflow:cars")
    assert done.exit_code == 0 and "mlflow:cars/1" in done.output
    for arguments in ((), ("--to", "mlflow:cars", "--repo-id", "a/b"), ("--to", "s3://x")):
        assert getattr(push(*arguments).exception, "code", "") == "bad-input.push-target", arguments
    assert push("--to", "mlflow:cars", "--private").exception.code == "bad-input.push-option"
    assert "hf://ada/cars" in push("--to", "hf://ada/cars", "--card").output


def test_loading_needs_no_torch(client, detector):
    register(detector, "cars")
    code = (
        "import sys, mlflow, pandas\n"
        "model = mlflow.pyfunc.load_model('models:/cars/1')\n"
        f"model.predict(pandas.DataFrame({{'image': [{PHOTO!r}]}}))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
