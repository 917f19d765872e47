"""The table of speed: rows, rounds, the file of results and the table made of it."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from bench.pictures import enlarged, photo, save_jpeg
from bench.row import ROOT, Contest, Cost, Hotspot, PeerMissing, Row, Setting, require
from bench.rows import all_rows

from bench import measure, profiles, results


def unused(_):
    raise AssertionError("not called")


def row(goal=2, **changes):
    return Row("r", "t", "p", goal, unused, **changes)


def costs(*values):
    return [Cost(value, 2 * value) for value in values]


def test_all_rows_are_declared_completely():
    rows = all_rows()
    assert len(rows) >= 5
    for name, declared in rows.items():
        assert name == declared.name
        assert declared.title and declared.peer and declared.goal > 0 and declared.threads >= 1


def test_measure_warms_up_and_interleaves():
    calls = []
    sides = {"ours": lambda: calls.append("ours"), "peer": lambda: calls.append("peer")}
    found = measure.measure(Contest("ours", sides), 2)
    assert calls == ["peer", "ours", "ours", "peer", "peer", "ours"]
    assert [len(values) for values in found.values()] == [2, 2]


def test_measure_takes_the_cost_of_a_side_that_measures_itself():
    found = measure.measure(Contest("ours", {"ours": lambda: Cost(3, 4)}), 1)
    assert found == {"ours": [Cost(3, 4)]}


def test_measure_counts_children():
    code = "sum(i * i for i in range(300_000))"

    def run():
        subprocess.run([sys.executable, "-c", code], check=True)

    (cost,) = measure.measure(Contest("ours", {"ours": run}, items=2), 1)["ours"]
    assert 0 < cost.cpu_seconds


def test_compare_states_how_many_times_as_cheap_or_which_share():
    ours, peer = costs(1, 2, 4), costs(4, 4, 4)
    assert measure.compare(ours, peer, row(), wall=False) == measure.Spread(2, 1, 4)
    assert measure.compare(ours, peer, row(lower=True), wall=True) == measure.Spread(0.5, 0.25, 1)


def test_is_met_needs_the_absolute_limit_too():
    limited = row(lower=True, goal=0.5, max_cpu_seconds=1)
    assert limited.is_met(0.5, 1) and not limited.is_met(0.4, 1.1) and not limited.is_met(0.6, 0.1)
    assert row().is_met(2, 9) and not row().is_met(1.9, 0)


def test_choose_peer_takes_the_cheapest_unless_the_first_is_asked_for():
    found = {"ours": costs(1), "slow": costs(3), "fast": costs(2)}
    assert measure.choose_peer(found, Contest("ours", {}), wall=False) == "fast"
    assert measure.choose_peer(found, Contest("ours", {}, best_of_peers=False), wall=False) == "slow"


def test_a_side_that_does_not_count_is_printed_and_is_no_peer():
    contest = Contest("ours", {}, also=("not certified",))
    sides = {"ours": costs(1), "not certified": costs(0.5), "peer": costs(2)}
    entry = results.summarize(row(threads=2), contest, sides, "python -m bench r")
    assert entry["peer"] == "peer" and entry["ratio"]["median"] == 2
    cells = results.line("r", entry)
    assert all(any(text in cell for cell in cells) for text in ("not certified: 500", "by the clock"))


def test_enlarged_images_have_the_size_asked_for(tmp_path):
    path = save_jpeg(photo(0, (30, 40)), tmp_path / "a.jpg")
    assert enlarged(path, (60, 100)).size == (100, 60)


def test_write_replaces_one_row_and_keeps_the_others(tmp_path):
    path = tmp_path / "results.json"
    contest = Contest("ours", {}, accuracy="equal decisions")
    entry = results.summarize(row(), contest, {"ours": costs(1), "peer": costs(1.5)}, "python -m bench r")
    results.write({"r": entry, "other": entry}, path)
    results.write({"r": entry | {"goal": "≥ 9"}}, path)
    found = results.read(path)
    assert list(found) == ["other", "r"]
    assert (found["r"]["goal"], found["other"]["goal"]) == ("≥ 9", "≥ 2")
    assert found["other"]["ratio"] == {"median": 1.5, "low": 1.5, "high": 1.5}
    assert not found["other"]["met"] and found["other"]["sides"]["ours"]["cpu_ms"]["min"] == 1000
    assert found["other"]["machine"]["cores"] and "numpy" in found["other"]["packages"]
    page = results.filled(f"a\n{results.BEGIN}\nold\n{results.END}\nb\n", found)
    assert "old" not in page and page.startswith("a\n") and page.endswith("\nb\n")
    assert page.count("`other`") == 3  # the table, the machine, and the rows that miss their goal


def test_results_of_documentation_belong_to_rows():
    rows = all_rows()
    for name, entry in results.read().items():
        assert entry["goal"] == rows[name].goal_text(), f"{name}: run python -m bench {name}"


def test_every_row_that_falls_short_has_a_profile():
    for name, entry in results.read().items():
        if not entry["met"]:
            assert entry["profile"], f"{name}: run python -m bench {name}"
            assert all(0 <= h["share"] <= 1 and h["ms"] >= 0 and h["where"] for h in entry["profile"])
            assert not any(h["where"].startswith("/") for h in entry["profile"])


def test_profile_names_the_expensive_function_and_the_imported_package(tmp_path):
    def expensive():
        sum(i * i for i in range(200_000))

    found = profiles.of_contest(Contest("ours", {"ours": expensive}, items=2))
    assert "test_bench.py" in found[0].where or "sum" in found[0].where
    assert 0.99 <= sum(h.share for h in profiles.of_contest(Contest("ours", {"ours": expensive}), 99)) <= 1.01
    (tmp_path / "slow_package.py").write_text("sum(i * i for i in range(2_000_000))")
    imported = profiles.of_imports(["-c", "import slow_package"], {"PYTHONPATH": str(tmp_path)})
    assert imported[0].where == "import slow_package"
    own = Contest("ours", {}, profile=lambda: [Hotspot("elsewhere", 1, 1)])
    assert profiles.of_contest(own)[0].where == "elsewhere"


def test_rows_about_memory_compare_megabytes():
    limited = row(lower=True, goal=0.5, max_megabytes=100)
    sides = {"ours": [Cost(9, 9, 80.0)], "peer": [Cost(1, 1, 200.0)]}
    contest = Contest("ours", {}, skipped={"other": "not installed"})
    entry = results.summarize(limited, contest, sides, "python -m bench r")
    assert entry["ratio"]["median"] == 0.4 and entry["ratio_of"] == "memory" and entry["met"]
    assert not limited.is_met(0.4, 9, 101)
    cells = results.line("r", entry)
    assert any("80 MB" in cell for cell in cells) and any("other skipped" in cell for cell in cells)


def test_missing_peer_is_one_line_and_leaves_the_results_alone(tmp_path):
    with pytest.raises(PeerMissing, match="no-such-distribution"):
        require("no-such-distribution")
    with ExitStack() as stack, pytest.raises(PeerMissing, match="--data"):
        Setting(tmp_path, stack).data_file("cars")


def test_command_line_refuses_unknown_rows_and_lists_known_ones():
    def run(*words):
        command = [sys.executable, "-m", "bench", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert run("nothing").returncode == 2
    assert run().returncode == 2
    assert all(name in run("--list").stdout for name in all_rows())


def test_photo_is_reproducible_and_has_grain(tmp_path):
    first, again = photo(3, (64, 96)), photo(3, (64, 96))
    assert first.size == (96, 64) and first.tobytes() == again.tobytes()
    plain = save_jpeg(photo(3, (64, 96), grain=0), tmp_path / "plain.jpg")
    assert save_jpeg(first, tmp_path / "grain.jpg").stat().st_size > 1.5 * plain.stat().st_size


def test_results_file_is_sorted_json():
    if results.RESULTS.exists():
        text = Path(results.RESULTS).read_text(encoding="utf-8")
        assert list(json.loads(text)) == sorted(json.loads(text))
