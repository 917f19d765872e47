"""Run every command on the model files of some runs: export, info, explain, benchmark, push and hf://.

Each command runs in its own process as users type it, and its results are checked: the certificate, the
heatmap, the same decision from the Hub as from the file. The Hub is a stub on this machine.

    python bench/every_feature.py runs/demo/run runs/cars=cars
    python bench/every_feature.py                 # trains a small network on synthetic panels first

A run is a folder, or FOLDER=DATA if its images have moved; it is not changed. A cell contains the seconds and
the result; `refused` is the expected result of some cells. The exit code is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from blemish.export.reexport import validation_samples
from blemish.model_file import read_model_file

METHODS = ("grad-cam", "hires-cam", "layer-cam", "eigen-cam", "score-cam", "occlusion", "rise")
MAX_EVALS = {"score-cam": 48, "occlusion": 65, "rise": 96}
GRADIENTS = METHODS[:5]
REPOSITORY = "ada/cells"
ON_CARD = ("## What it answers", "## How to run it", "## Data", "## Figures", "## Limits", "## Licenses")
SCREEN_LINES = 24


class Failed(Exception):
    """A command returned a wrong result."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN[=DATA]")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--count", type=int, default=8, help="number of images to time")
    parser.add_argument("--output", type=Path, help="keep model files, heatmaps and cards in this folder")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = given.output or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        columns, failed = {}, False
        for run in given.runs or [synthetic_run(folder)]:
            source, _, data = run.partition("=")
            commands = Commands(Path(source), Path(data) if data else None, folder, given)
            columns[commands.name] = dict(commands.all())
            failed = failed or any(cell.startswith("FAILED") for cell in columns[commands.name].values())
        print_table(columns)
    return int(failed)


def synthetic_run(folder: Path) -> str:
    blemish("data", "synthesize", "panels", "--count", 60, "--size", 96, "--output", folder / "panels")
    words = ("--set", "task=detection", "--model", "ssd300-resnet50", "--weights", "none", "--epochs", 1)
    small = ("--set", "model.input_size=96", "--set", "model.options.backbone=resnet18")
    run = folder / "drawn"
    blemish("train", "--data", folder / "panels", "--output", run, *words, *small)
    return str(run)


class Commands:
    """One run, and every command on it."""

    def __init__(self, source: Path, data: Path | None, folder: Path, given: argparse.Namespace) -> None:
        self.name = source.name if source.name != "run" else source.parent.name
        self.run = source
        self.data = ("--data", data) if data else ()
        self.file = folder / "files" / self.name / "model.onnx"
        self.half = self.file.with_name("model-fp16.onnx")
        self.maps = folder / "maps" / self.name
        self.card = folder / "cards" / f"{self.name}.md"
        self.threads = ("--threads", given.threads)
        self.count = given.count
        made = read_model_file(self.run / "model.onnx")
        self.contract = made.contract
        self.many = self.contract.task in ("detection", "segmentation")
        self.image = self._image_with_objects(data, made)

    def _image_with_objects(self, data: Path | None, made) -> Path:
        """Return the first image, or for detectors the one with the highest score."""
        paths = [s.path for s in validation_samples(made, data)][:60]
        lines = blemish("predict", *paths, "--model", made.path, *self.threads, "--json").splitlines()
        rows = [(path, json.loads(line)) for path, line in zip(paths, lines, strict=True)]
        if not self.many:
            return rows[0][0]
        return max(rows, key=lambda row: max((x["score"] for x in objects(row[1])), default=0))[0]

    def all(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the cell of every row of the table."""
        yield "task", f"{self.contract.task}, {self.contract.architecture}"
        yield self._cell("export --precision fp32", lambda: self._export("fp32"))
        yield self._cell("export --precision fp16", lambda: self._export("fp16"))
        yield self._cell("info", self._info)
        for method in METHODS:
            yield self._cell(f"explain --method {method}", lambda m=method: self._explain(m))
        if self.many:
            for method in GRADIENTS:
                yield self._cell(
                    f"explain --method {method}, on the run", lambda m=method: self._explain(m, run=True)
                )
        yield self._cell("explain, fp16", self._explain_half)
        for backend in ("onnxruntime", "torch"):
            yield self._cell(f"benchmark --backend {backend}", lambda b=backend: self._benchmark(b))
        yield from self._hub()

    def _cell(self, name: str, command: Callable[[], str]) -> tuple[str, str]:
        start = time.perf_counter()
        try:
            result = command()
            cell = f"{time.perf_counter() - start:.1f} s" + (f": {result}" if result else "")
        except Failed as error:
            cell = f"FAILED: {error}"
        print(f"{self.name}: {name}: {cell}", file=sys.stderr, flush=True)
        return name, cell

    def _export(self, precision: str) -> str:
        target = self.file if precision == "fp32" else self.half
        words = ("export", self.run, "--precision", precision, "--output", target, *self.data, "--json")
        code, out, error = run(*words)
        refused = ""
        if code == 2 and precision == "fp16" and "was not written" in error:
            refused = "refused, " + error.split("was not written: ")[1].split(" (on ")[0] + "; forced: "
            check(not self.half.exists(), "a refused file was written")
            out = blemish(*words, "--force")
            cautions = run("predict", self.image, "--model", self.half)[2]
            check("certif" in cautions, f"predict does not warn of a file made by force: {cautions}")
        elif code:
            raise Failed(error)
        proof = json.loads(out)
        check(proof["passed"] != bool(refused), "the certificate contradicts the exit code")
        if precision == "fp32":
            return f"{proof['decisions_changed']} changed, difference {proof['max_difference']:.1e}"
        share = self.half.stat().st_size / self.file.stat().st_size
        check(share <= 0.505, f"{share:.3f} of the size")
        moved = f"{proof['metric']} {proof['metric_before']:.4f} to {proof['metric_after']:.4f}"
        return f"{refused}{share:.3f} of the size, {moved}, {proof['decisions_changed']} changed"

    def _info(self) -> str:
        lines = blemish("info", self.file).splitlines()
        check(len(lines) <= SCREEN_LINES, f"{len(lines)} lines do not fit on a screen")
        facts = json.loads(blemish("info", self.file, "--json"))
        check(facts["certified"], "the fp32 file is not certified")
        return f"{len(lines)} lines"

    def _explain(self, method: str, *, run: bool = False) -> str:
        impossible = self.many and method in GRADIENTS and not run
        return self._explained(self.run if run else self.file, method, refused=impossible)

    def _explain_half(self) -> str:
        return self._explained(self.half, "occlusion" if self.many else "grad-cam")

    def _explained(self, model: Path | str, method: str, *, refused: bool = False) -> str:
        out = self.maps / Path(model).name
        words = ["explain", self.image, "--model", model, "--output", out, "--method", method]
        words += ["--max-evals", MAX_EVALS[method]] if method in MAX_EVALS else []
        if self.many and not refused:
            words += ["--label", self._best_label()]
        code, out_text, error = run(*words, *self.threads, "--json")
        if refused:
            check(code == 2 and "use --method occlusion or rise" in error, f"not refused: {error}")
            return "refused, needs the run"
        check(code == 0, error)
        rows = [json.loads(line) for line in out_text.splitlines()]
        check(bool(rows), "no heatmap was written")
        for row in rows:
            values = np.load(out / row["files"]["array"])
            check(bool(np.isfinite(values).all()), "a heatmap is not finite")
            check(float(np.ptp(values)) > 0, "a heatmap is constant")
        return f"{len(rows)} x {rows[0]['forward_passes']} forward passes"

    def _best_label(self) -> str:
        prediction = json.loads(
            blemish("predict", self.image, "--model", self.file, "--json").splitlines()[0]
        )
        seen = objects(prediction) or [{"score": 0, "label": self.contract.labels[0].name}]
        return max(seen, key=lambda x: x["score"])["label"]

    def _benchmark(self, backend: str) -> str:
        model = self.run if backend == "torch" else self.file
        words = ("benchmark", self.image.parent, "--model", model, "--backend", backend)
        output = blemish(*words, "--count", self.count, *self.threads, "--json")
        speed = json.loads(output)
        whole, network = (speed["latency_ms"][stage]["p50"] for stage in ("total", "infer"))
        return f"{whole:.0f} ms (network {network:.0f}), {speed['peak_memory_mib']:.0f} MiB"

    def _hub(self) -> Iterator[tuple[str, str]]:
        here = blemish("predict", self.image, "--model", self.file, *self.threads, "--json")
        with tempfile.TemporaryDirectory() as cache:
            os.environ["HF_HUB_CACHE"] = cache
            with hub_stub().serving() as server:
                os.environ["HF_ENDPOINT"] = server.url
                yield self._cell("push", lambda: self._push(server))
                yield self._cell("predict --model hf://", lambda: self._same(here))
                yield self._cell("explain --model hf://", self._explain_fetched)
            yield self._cell("predict --model hf://, offline", lambda: self._same(here))
            yield self._cell("explain --model hf://, offline", self._explain_fetched)

    def _push(self, server) -> str:
        blemish("push", self.file, "--repo-id", REPOSITORY)
        card = server.files["README.md"].decode()
        self.card.parent.mkdir(parents=True, exist_ok=True)
        self.card.write_text(card, encoding="utf-8")
        lacking = [
            part for part in (*ON_CARD, *(f"| {x.name} |" for x in self.contract.labels)) if part not in card
        ]
        check(not lacking, f"the card lacks {lacking}")
        return f"{len(server.files)} files, a card of {len(card.splitlines())} lines"

    def _same(self, here: str) -> str:
        output = blemish("predict", self.image, "--model", f"hf://{REPOSITORY}", *self.threads, "--json")
        check(decision(output) == decision(here), "the decision differs from the file's")
        return "same decision"

    def _explain_fetched(self) -> str:
        return self._explained(f"hf://{REPOSITORY}", "occlusion" if self.many else "grad-cam")


def objects(prediction: dict) -> list[dict]:
    return prediction["detections"]


def decision(output: str) -> dict:
    """Return the JSON of a prediction without the model file and the times."""
    row = json.loads(output.splitlines()[0])
    return {key: value for key, value in row.items() if key not in ("model", "seconds", "timing")}


def check(condition: bool, message: str) -> None:
    if not condition:
        raise Failed(message)


def run(*words) -> tuple[int, str, str]:
    command = [sys.executable, "-W", "ignore", "-m", "blemish", *map(str, words)]
    environment = {**os.environ, "COLUMNS": "110", "HF_TOKEN": "hf_stub", "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return done.returncode, done.stdout, done.stderr.strip()


def blemish(*words) -> str:
    """Standard output of a command that must work."""
    code, out, error = run(*words)
    check(code == 0, f"{words[0]} ended with {code}: {error}")
    return out


def hub_stub():
    place = Path(__file__).parents[1] / "tests" / "hub_stub.py"
    spec = importlib.util.spec_from_file_location("hub_stub", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def print_table(columns: dict[str, dict[str, str]]) -> None:
    print(f"| | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for name in dict.fromkeys(name for cells in columns.values() for name in cells):
        print(f"| {name} | {' | '.join(cells.get(name, '-') for cells in columns.values())} |")


if __name__ == "__main__":
    sys.exit(main())
