"""The manifests of examples/ are valid, and name routes, variables and metrics that the service has."""

import importlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import blemish
from blemish import cli
from blemish.service.app import create_app
from blemish.service.server import DRAIN_SECONDS
from blemish.service.settings import Settings
from tests.service.conftest import get, image, post, running, write_classifier

EXAMPLES = Path(__file__).parents[1] / "examples"
KUBERNETES, KSERVE = EXAMPLES / "kubernetes", EXAMPLES / "kserve"
MANIFESTS = ("deployment.yaml", "service.yaml", "autoscaler.yaml", "disruption-budget.yaml")
VERSION = "1.33"


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def serve_options():
    """The options and the environment variables of `blemish serve`."""
    commands: Any = typer.main.get_command(cli.build_app(["serve"]))
    command = commands.commands["serve"]
    options = {name for parameter in command.params for name in parameter.opts}
    return options, {parameter.envvar for parameter in command.params if parameter.envvar}


def containers():
    yield read(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]["containers"][0]
    yield read(KSERVE / "serving-runtime.yaml")["spec"]["containers"][0]


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_follow_the_schema_of_kubernetes(name):
    validate = pytest.importorskip("kubernetes_validate").validate
    validate(read(KUBERNETES / name), VERSION, strict=True)


def test_a_wrong_manifest_does_not_follow_the_schema():
    package = pytest.importorskip("kubernetes_validate")
    manifest = read(KUBERNETES / "deployment.yaml")
    manifest["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    with pytest.raises(package.ValidationError):
        package.validate(manifest, VERSION, strict=True)


def test_the_container_of_kserve_follows_the_schema_of_kubernetes():
    validate = pytest.importorskip("kubernetes_validate").validate
    container = read(KSERVE / "serving-runtime.yaml")["spec"]["containers"][0]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container]}}
    validate(pod, VERSION, strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kustomize_builds_every_manifest():
    command = ["kubectl", "kustomize", str(KUBERNETES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    built = list(yaml.safe_load_all(done.stdout))
    assert len(built) == len(MANIFESTS)
    (deployment,) = (m for m in built if m["kind"] == "Deployment")
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.startswith("registry.example.org/blemish:")


def test_selectors_fit_the_labels_of_the_pods():
    deployment = read(KUBERNETES / "deployment.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert read(KUBERNETES / "service.yaml")["spec"]["selector"] == labels
    assert read(KUBERNETES / "disruption-budget.yaml")["spec"]["selector"]["matchLabels"] == labels
    target = read(KUBERNETES / "autoscaler.yaml")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (deployment["kind"], deployment["metadata"]["name"])
    runtime, service = (read(KSERVE / f"{n}.yaml") for n in ("serving-runtime", "inference-service"))
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in {f["name"] for f in runtime["spec"]["supportedModelFormats"]}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


def test_manifests_use_what_serve_has():
    options, variables = serve_options()
    for container in containers():
        assert container["args"][0] == "serve"
        assert {a for a in container["args"] if a.startswith("--")} <= options
        assert {entry["name"] for entry in container["env"]} <= variables
    pod = read(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= DRAIN_SECONDS + pause
    (metric,) = read(KUBERNETES / "autoscaler.yaml")["spec"]["metrics"]
    average = float(metric["pods"]["target"]["averageValue"])
    assert 1 <= average < Settings().queue_size, "pods are added before the queue is full"


def test_probes_and_the_metric_of_the_autoscaler_exist(tmp_path):
    write_classifier(tmp_path / "car.onnx")
    probes = {
        probe["httpGet"]["path"]
        for container in containers()
        for name, probe in container.items()
        if name.endswith("Probe")
    }
    assert len(probes) == 4
    (metric,) = read(KUBERNETES / "autoscaler.yaml")["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    (rule,) = read(KUBERNETES / "prometheus-adapter.yaml")["rules"]["custom"]
    assert name == rule["name"]["as"] and f"{name}{{" in rule["metricsQuery"]
    with running(create_app({"car": tmp_path / "car.onnx"}, Settings(), threads=1)) as address:
        for path in probes:
            assert get(f"{address}{path}").status_code == 200, path
        text = get(f"{address}/metrics").text
    assert re.search(rf'^{name}{{model="car"}} 0', text, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray
def test_ray_serve_answers_as_predict(tmp_path, monkeypatch):
    serve = pytest.importorskip("ray.serve", exc_type=ImportError)
    ray: Any = importlib.import_module("ray")

    monkeypatch.syspath_prepend(EXAMPLES / "ray_serve")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    package = Path(blemish.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{EXAMPLES / 'ray_serve'}{os.pathsep}{package}")
    write_classifier(tmp_path / "car.onnx")
    photo = image((250, 0, 0))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        application = importlib.import_module("blemish_ray_serve").app({"model": str(tmp_path / "car.onnx")})
        serve.run(application)
        answer = post("http://127.0.0.1:8000/", content=photo)
        assert answer.json() == json.loads(
            json.dumps(blemish.predict(tmp_path / "car.onnx", photo).to_dict())
        )
        refused = post("http://127.0.0.1:8000/", content=b"no image")
        assert (refused.status_code, refused.json()["error"]["code"]) == (
            422,
            "image-undecodable.unsupported-format",
        )
    finally:
        serve.shutdown()
        ray.shutdown()
