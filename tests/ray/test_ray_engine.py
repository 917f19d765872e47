"""Predictions on local Ray clusters. They run in processes of their own: Ray starts servers and threads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.archives.conftest import image_bytes, web_members, write_tar
from tests.archives.test_predict_shards import content, rows, run

from blemish.commands.shard_options import EngineName

SOURCE = str(Path(__file__).parents[2] / "src")

# Two nodes of a processor each; the second one is killed when the first shard is complete.
TWO_NODES = """
import json, sys
import ray
from ray._private.state import actors
from ray.cluster_utils import Cluster
from blemish.archives import Job, predict_archive
from blemish.ray import RayEngine

photos, model, folder = sys.argv[1:]
size = 100_000_000
cluster = Cluster(
    initialize_head=True, connect=True,
    head_node_args={"num_cpus": 1, "object_store_memory": size, "include_dashboard": False},
)
second = cluster.add_node(num_cpus=1, object_store_memory=size)
cluster.wait_for_nodes()
alive = []

def kill(progress):
    if progress.shards == 1 and not alive:
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        workers = [actor for actor in actors().values() if actor["State"] == "ALIVE"]
        alive.append((len(nodes), len({actor["Address"]["NodeID"] for actor in workers})))
        cluster.remove_node(second, allow_graceful=False)

try:
    worker = Job(model=model, threads=1).load()
    engine = RayEngine(worker, workers=2)
    summary = predict_archive(worker, [photos], folder, shards=16, engine=engine, on_progress=kill)
    print(json.dumps({"before": alive, "after": sum(n["Alive"] for n in ray.nodes()), "rows": summary.rows}))
finally:
    ray.shutdown()
    cluster.shutdown()
"""

DATASET = """
import json, sys
import ray
ray.init("local", num_cpus=2, object_store_memory=100_000_000, include_dashboard=False)
import blemish.ray
from blemish.errors import BlemishError

photos, model = sys.argv[1:]
paths = sorted(str(p) for p in __import__("pathlib").Path(photos).rglob("*.png"))
by_path = ray.data.from_items([{"path": path, "claim": number} for number, path in enumerate(paths)])
by_bytes = ray.data.read_binary_files(paths, include_paths=True)
good = [path for path in paths if not path.endswith("b/2.png")]
by_pixels = ray.data.read_images(good, include_paths=True, mode="RGB")
out = {
    name: sorted(blemish.ray.predict(data, model, workers=1).take_all(), key=lambda row: row["path"])
    for name, data in (("path", by_path), ("bytes", by_bytes), ("pixels", by_pixels))
}
for name, call in (("columns", lambda: blemish.ray.predict(ray.data.from_items([{"x": 1}]), model)),
                   ("option", lambda: blemish.ray.predict(by_path, model, min_scores=0.3))):
    try:
        call()
    except BlemishError as error:
        out[name] = error.code
print(json.dumps(out))
"""


def start(code, *arguments):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    environment = {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": "/tmp"}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout, done.stderr
    return done


@pytest.mark.parametrize(
    "arguments", [["--engine", "ray"], ["--workers", "2"], ["--workers", "2", "--output-shards", "out"]]
)
def test_predict_refuses_ray_options_without_shards_or_ray(photos, model, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    result = run(photos, "-m", model, *arguments)
    assert result.exception.code in ("bad-input.shards", "bad-input.workers")
    assert str(EngineName.RAY) == "ray"


@pytest.mark.slow
def test_predict_engine_ray_equals_the_local_engine(photos, model, tmp_path):
    write_tar(photos / "cells.tar", web_members(0, 5))
    shared = ("predict", photos, "-m", model, "--threads", 1, "--shards", 5)
    main = "from blemish.cli import main; main()"
    assert start(main, *shared, "--output-shards", tmp_path / "local").returncode == 1
    more = ("--output-shards", tmp_path / "ray", "--engine", "ray", "--workers", 2)
    done = start(main, *shared, *more)
    assert done.returncode == 1 and "1 failed" in done.stdout
    assert content(tmp_path / "ray") == content(tmp_path / "local")


@pytest.mark.slow
def test_predict_engine_ray_survives_the_death_of_a_node(model, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "0.png").write_bytes(image_bytes(0, size_hw=(1500, 2000)))
    for number in range(1, 160):
        (folder / f"{number}.png").hardlink_to(folder / "0.png")
    local = run(folder, "-m", model, "--threads", 1, "--output-shards", tmp_path / "local", "--shards", 16)
    assert local.exit_code == 0
    done = start(TWO_NODES, folder, model, tmp_path / "ray")
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts == {"before": [[2, 2]], "after": 1, "rows": 160}
    assert content(tmp_path / "ray") == content(tmp_path / "local")


@pytest.mark.slow
def test_ray_predict_of_datasets(photos, model, tmp_path):
    run(photos, "-m", model, "--threads", 1, "--output-shards", tmp_path / "local")
    out = json.loads(start(DATASET, photos, model).stdout.splitlines()[-1])
    expected = {row["path"]: row for row in map(json.loads, rows(tmp_path / "local"))}
    assert [row["path"] for row in out["path"]] == sorted(expected)
    assert [row["claim"] for row in out["path"]] == list(range(14))
    for row in out["path"] + out["bytes"] + out["pixels"]:
        assert json.loads(row["document"]) == expected[row["path"]]
    assert (out["columns"], out["option"]) == ("bad-input.columns", "unknown-name.option")
