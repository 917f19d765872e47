"""Read a run of MLflow's tracking store."""

from __future__ import annotations

from typing import Any

import yaml

from blemish.hub.mlflow_client import import_mlflow, mlflow_calls, tracking_address

RUN_SCHEME = "runs:/"  # MLflow's own


def read_mlflow_run(address: str) -> tuple[str, dict[str, float], int | None, dict[str, Any]]:
    """Return the name, the metrics of the best epoch, that epoch and the parameters of a run.

    Args:
        address: `runs:/ID`.

    Returns:
        Metrics are the last ones, and no epoch is known, for runs that Blemish did not log. Parameters that
        are YAML, as numbers are, have their types.

    Raises:
        BadInput: there is no such run ("bad-input.mlflow-missing").
        MissingExtra: MLflow is not installed.
        NoNetwork: the server cannot be reached, or refuses.
    """
    mlflow = import_mlflow("runs of MLflow")
    run_id = address.removeprefix(RUN_SCHEME).strip("/")
    with mlflow_calls(address):
        client = mlflow.MlflowClient(tracking_address())
        run = client.get_run(run_id)
        metrics = dict(run.data.metrics)
        best = metrics.pop("best_epoch", None)
        for name in list(metrics):
            if best is not None and name.startswith("best_"):
                del metrics[name]
            elif best is not None:
                at_best = [m.value for m in client.get_metric_history(run_id, name) if m.step == best]
                metrics[name] = at_best[-1] if at_best else metrics[name]
    settings = {key: _value(text) for key, text in run.data.params.items()}
    return run.info.run_name or run_id, metrics, None if best is None else int(best), settings


def _value(text: str) -> Any:
    """Return a parameter with its type: MLflow stores what Python's `str` gives."""
    if text in ("None", "True", "False"):
        return {"None": None, "True": True, "False": False}[text]
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return text if value is None else value
