"""Measure the caches of training, and the overhead of prediction over ONNX Runtime.

Cached features of a frozen backbone (needs --cells and --weights), cached resized copies of images of 12
megapixels (--large N), and one image through `Predictor.predict` and through ONNX Runtime alone (--fusion).

    python bench/faster_training.py --cells cells/data.csv --weights mobilenet_v2.pth --large 12 --fusion
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace


def trained(settings, folder):
    """Train without the export."""
    from blemish import export
    from blemish.training import read_recipe
    from blemish.training.run import train

    export.export_trained = lambda network, *, output, **_: SimpleNamespace(path=output / "model.onnx")
    return train(read_recipe(overrides=settings), output=folder, device="cpu")


def best_ms_per_image(run):
    """Return the milliseconds per image of the best epoch after the first."""
    return min(row["ms_per_image"] for row in run.history[1:])


def kept_features(cells, weights, folder):
    """Compare a frozen backbone that runs in every epoch with one whose features are cached."""
    settings = {
        "data.path": str(cells),
        "data.normalization": "imagenet",
        "data.image_cache_gb": 0,
        "model.name": "torchvision/mobilenet_v2",
        "model.weights": str(weights),
        "model.input_size": 128,
        "model.trainable": [],
        "training.epochs": 3,
        "training.optimizer.learning_rate": 0.003,
        "training.tensorboard": False,
    }
    often = trained({**settings, "training.feature_cache": "off"}, folder / "often")
    once = trained(settings, folder / "once")
    return {
        "what": "cached features of a frozen backbone",
        "ms per image": [round(best_ms_per_image(run), 3) for run in (often, once)],
        "times as fast": round(best_ms_per_image(often) / best_ms_per_image(once), 1),
        "macro F1": [round(run.metrics["macro_f1"], 4) for run in (often, once)],
        "log loss": [round(run.metrics["log_loss"], 6) for run in (often, once)],
    }


def reduced_copies(count, folder):
    """Compare decoding images of 12 megapixels in every epoch with cached resized copies."""
    from blemish.data.synthetic import panels, save_image

    data = folder / "large"
    for i, specimen in enumerate(panels(count, size_hw=(3000, 4000), task="classification")):
        place = data / ("clean" if i % 2 else "damaged")
        place.mkdir(parents=True, exist_ok=True)
        save_image(specimen.image, place / f"{i}.jpg")
    out = {"what": f"{count} images of 12 megapixels"}
    for name, crop in (("whole image", None), ("random crop", {"scale": [0.25, 1.0]})):
        settings = {
            "data.path": str(data),
            "model.name": "resnet18",
            "model.weights": "none",
            "model.input_size": 128,
            "training.epochs": 3,
            "training.batch_size": 4,
            "training.workers": 0,
            "training.tensorboard": False,
            "augmentation.horizontal_flip": 0.5,
            "augmentation.random_resized_crop": crop,
        }
        each = trained({**settings, "data.image_cache_gb": 0}, folder / f"{name} files")
        copies = trained(settings, folder / f"{name} copies")
        out[name] = {
            "images per second": [round(1000 / best_ms_per_image(run), 1) for run in (each, copies)],
            "times as fast": round(best_ms_per_image(each) / best_ms_per_image(copies), 1),
            "loss": [round(run.history[-1]["train_loss"], 4) for run in (each, copies)],
        }
    return out


def fusion(folder, rounds):
    """Compare `Predictor.predict` with ONNX Runtime on prepared arrays plus decoding the image."""
    import onnxruntime
    import torch

    from blemish.data.synthetic import vehicles, write_vehicles
    from blemish.export.onnx_export import export_network
    from blemish.imaging import open_image
    from blemish.inference import load
    from blemish.model_file import Contract, LabelSpec, write_model_file
    from blemish.models import create
    from blemish.preprocessing import prepare

    torch.manual_seed(0)
    network = create("fusion", task="classification", label_count=6).eval()
    names = next(vehicles(1)).ground_truth.labels.names
    contract = Contract(
        name="fusion",
        architecture="fusion",
        task="classification",
        labels=tuple(LabelSpec(name=name, display_name=name) for name in names),
        inputs=network.inputs,
        outputs=network.outputs,
        decoder=network.decoder,
    )
    path = folder / "fusion.onnx"
    write_model_file(path, export_network(network), contract)
    data = write_vehicles(folder / "images", 6, size_hw=(480, 640), suffix=".jpg")
    images = [sample.path for sample in data.samples]
    predictor = load(path, backend="onnxruntime", device="cpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ours, bare = [], []
    for i in range(rounds + 3):
        image = images[i % len(images)]
        feeds = {s.name: prepare(open_image(image), s)[0][None] for s in contract.inputs}
        order = [("ours", ours), ("bare", bare)] if i % 2 else [("bare", bare), ("ours", ours)]
        for who, seconds in order:
            start = time.perf_counter()
            if who == "ours":
                predictor.predict(image)
            else:
                open_image(image)
                session.run(None, feeds)
            seconds.append(time.perf_counter() - start)
    ours, bare = ours[3:], bare[3:]
    return {
        "what": "fusion, fp32, one image of 640 x 480",
        "ms, median": [round(1000 * statistics.median(s), 1) for s in (ours, bare)],
        "ratio": round(statistics.median(ours) / statistics.median(bare), 3),
        "ratio of pairs, median": round(statistics.median(a / b for a, b in zip(ours, bare, strict=True)), 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--large", type=int, help="how many images of 12 megapixels to draw")
    parser.add_argument("--fusion", action="store_true")
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["BLEMISH_CACHE"] = str(folder / "cache")
        if given.cells:
            print(json.dumps(kept_features(given.cells, given.weights, folder)), flush=True)
        if given.large:
            print(json.dumps(reduced_copies(given.large, folder)), flush=True)
        if given.fusion:
            print(json.dumps(fusion(folder, given.rounds)), flush=True)


if __name__ == "__main__":
    main()
