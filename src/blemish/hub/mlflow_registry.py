"""Register a model file in MLflow's model registry, and fetch registered ones."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish._version import __version__
from blemish.data.user_cache import cache_folder
from blemish.errors import BadInput, BadModelFile
from blemish.hub.address import MLFLOW_SCHEME
from blemish.hub.mlflow_client import import_mlflow, mlflow_calls, tracking_address
from blemish.hub.settings import flatten
from blemish.model_file import Contract, ModelFile, read_model_file
from blemish.model_file.metric_summary import summarize_metrics

PYFUNC_MODULE = "blemish.contrib.mlflow_model"  # what MLflow imports to load a registered model
LOGGERS_NAME = "loggers.json"  # in a run's folder: the runs of trackers that it was logged to
EXPERIMENT = "blemish"  # of a model file whose training was not logged
DIGEST_TAG = "blemish.digest"
_PURPOSE = "the MLflow registry"
_MAX_METRICS = 50
_PATTERN = re.compile(r"mlflow:([^/:@\s]+)(?:/(\d+)|@([\w.-]+))?")


@dataclass(frozen=True)
class MlflowAddress:
    """The address of a registered model.

    Attributes:
        name: of the registered model.
        version: its version; None for the newest one.
        alias: an alias of a version, such as `champion`.
    """

    name: str
    version: str | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> MlflowAddress:
        """Return the parts of `mlflow:NAME`, `mlflow:NAME/VERSION` or `mlflow:NAME@ALIAS`.

        Raises:
            BadInput: not such an address ("bad-input.mlflow-address").

        Example:
            >>> MlflowAddress.parse("mlflow:cars/3")
            MlflowAddress(name='cars', version='3', alias=None)
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise BadInput(
                f"{text}: expected mlflow:NAME, mlflow:NAME/VERSION or mlflow:NAME@ALIAS",
                reason="mlflow-address",
            )
        return cls(*match.groups())

    def __str__(self) -> str:
        version = f"/{self.version}" if self.version else f"@{self.alias}" if self.alias else ""
        return f"{MLFLOW_SCHEME}{self.name}{version}"


def register(file: Path, name: str) -> MlflowAddress:
    """Register a model file as a new version of a model; its explanation graph goes with it.

    The version belongs to MLflow's run of the training, if the run's folder names one of the same server, and
    else to a new run with the recipe and the metrics of the contract. MLflow loads it as a `pyfunc` model
    without PyTorch; no code of the file is executed.

    Args:
        file: a model file.
        name: of the registered model; it is created if it does not exist.

    Returns:
        The address of the new version.

    Raises:
        BadInput: MLflow refuses the name.
        BadModelFile: `file` is not a model file.
        MissingExtra: MLflow is not installed.
        NoNetwork: the server cannot be reached, or refuses.
    """
    model_file = read_model_file(file)
    address = MlflowAddress.parse(f"{MLFLOW_SCHEME}{name}")
    if address.version or address.alias:
        raise BadInput(f"{address}: expected a name, without version and alias", reason="mlflow-address")
    mlflow = import_mlflow(_PURPOSE)
    with mlflow_calls(str(address)), tempfile.TemporaryDirectory() as folder:
        client = mlflow.MlflowClient(tracking_address(), registry_uri=tracking_address())
        _create_model(client, mlflow, address.name)
        run_id = _logged_run(file.parent) or _create_run(client, model_file)
        package = Path(folder) / f"model-{model_file.digest[:12]}"
        _save_pyfunc(package, model_file)
        client.log_artifacts(run_id, str(package), package.name)
        version = client.create_model_version(
            address.name,
            f"{client.get_run(run_id).info.artifact_uri}/{package.name}",
            run_id,
            tags=version_tags(model_file),
            description=f"A {model_file.contract.task} model ({model_file.contract.architecture}).",
        )
    return MlflowAddress(address.name, str(version.version))


def version_tags(model_file: ModelFile) -> dict[str, str]:
    """Return the tags of a registered version: what it is, and what it was trained with."""
    contract = model_file.contract
    tags = {
        DIGEST_TAG: model_file.digest,
        "blemish.name": contract.name,
        "blemish.architecture": contract.architecture,
        "blemish.task": str(contract.task),
        "blemish.seed": str(contract.training.get("seed", "")),
        "blemish.data": str(contract.data.get("name", "")),
        "blemish.version": contract.blemish_version,
        "blemish.certified": str(contract.certificate is not None and contract.certificate.passed).lower(),
        "blemish.license_weights": contract.licenses.weights,
        "blemish.license_data": contract.licenses.data,
    }
    return {name: value for name, value in tags.items() if value}


def fetch(address: MlflowAddress) -> Path:
    """Return the model file of a registered version in the cache; it is downloaded once.

    Raises:
        BadInput: there is no such model or version, or Blemish did not register it
            ("bad-input.mlflow-foreign").
        BadModelFile: the file is damaged ("bad-model-file.wrong-digest").
        MissingExtra: MLflow is not installed.
        NoNetwork: the server cannot be reached, or refuses.
    """
    mlflow = import_mlflow(_PURPOSE)
    with mlflow_calls(str(address)):
        client = mlflow.MlflowClient(tracking_address(), registry_uri=tracking_address())
        version = _find_version(client, address)
        digest = str(version.tags.get(DIGEST_TAG, ""))
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise BadInput(
                f"{address}: version {version.version} was not registered by `blemish push`, which tags "
                f"{DIGEST_TAG}. Give another version",
                reason="mlflow-foreign",
            )
        cache = cache_folder() or Path(tempfile.mkdtemp(prefix="blemish-"))
        target = cache / "mlflow" / digest
        if target.is_dir() and _sha256(kept := find_model(target)) == digest:
            return kept
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            source = client.get_model_version_download_uri(version.name, version.version)
            package = Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=source, dst_path=folder, tracking_uri=tracking_address()
                )
            )
            found = find_model(package / "data" / "files")
            if _sha256(found) != digest:
                raise BadModelFile(
                    f"{address}: the file is damaged: its SHA-256 is not that of version {version.version}; "
                    "register it again",
                    reason="wrong-digest",
                )
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(found.parent, target)
    return target / found.name


def _create_model(client: Any, mlflow: Any, name: str) -> None:
    try:
        client.create_registered_model(name)
    except mlflow.exceptions.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _logged_run(folder: Path) -> str | None:
    """Return MLflow's run of the training in a folder, if it was logged to the same store."""
    try:
        entries = json.loads((folder / LOGGERS_NAME).read_bytes()).values()
    except (OSError, ValueError, AttributeError):
        return None
    runs = (e["run_id"] for e in entries if e.get("run_id") and e.get("tracking_uri") == tracking_address())
    return next(runs, None)


def _create_run(client: Any, model_file: ModelFile) -> str:
    """Create a finished run with the recipe and the metrics of a model file, and return its identifier."""
    contract = model_file.contract
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    run = client.create_run(
        experiment_id, run_name=contract.name or None, tags={"blemish.model": contract.architecture}
    )
    run_id = str(run.info.run_id)
    for key, value in flatten(contract.recipe):
        client.log_param(run_id, key, str(value)[:6000])
    for summary in summarize_metrics(contract, _MAX_METRICS):
        split = re.sub(r"[^\w/ .-]", "", summary.split)
        for metric in summary.metrics:
            client.log_metric(run_id, f"{split}/{metric.name}", metric.value)
    client.set_terminated(run_id)
    return run_id


def _save_pyfunc(package: Path, model_file: ModelFile) -> None:
    from importlib import import_module

    pyfunc: Any = import_module("mlflow.pyfunc")
    contract = model_file.contract
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "files"
        files.mkdir()
        for path in (model_file.path, model_file.path.with_suffix(".explain.onnx")):
            if path.is_file():
                shutil.copyfile(path, files / path.name)
        pyfunc.save_model(
            str(package),
            loader_module=PYFUNC_MODULE,
            data_path=str(files),
            signature=contract_signature(contract),
            pip_requirements=[f"blemish=={__version__}"],
            metadata={
                "digest": model_file.digest,
                "task": str(contract.task),
                "architecture": contract.architecture,
                "labels": [label.name for label in contract.labels],
                "thresholds": dict(contract.thresholds),
                "format_version": contract.format_version,
            },
        )


def contract_signature(contract: Contract) -> Any:
    """Return the contract as MLflow's signature: image files in, one row of results per image out."""
    from importlib import import_module

    types: Any = import_module("mlflow.types.schema")
    signatures: Any = import_module("mlflow.models.signature")
    kind, column, item = types.DataType, types.ColSpec, types.Property
    detection = types.Object(
        [
            item("label", kind.string),
            item("score", kind.double),
            item("box_xyxy", types.Array(kind.double)),
        ]
    )
    outputs = [column(types.Array(kind.string), "labels")]
    if contract.labels:
        scores = types.Object([item(label.name, kind.double) for label in contract.labels])
        outputs.append(column(scores, "label_scores"))
    if contract.task.has_boxes:
        outputs.append(column(types.Array(detection), "detections"))
    outputs.append(column(kind.string, "json"))
    inputs = types.Schema([column(kind.binary, "image")])
    return signatures.ModelSignature(inputs=inputs, outputs=types.Schema(outputs))


def _find_version(client: Any, address: MlflowAddress) -> Any:
    if address.version is not None:
        return client.get_model_version(address.name, address.version)
    if address.alias is not None:
        return client.get_model_version_by_alias(address.name, address.alias)
    client.get_registered_model(address.name)  # raises if there is none
    versions = client.search_model_versions(f"name='{address.name}'")
    if not versions:
        raise BadInput(f"{address}: the model has no versions", reason="mlflow-missing")
    return max(versions, key=lambda version: int(version.version))


def find_model(folder: Path) -> Path:
    """Return the model file among the files of a registered version.

    Raises:
        BadModelFile: there is none, or several ("bad-model-file.registered-files").
    """
    models = [p for p in sorted(folder.glob("*.onnx")) if not p.name.endswith(".explain.onnx")]
    if len(models) != 1:
        raise BadModelFile(
            f"{folder}: expected one model file, got {len(models)}; register the model again",
            reason="registered-files",
        )
    return models[0]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
