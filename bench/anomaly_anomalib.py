"""Compare `patch-memory` with PatchCore of anomalib 2.7 on the demonstration's cells, with the same trunk.

    python bench/anomaly_anomalib.py --anomalib-python /path/to/venv/bin/python --good 300

Both get the published weights of EfficientNet-Lite0, 224 pixels, the same good cells to learn from and the
same cells to score, one after the other, each in a process of its own and with an empty cache. anomalib takes
blocks.2 and blocks.4 on the grid of the first (28 x 28), as it is designed. Blemish chooses its threshold on
further good cells, which anomalib does not get; they and its export count in Blemish's time. Times are
without imports and without the export of anomalib. Sizes are those of complete ONNX files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ANOMALIB = """
import json, logging, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np
import anomalib
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.models import Patchcore
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import Compose, Normalize, Resize
logging.disable(logging.WARNING)
root, weights, layers, ratio, threads, out = sys.argv[1:]
torch.manual_seed(0)
torch.set_num_threads(int(threads))
wall, spent = time.perf_counter(), time.process_time()
transform = Compose([Resize((224, 224), antialias=True), Normalize([0.5] * 3, [0.5] * 3)])
model = Patchcore(
    backbone="tf_efficientnet_lite0",
    layers=layers.split(","),
    pre_trained=False,
    coreset_sampling_ratio=float(ratio),
    pre_processor=PreProcessor(transform=transform),
    post_processor=False,
    evaluator=False,
    visualizer=False,
)
tensors = torch.load(weights, weights_only=True)
missing = model.model.feature_extractor.feature_extractor.load_state_dict(tensors, strict=False).missing_keys
assert not missing, missing
data = Folder(
    name="cells", root=root, normal_dir="train/good", normal_test_dir="test/good",
    abnormal_dir="test/anomaly", train_batch_size=32, eval_batch_size=32, num_workers=0,
    val_split_mode="same_as_test", test_split_mode="from_dir",
)
engine = Engine(accelerator="cpu", devices=1, logger=False, default_root_dir=out, enable_progress_bar=False,
                enable_model_summary=False, limit_val_batches=0)
engine.fit(model=model, datamodule=data)
trained = time.perf_counter() - wall, time.process_time() - spent
rows = []
for batch in engine.predict(model=model, dataloaders=data.test_dataloader()):
    rows += list(zip(map(str, batch.image_path), map(float, batch.pred_score), strict=True))
total = time.perf_counter() - wall, time.process_time() - spent
sizes = {}
for kind in ("onnx", "torch"):
    file = engine.export(model=model, export_type=kind, export_root=out + "/" + kind)
    sizes[kind] = sum(path.stat().st_size for path in file.parent.iterdir())
json.dump({"version": anomalib.__version__, "train": trained, "total": total, "scores": rows, "bytes": sizes,
           "memory": list(model.model.memory_bank.shape)}, open(out + "/result.json", "w"))
"""

OWN = """
import json, sys, time
from pathlib import Path
import blemish
from blemish.few_shot.anomaly_trainer import train_anomaly
root, model, threads, out = sys.argv[1:]
wall, spent = time.perf_counter(), time.process_time()
run = train_anomaly(root, output=out, model=model, threads=int(threads))
trained = time.perf_counter() - wall, time.process_time() - spent
predictor = blemish.load(run.model_file, threads=int(threads))
files = sorted(Path(root, "test").rglob("*.png"))
scores = []
for start in range(0, len(files), 32):
    scores += [float(p.label_scores[0]) for p in predictor.predict(files[start : start + 32])]
total = time.perf_counter() - wall, time.process_time() - spent
rows = list(zip(map(str, files), scores, strict=True))
json.dump({"train": trained, "total": total, "scores": rows, "bytes": run.model_file.stat().st_size},
          open(out + "/result.json", "w"))
"""


def write_layout(root: Path, good: int, seed: int) -> None:
    """Write cells as folders train/good, val/good, test/good and test/anomaly of links."""
    from blemish.data import open_dataset, split_dataset
    from blemish.demo import FRACTIONS, write_cells

    table = write_cells(root / "cells")
    data = open_dataset(table, task="anomaly")
    cells = split_dataset(data, fractions=FRACTIONS, seed=seed, group_by="near-duplicates")
    counts: dict[str, int] = {}
    for sample in cells:
        anomalous = bool(sample.ground_truth is not None and len(sample.ground_truth))
        split = sample.split or "train"
        if anomalous and split != "test":
            continue
        counts[split] = counts.get(split, 0) + 1
        if split == "train" and counts[split] > good:
            continue
        folder = root / "layout" / split / ("anomaly" if anomalous else "good")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / sample.path.name).symlink_to(sample.path)


def write_weights(path: Path) -> None:
    """Write the published weights under timm's names."""
    import torch

    from blemish.models._efficientnet_lite import default_weights, with_timm_names

    state = torch.load(default_weights("efficientnet-lite0")[0], weights_only=True)
    torch.save(dict(with_timm_names(state)), path)


def auroc(rows: list[list[object]]) -> tuple[float, np.ndarray, np.ndarray]:
    """Return AUROC, the scores in the order of the file names, and which of them are of defects."""
    from blemish.metrics.rank_metrics import Ranking

    ordered = sorted(rows, key=lambda row: str(row[0]))
    scores = np.array([row[1] for row in ordered], np.float64)
    anomalous = np.array(["/anomaly/" in str(row[0]) for row in ordered])
    value = Ranking.of(scores, anomalous).ap_and_auroc(np.ones((len(scores), 1)))[1]
    return float(value[0]), scores, anomalous


def difference_interval(own: np.ndarray, other: np.ndarray, anomalous: np.ndarray) -> list[float]:
    """Return the 95 % interval of the difference of AUROC by a paired bootstrap of the images."""
    from blemish.metrics.rank_metrics import Ranking

    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), 2000).T.astype(np.float64)
    values = [Ranking.of(scores, anomalous).ap_and_auroc(weights)[1] for scores in (own, other)]
    return [round(float(v), 4) for v in np.percentile(values[0] - values[1], [2.5, 97.5])]


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anomalib-python", required=True, help="Python of an environment with anomalib.")
    parser.add_argument("--good", type=int, default=300, help="Good cells to learn from.")
    parser.add_argument("--seed", type=int, default=0, help="Of the split.")
    parser.add_argument("--layers", default="blocks.2,blocks.4", help="Of anomalib.")
    parser.add_argument("--ratio", type=float, default=0.1, help="anomalib's share of patches in memory.")
    parser.add_argument("--models", nargs="+", default=["patch-memory"])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_layout(root, options.good, options.seed)
        write_weights(root / "lite0.pt")
        data, threads = str(root / "layout"), str(options.threads)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        own = {}
        for model in options.models:
            out = root / model
            out.mkdir()
            command = [sys.executable, "-c", OWN, data, model, threads, str(out)]
            subprocess.run(
                command, check=True, env={**os.environ, "BLEMISH_CACHE": str(root / f"{model}.cache")}
            )
            own[model] = json.loads((out / "result.json").read_text())
        out = root / "anomalib"
        out.mkdir()
        command = [options.anomalib_python, "-c", ANOMALIB, data, str(root / "lite0.pt"), options.layers]
        command += [str(options.ratio), threads, str(out)]
        subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
        other = json.loads((out / "result.json").read_text())
        value, scores, anomalous = auroc(other["scores"])
        size = other["bytes"]["onnx"]
        facts = {
            "anomalib": other["version"],
            "good": options.good,
            "seed": options.seed,
            "images": len(scores),
            "memory": other["memory"],
            "auroc": round(value, 4),
            "cpu_seconds": round(other["total"][1], 1),
            "wall_seconds": round(other["total"][0], 1),
            "bytes": other["bytes"],
        }
        for model, result in own.items():
            mine, mine_scores, _ = auroc(result["scores"])
            facts[model] = {
                "auroc": round(mine, 4),
                "difference": round(mine - value, 4),
                "interval": difference_interval(mine_scores, scores, anomalous),
                "cpu_seconds": round(result["total"][1], 1),
                "wall_seconds": round(result["total"][0], 1),
                "cpu_ratio": round(other["total"][1] / result["total"][1], 2),
                "wall_ratio": round(other["total"][0] / result["total"][0], 2),
                "bytes": result["bytes"],
                "size_ratio": round(result["bytes"] / size, 3),
            }
        print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
