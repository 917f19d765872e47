"""Sources of shards: folders, tar files, lists, and stores through fsspec."""

import json
import os
from importlib import import_module
from typing import Any

import pytest
from tests.archives.conftest import image_bytes, web_members, write_tar
from tests.archives.test_predict_shards import rows, run

from blemish.archives.manifest import Manifest
from blemish.archives.remote import read_remote
from blemish.archives.run import predict_archive
from blemish.archives.shard_files import ShardFormat
from blemish.archives.source_list import UnitKind, list_units, write_listing
from blemish.archives.worker import Job
from blemish.errors import NoNetwork
from blemish.testing import raises


def addresses(*sources, stdin=None):
    return [unit.address for unit in list_units([str(s) for s in sources], stdin)]


def paths_of(folder):
    return [json.loads(line)["path"] for line in rows(folder)]


@pytest.fixture
def mixed(tmp_path):
    """A folder with images, one of an unsupported format, tar files, and other files."""
    folder = tmp_path / "mixed"
    (folder / "deep").mkdir(parents=True)
    for name in ("10.png", "2.png", "deep/1.png"):
        (folder / name).write_bytes(image_bytes(len(name)))
    for name in ("phone.heic", "notes.txt", ".hidden.png", "2.blemish.jpg"):
        (folder / name).write_bytes(b"x")
    write_tar(folder / "cells-0.tar", web_members(0, 3))
    write_tar(folder / "cells-1.tar", web_members(3, 2))
    return folder


EXPECTED = ["2.png", "10.png", "cells-0.tar", "cells-1.tar", "phone.heic", "deep/1.png"]


def test_list_units_of_a_folder(mixed):
    units = list(list_units([str(mixed)]))
    assert [unit.address for unit in units] == [str(mixed / name) for name in EXPECTED]
    assert [unit.kind for unit in units].count(UnitKind.TAR) == 2
    assert units[0].size == (mixed / "2.png").stat().st_size


def test_list_units_of_patterns_and_standard_input(mixed, tmp_path):
    assert addresses(mixed / "*.tar") == [str(mixed / f"cells-{i}.tar") for i in (0, 1)]
    assert addresses("-", stdin=[f"{mixed}/2.png\n", "gone.png\n"]) == [f"{mixed}/2.png", "gone.png"]
    (tmp_path / "empty").mkdir()
    with raises("bad-input.no-images"):
        addresses(mixed, tmp_path / "empty")


def test_predict_archive_reads_tar_files(mixed, model, tmp_path):
    result = run(mixed, "-m", model, "--output-shards", tmp_path / "out")
    assert result.exit_code == 1
    members = [f"cells-0.tar/{n:04d}.png" for n in range(3)] + [f"cells-1.tar/{n:04d}.png" for n in (3, 4)]
    names = ["2.png", "10.png", *members, "phone.heic", "deep/1.png"]
    assert paths_of(tmp_path / "out") == [(mixed / name).as_posix() for name in names]
    assert len(list((tmp_path / "out").glob("shard-*"))) == 2  # one per tar file


def test_predict_archive_of_a_tar_file_equals_that_of_a_folder(model, tmp_path):
    members = web_members(0, 4)
    write_tar(tmp_path / "cells.tar", members)
    (tmp_path / "cells").mkdir()
    for name, content in members:
        (tmp_path / "cells" / name).write_bytes(content)
    for source in ("cells.tar", "cells"):
        assert (
            run(tmp_path / source, "-m", model, "--output-shards", tmp_path / f"of-{source}").exit_code == 0
        )
    streamed = [line.replace("cells.tar/", "cells/") for line in rows(tmp_path / "of-cells.tar")]
    assert streamed == rows(tmp_path / "of-cells")


@pytest.mark.parametrize(("count", "shards"), [(1, 1), (7, 7), (10, 3), (1000, 999)])
def test_manifest_plan_divides_the_units(tmp_path, count, shards):
    listing = _listing(tmp_path, count)
    plan = Manifest.plan({}, listing, shards, ShardFormat.JSONL).shards
    assert [shard.first for shard in plan] == [sum(s.units for s in plan[:i]) for i in range(shards)]
    assert sum(shard.units for shard in plan) == count
    assert max(s.units for s in plan) - min(s.units for s in plan) <= 1


@pytest.mark.parametrize(
    ("count", "tars", "shards"), [(1, 0, 1), (1001, 0, 2), (20, 15, 15), (5_000_000, 0, 1000)]
)
def test_manifest_plan_default(tmp_path, count, tars, shards):
    assert len(Manifest.plan({}, _listing(tmp_path, count, tars), None, ShardFormat.JSONL).shards) == shards


def _listing(tmp_path, count, tars=0):
    from blemish.archives.source_list import Listing

    return Listing(tmp_path / "sources.jsonl", count, tars, "digest")


def test_parquet_shards_contain_the_rows_of_json_lines(photos, model, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for shard_format in ("jsonl", "parquet"):
        options = ("--shards", 3, "--shard-format", shard_format)
        run(photos, "-m", model, "--output-shards", tmp_path / shard_format, *options)
    table = parquet.read_table(sorted((tmp_path / "parquet").glob("*.parquet")))
    assert table["document"].to_pylist() == rows(tmp_path / "jsonl")
    first, damaged = table.to_pylist()[0], table.to_pylist()[8]
    document = json.loads(rows(tmp_path / "jsonl")[0])
    assert first["labels"] == [
        {k: v for k, v in row.items() if k != "display_name"} for row in document["labels"]
    ]
    assert (first["height"], first["width"], first["error_code"], first["detections"]) == (12, 16, None, None)
    assert damaged["error_code"].startswith("image-undecodable") and damaged["labels"] is None


def test_parquet_shards_contain_detections(model, tmp_path, photos, tiny):
    from blemish.archives.shard_files import arrow_table

    pytest.importorskip("pyarrow")
    detection = {
        "label": "dent",
        "score": 0.5,
        "positive": True,
        "reliable": True,
        "box_xyxy": [0.0, 1.0, 2.0, 3.0],
    }
    table = arrow_table(
        [json.dumps({"path": "a\udcff.png", "detections": [{**detection, "area": 3}, detection]})]
    )
    row = table.to_pylist()[0]
    assert row["detections"] == [{**detection, "area": 3}, {**detection, "area": None}]
    assert row["path"] == "a\\udcff.png"


@pytest.fixture
def memory(mixed):
    """The folder `mixed` in fsspec's store in memory."""
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    for path in mixed.rglob("*"):
        if path.is_file():
            store.pipe_file(f"/claims/{path.relative_to(mixed).as_posix()}", path.read_bytes())
    yield "memory://claims"
    store.rm("/claims", recursive=True)


def test_list_units_of_a_store(memory):
    assert addresses(memory) == [f"memory:///claims/{name}" for name in EXPECTED]
    assert addresses(f"{memory}/deep/1.png") == ["memory:///claims/deep/1.png"]
    assert addresses(f"{memory}/*.tar") == ["memory:///claims/cells-0.tar", "memory:///claims/cells-1.tar"]


def test_predict_archive_of_a_store_equals_that_of_the_folder(memory, mixed, model, tmp_path):
    run(mixed, "-m", model, "--output-shards", tmp_path / "local", "--shards", 3)
    assert run(memory, "-m", model, "--output-shards", tmp_path / "out", "--shards", 3).exit_code == 1
    remote = [line.replace("memory:///claims", mixed.as_posix()) for line in rows(tmp_path / "out")]
    assert remote == rows(tmp_path / "local")


@pytest.mark.parametrize(
    ("address", "code"),
    [("memory://claims/none", "bad-input.not-found"), ("nothing://x", "bad-input.url")],
)
def test_list_units_of_a_wrong_url(memory, address, code):
    with raises(code):
        addresses(address)


def test_predict_archive_names_an_object_that_is_gone(memory, model, tmp_path, monkeypatch):
    def list_then_delete(*arguments):
        listing = write_listing(*arguments)
        import_module("fsspec").filesystem("memory").rm("/claims/10.png")
        return listing

    monkeypatch.setattr("blemish.archives.run.write_listing", list_then_delete)
    assert run(memory, "-m", model, "--output-shards", tmp_path / "out").exit_code == 1
    row = json.loads(rows(tmp_path / "out")[1])
    assert row["error"]["code"] == "bad-image.no-such-file"
    assert row["path"] == "memory:///claims/10.png" and "memory:///claims/10.png" in row["error"]["message"]


def test_predict_archive_stops_when_the_store_is_gone_and_resumes(memory, model, tmp_path, monkeypatch):
    run(memory, "-m", model, "--output-shards", tmp_path / "whole", "--shards", 3)

    def fail(address):
        if address.endswith("deep/1.png"):
            raise NoNetwork("the store is gone", reason="store")
        return read_remote(address)

    worker = Job(model=str(model)).load()
    with monkeypatch.context() as patch:
        patch.setattr("blemish.archives.worker.read_remote", fail)
        with raises("no-network.store"):
            predict_archive(worker, [memory], tmp_path / "out", shards=3)
    assert len(list((tmp_path / "out").glob("shard-*"))) == 2
    summary = predict_archive(worker, [memory], tmp_path / "out", resume=True)
    assert summary.reused_shards == 2
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")


@pytest.fixture(scope="module")
def s3_server():
    """The URL of a local server of moto, with an empty bucket `archive`."""
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = server_module.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in keys}
    os.environ.update(keys)
    s3fs: Any = import_module("s3fs")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("archive")
    yield keys["AWS_ENDPOINT_URL"]
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_predict_archive_of_s3_equals_that_of_the_folder(s3_server, mixed, model, tmp_path):
    s3fs: Any = import_module("s3fs")
    s3fs.S3FileSystem().put(str(mixed), "archive/claims", recursive=True)
    source = "s3://archive/claims/"
    assert addresses(source) == [f"s3://archive/claims/{name}" for name in EXPECTED]
    run(mixed, "-m", model, "--output-shards", tmp_path / "local", "--shards", 3)
    assert run(source, "-m", model, "--output-shards", tmp_path / "out", "--shards", 3).exit_code == 1
    remote = [line.replace("s3://archive/claims", mixed.as_posix()) for line in rows(tmp_path / "out")]
    assert remote == rows(tmp_path / "local")

    run("s3://archive/claims/cells-0.tar", "-m", model, "--output-shards", tmp_path / "tar")
    assert paths_of(tmp_path / "tar") == [f"s3://archive/claims/cells-0.tar/{n:04d}.png" for n in range(3)]
    s3fs.S3FileSystem().pipe_file("archive/claims/2.png", image_bytes(99))
    changed = run(source, "-m", model, "--output-shards", tmp_path / "out", "--resume")
    assert changed.exception.code == "bad-input.other-options"
    with raises("bad-input.not-found"):
        addresses("s3://archive/none/")
    with raises("bad-input.not-found"):
        addresses("s3://no-bucket/none/")
