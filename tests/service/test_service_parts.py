"""Links, keys, counts and what is kept: each by itself."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from blemish.errors import BadInput
from blemish.service.api_keys import ApiKeys, key_of, new_key
from blemish.service.heatmaps import HeatmapService, HeatmapUnavailable
from blemish.service.result_links import LinkedResult, LinkStore
from blemish.service.retention import RetentionStore
from blemish.service.service_metrics import ServiceMetrics
from blemish.service.settings import Settings
from blemish.service.uploads import looks_like_image
from blemish.structures import Labels, Prediction, Task


def prediction():
    return Prediction(
        task=Task.CLASSIFICATION,
        labels=Labels(("a", "b")),
        label_index=np.array([0]),
        size_hw=(4, 4),
        scores=np.array([0.7]),
        label_scores=np.array([0.7, 0.3]),
        thresholds=np.array([0.5, 0.5]),
    )


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_links_expire():
    clock = Clock()
    shelf = LinkStore(10, 1_000_000, clock)
    tokens = shelf.put(LinkedResult(b"x" * 100, prediction()), ("photograph", "overlay"))
    record, kind = shelf.get(tokens["overlay"])
    assert (record.image[:1], kind) == (b"x", "overlay")
    clock.now = 9.99
    assert shelf.get(tokens["photograph"]) is not None
    clock.now = 10
    assert shelf.get(tokens["photograph"]) is None
    assert shelf.held == 0


def test_the_oldest_go_when_there_is_no_room():
    shelf = LinkStore(1000, 10_000, Clock())
    tokens = [
        shelf.put(LinkedResult(bytes(2000), prediction()), ("photograph",))["photograph"] for _ in range(50)
    ]
    alive = [shelf.get(token) is not None for token in tokens]
    assert alive == [False] * (50 - sum(alive)) + [True] * sum(alive)
    assert sum(alive) == 3
    assert shelf.held <= 10_000
    assert shelf.put(LinkedResult(bytes(20_000), prediction()), ("photograph",)) == {}
    assert sum(shelf.get(token) is not None for token in tokens) == 3
    shelf.clear()
    assert shelf.held == 0


def test_no_links_where_they_are_off():
    assert LinkStore(0, 10_000).put(LinkedResult(b"x", prediction()), ("photograph",)) == {}


def test_nothing_is_kept_unless_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keeper = RetentionStore(None, None)
    assert not keeper.keeps
    keeper.keep(b"x", {"sha256": "0" * 64})
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_goes_when_it_is_too_old_and_nothing_else_does(tmp_path):
    keeper = RetentionStore(tmp_path / "kept", 2)
    links = {"photograph": "/secret"}
    keeper.keep(
        b"photograph", {"sha256": "ab" * 32, "links": links, "map": None, "verdict": {"labels": ["a"]}}
    )
    files = sorted((tmp_path / "kept").iterdir())
    assert [f.suffix for f in files] == [".json", ".photograph"]
    assert json.loads(files[0].read_text()) == {"sha256": "ab" * 32, "verdict": {"labels": ["a"]}}
    theirs = tmp_path / "kept" / "holiday.jpg"
    theirs.write_bytes(b"x")
    for path in (*files, theirs):
        os.utime(path, (time.time() - 3 * 3600,) * 2)
    keeper.keep(b"new", {"sha256": "cd" * 32})
    keeper.sweep()
    left = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert len(left) == 3
    assert "holiday.jpg" in left
    assert not any("abababab" in name for name in left)


def test_a_folder_that_went_away_costs_no_answer_and_no_later_sweep(tmp_path, monkeypatch):
    keeper = RetentionStore(tmp_path / "kept", 2)
    keeper.keep(b"old", {"sha256": "ab" * 32})
    (tmp_path / "kept").rename(tmp_path / "away")
    keeper.sweep()
    (tmp_path / "away").rename(tmp_path / "kept")
    for path in (tmp_path / "kept").iterdir():
        os.utime(path, (time.time() - 3 * 3600,) * 2)
    keeper.sweep()
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_map_ends_after_a_look_once_the_server_stops(monkeypatch):
    maker = HeatmapService(Settings())
    looks = []

    class Looking:
        def default_method(self):
            return "occlusion"

        def explain(self, image, *, progress, **_):
            for done in range(100):
                looks.append(done)
                if done == 2:
                    maker.stop()
                progress(1)

    monkeypatch.setattr(maker, "_explainer", lambda predictor: Looking())
    with pytest.raises(HeatmapUnavailable, match="stopped"):
        maker.make(None, b"", prediction(), "a", 1e-3)
    assert looks == [0, 1, 2]


def test_keeping_needs_both_options(tmp_path):
    with pytest.raises(BadInput, match="--keep-hours"):
        Settings(keep_folder=tmp_path)
    with pytest.raises(BadInput, match="--keep FOLDER"):
        Settings(keep_hours=3)
    with pytest.raises(BadInput, match="queue_size is 0"):
        Settings(queue_size=0)


def test_keys_are_read_from_a_file_of_hashes(tmp_path):
    key, line = new_key("claims")
    other, second = new_key("fleet")
    path = tmp_path / "keys"
    path.write_text(f"# keys\n\n{line}\n  {second}  \n")
    keys = ApiKeys.from_file(path)
    assert keys.owner(key) == "claims"
    assert keys.owner(other) == "fleet"
    assert keys.owner(key + "x") is None
    assert key not in path.read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("claims plaintext\n", ":1: expected NAME SHA256"),
        ("", "no API key in it"),
        (f"a {'0' * 64}\na {'1' * 64}\n", ":2: the name 'a' stands twice"),
    ],
)
def test_a_bad_file_of_keys_is_named_with_its_line(tmp_path, text, said):
    (tmp_path / "keys").write_text(text)
    with pytest.raises(BadInput, match=said):
        ApiKeys.from_file(tmp_path / "keys")
    with pytest.raises(BadInput, match="cannot be read"):
        ApiKeys.from_file(tmp_path / "nothing")
    with pytest.raises(BadInput, match="no name for a key"):
        new_key("a b")


def test_where_a_request_carries_its_key():
    assert key_of({"authorization": "Bearer abc"}) == "abc"
    assert key_of({"authorization": "bearer  abc "}) == "abc"
    assert key_of({"x-api-key": " abc"}) == "abc"
    assert key_of({"authorization": "Basic abc"}) is None
    assert key_of({}) is None


def test_counts_as_prometheus_reads_them():
    telemetry = ServiceMetrics()
    for seconds in (0.0005, 0.02, 0.02, 100):
        telemetry.observe("t_seconds", "Time.", seconds, (0.001, 0.1), route='a"b\\')
    telemetry.gauge("t_now", "Now.", lambda: 3)
    lines = telemetry.text().splitlines()
    assert 't_seconds_bucket{le="0.001",route="a\\"b\\\\"}' not in lines
    assert 't_seconds_bucket{route="a\\"b\\\\",le="0.001"} 1' in lines
    assert 't_seconds_bucket{route="a\\"b\\\\",le="0.1"} 3' in lines
    assert 't_seconds_bucket{route="a\\"b\\\\",le="+Inf"} 4' in lines
    assert 't_seconds_count{route="a\\"b\\\\"} 4' in lines
    assert "t_now 3" in lines


def test_beginnings_of_images(tools):
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP"):
        assert looks_like_image(tools.image(kind=kind)), kind
    for data in (b"", b"GIF89a", b"RIFF1234WAVE", b"\xff\xd8", b"hello"):
        assert not looks_like_image(data)


def test_nothing_of_the_service_imports_torch():
    import subprocess
    import sys

    code = "import sys, blemish.service.app, blemish.service.server; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"


def test_the_container_compiles_what_the_service_imports():
    import importlib
    import re
    from pathlib import Path

    recipe = (Path(__file__).parents[2] / "Dockerfile").read_text(encoding="utf-8")
    (names,) = re.findall(r'"import (blemish[^"]+)"', recipe)
    for name in names.split(", "):
        importlib.import_module(name)
    assert {"blemish.service.app", "blemish.service.server"} <= set(names.split(", "))
    assert "USER 1000" in recipe
    assert "--require-hashes" in recipe
    assert "HEALTHCHECK" in recipe


def test_the_page_s_types_are_told_here_and_not_by_the_machine(tmp_path):
    from blemish.service.static_files import read_page

    (tmp_path / "parts").mkdir()
    for name in ("index.html", "parts/app.js", "secret.py", "style.css"):
        (tmp_path / name).write_text("x")
    files = read_page(tmp_path)
    assert set(files) == {"index.html", "parts/app.js", "style.css"}
    assert files["parts/app.js"].media_type.startswith("text/javascript")
    assert read_page(Path("nowhere")) == {}
