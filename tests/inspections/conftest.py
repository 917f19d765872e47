"""Stores on SQLite and on PostgreSQL; every test of the store runs on both."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")


def postgres_binary(name):
    found = [*Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), *filter(None, [shutil.which(name)])]
    return str(found[0]) if found else None


class Server:
    """A PostgreSQL server of one test session, on a socket in a folder."""

    def __init__(self, folder):
        self.folder, self.number = folder, 0
        # The server refuses to run as root.
        self.user = "postgres" if hasattr(os, "geteuid") and os.geteuid() == 0 else None
        if self.user:
            shutil.chown(folder, self.user)
        self.run("initdb", "-D", folder / "data", "-U", "blemish", "-A", "trust", "--no-sync")
        self.start()

    def run(self, name, *arguments):
        command = [postgres_binary(name), *map(str, arguments)]
        done = subprocess.run(
            command,
            user=self.user,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr.decode()}")

    def start(self):
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off"
        log = self.folder / "log"
        self.run("pg_ctl", "-D", self.folder / "data", "-l", log, "-o", options, "-w", "start")

    def stop(self, mode="immediate"):
        self.run("pg_ctl", "-D", self.folder / "data", "-m", mode, "-w", "stop")

    def new_database(self):
        self.number += 1
        name = f"store{self.number}"
        self.run("createdb", "-h", self.folder, "-U", "blemish", name)
        return f"postgresql://blemish@/{name}?host={self.folder}"


@pytest.fixture(scope="session")
def postgres():
    if postgres_binary("initdb") is None:
        pytest.skip("PostgreSQL's server (initdb, pg_ctl) is not installed")
    pytest.importorskip("psycopg")
    if sys.platform == "win32":
        pytest.skip("the tests start PostgreSQL on a Unix socket")
    # Not below pytest's folder, which only the user of the tests can enter; and a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="blemish-pg-", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder))
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    """The URL of an empty database, or None for SQLite."""
    return request.getfixturevalue("postgres").new_database() if request.param == "postgresql" else None


@pytest.fixture
def store(tmp_path, database):
    from blemish.inspections.store import InspectionStore

    with InspectionStore.open(tmp_path / "store", database=database, create=True) as store:
        yield store


@pytest.fixture
def sqlite_store(tmp_path):
    from blemish.inspections.store import InspectionStore

    with InspectionStore.open(tmp_path / "store", create=True) as store:
        yield store


def image_bytes(seed=0, size=(64, 48)):
    import io

    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Case:
    """An inspection with images and one run of a model."""

    def __init__(self, store, *, images=2, rules=None, views=("front", "rear")):
        from blemish.inspections.finding_records import NewFinding, NewRun

        self.store = store
        self.asset = store.assets.create("vehicle", "B-XY 12")
        self.inspection = store.inspections.create(self.asset.id, required_views=views, severity=rules)
        self.images = [
            store.images.add(self.inspection.id, image_bytes(i), file_name=f"{i}.png", view=view)
            for i, view in zip(range(images), [*views, *[""] * images], strict=False)
        ]
        findings = [
            NewFinding(image_id=image.id, label="dent", score=0.9, box_xyxy=[4, 4, 36, 28])
            for image in self.images
        ]
        run = NewRun(
            model_digest="a" * 64,
            model_name="cars.onnx",
            task="detection",
            labels=["dent", "scratch"],
            parameters={"thresholds": {"dent": 0.5, "scratch": 0.5}},
            images=[{"image_id": image.id, "error": None} for image in self.images],
        )
        self.run = store.findings.add_run(self.inspection.id, run, findings)
        self.findings = store.findings.of_inspection(self.inspection.id)


@pytest.fixture
def case(store):
    from blemish.inspections.severity import load_rules

    return Case(store, rules=load_rules("vehicle"))
