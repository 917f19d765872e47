"""What images of phones, instance masks and their metrics cost: from the file to JSON, and COCO's mask AP."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench import map as coco_ap
from bench.pictures import MEGAPIXELS_12, photo, save_jpeg
from bench.row import Call, Contest, Row, Setting

LABELS = ("dent", "scratch", "crack", "glass", "lamp", "tire")
MIN_SCORE = 0.25
MAP_IMAGES = 5000


def classifier(setting: Setting, *, decode: str) -> Contest:
    """ResNet-18 at 128 px against the same network in eager PyTorch with PIL and torchvision's transforms."""
    import torch
    from PIL import Image
    from torchvision.transforms import v2

    import blemish
    from blemish.evaluation.decode_choice import with_decode
    from blemish.export.onnx_export import export_network
    from blemish.model_file import Contract, LabelSpec, write_model_file
    from blemish.models import create

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = create(
        "resnet18-scratch", task="classification", label_count=len(LABELS), input_size=128
    ).eval()
    contract = Contract(
        architecture="resnet18-scratch",
        task=network.task,
        labels=tuple(LabelSpec(name=name, display_name=name) for name in LABELS),
        inputs=network.inputs,
        outputs=network.outputs,
        decoder=network.decoder,
    )
    path = save_jpeg(photo(0, MEGAPIXELS_12), setting.folder / "photo.jpg")
    graph = export_network(network)
    models = {
        name: blemish.load(
            write_model_file(setting.folder / f"{name}.onnx", graph, with_decode(contract, name)).path,
            backend="onnxruntime",
            threads=1,
        )
        for name in ("full", "scaled")
    }
    spec = network.inputs[0]
    prepare = v2.Compose(
        [
            v2.Resize(spec.size_hw),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(spec.mean, spec.std),
        ]
    )

    def ours(name: str) -> str:
        return json.dumps(models[name].predict(path).to_dict())

    @torch.inference_mode()
    def eager() -> list[float]:
        image = prepare(Image.open(path).convert("RGB"))[None]
        scores: list[float] = network(image)[0].softmax(1)[0].tolist()
        json.dumps({"path": str(path), "scores": scores})
        return scores

    found = {name: [x["score"] for x in json.loads(ours(name))["labels"]] for name in models}
    gaps = {name: max(abs(a - b) for a, b in zip(found[name], eager(), strict=True)) for name in models}
    side = f"blemish, decode: {decode}"
    return Contest(
        side,
        {side: lambda: drop(ours(decode)), "torch eager, PIL": lambda: drop(eager())},
        accuracy=f"scores differ from the peer's by {gaps['full']:.0e} (full), {gaps['scaled']:.0e} (scaled)",
    )


def drop(_: object) -> None:
    """Drop a result, so that the runner measures the call."""


def ultralytics_models(name: str, setting: Setting) -> dict[str, Any]:
    """Return the peer's model by backend; those that cannot be exported here are left out."""
    os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(1)
    state = torch.load(weights_of(name, setting), map_location="cpu", weights_only=True)
    model = YOLO(f"{name}.yaml")
    model.model.load_state_dict(state)
    model.save(setting.folder / f"{name}.pt")
    models = {"Ultralytics, torch": YOLO(setting.folder / f"{name}.pt")}
    for label, backend in (("ONNX", "onnx"), ("OpenVINO", "openvino")):
        with contextlib.suppress(Exception):  # a package that the exporter needs is missing
            exported = YOLO(setting.folder / f"{name}.pt").export(
                format=backend, simplify=False, verbose=False
            )
            models[f"Ultralytics, {label}"] = YOLO(exported, task=model.task)
    return models


def weights_of(name: str, setting: Setting) -> Path:
    """Return the file of a network's COCO weights."""
    return setting.data_file(f"weights/{name.replace('-', '_')}_coco_state_dict.pth")


def yolo_file(name: str, setting: Setting, decode: str) -> Path:
    """Import the weights as a model file."""
    from blemish.evaluation.decode_choice import with_decode
    from blemish.export.import_weights import import_weights
    from blemish.model_file import read_graph, write_model_file

    path = setting.folder / f"{name}.onnx"
    made = import_weights(weights_of(name, setting), name, "coco", path)
    return write_model_file(path, read_graph(made.path), with_decode(made.contract, decode)).path


def detector(setting: Setting, *, name: str, decode: str, paths: list[Path]) -> Contest:
    """YOLO from files to JSON, against Ultralytics with every backend that it can export to here."""
    import blemish
    from blemish.inference.result_json import json_line

    model = blemish.load(yolo_file(name, setting, decode), backend="onnxruntime", threads=1)
    model.readers = 1
    peers = ultralytics_models(name, setting)

    def ours() -> list[str]:
        return [json_line(result) for result in model.stream(paths, min_score=MIN_SCORE, lazy_masks=True)]

    def theirs(peer: Any) -> list[str]:
        how = {"conf": MIN_SCORE, "imgsz": 640, "device": "cpu", "verbose": False}
        return [json.dumps(peer.predict(str(path), **how)[0].summary()) for path in paths]

    counts = [
        sum(len(json.loads(line)["detections"]) for line in ours()),
        *(sum(len(json.loads(line)) for line in theirs(peer)) for peer in peers.values()),
    ]
    side = f"blemish, decode: {decode}"
    calls: dict[str, Call] = {side: lambda: drop(ours())}
    for label, peer in peers.items():
        calls[label] = lambda peer=peer: drop(theirs(peer))
    names = ", ".join(f"{label} {count}" for label, count in zip(calls, counts, strict=True))
    return Contest(side, calls, items=len(paths), accuracy=f"detections with score >= {MIN_SCORE}: {names}")


def phone_images(setting: Setting) -> list[Path]:
    return [save_jpeg(photo(seed, MEGAPIXELS_12), setting.folder / f"{seed}.jpg") for seed in range(2)]


def car_images(setting: Setting) -> list[Path]:
    return sorted(setting.data_file("cars/val").rglob("*.jpg"))[:12]


def validation(setting: Setting) -> Contest:
    """`evaluate` of YOLO11n-seg on images of cars, against the validation of Ultralytics.

    Both read the same images and objects; three labels of damage stand for three of COCO's.
    """
    import blemish
    from blemish.data import open_dataset
    from blemish.evaluation import evaluate
    from blemish.geometry import mask_to_polygons

    stand_in = {"headlight": "car", "scratch": "truck", "dent": "person"}
    model = blemish.load(yolo_file("yolo11n-seg", setting, "full"), backend="onnxruntime", threads=1)
    model.readers = 1
    dataset = open_dataset(setting.data_file("cars/val"), task="segmentation").subset(range(60))
    images, labels = setting.folder / "images", setting.folder / "labels"
    for sample in dataset:
        name = sample.path.name
        for place in (images, labels):
            place.mkdir(exist_ok=True)
        (images / name).symlink_to(sample.path)
        known = sample.ground_truth
        lines = []
        for mask, index in zip(known.masks, known.label_index, strict=True):
            label = stand_in.get(dataset.labels.names[index])
            polygons = mask_to_polygons(mask)
            if label is not None and polygons:
                points = polygons[0] / (known.size_hw[1], known.size_hw[0])
                numbers = " ".join(f"{v:.6f}" for v in points.ravel())
                lines.append(f"{model.labels.index(label)} {numbers}\n")
        (labels / f"{sample.path.stem}.txt").write_text("".join(lines))
    names = "".join(f"  {i}: {name!r}\n" for i, name in enumerate(model.labels.names))
    described = setting.folder / "cars.yaml"
    described.write_text(f"path: {setting.folder}\ntrain: images\nval: images\nnames:\n{names}")
    label_map = {name: stand_in.get(name, "") for name in dataset.labels}
    peer = ultralytics_models("yolo11n-seg", setting)["Ultralytics, torch"]
    how = {"imgsz": 640, "batch": 1, "device": "cpu", "workers": 0, "plots": False, "verbose": False}

    def ours() -> float:
        report = evaluate(model, dataset, label_map=label_map, thumbnails=False, intervals=False)
        return report.metrics["ap"].value or 0.0

    def theirs() -> float:
        return float(peer.val(data=str(described), rect=False, project=str(setting.folder), **how).seg.map)

    accuracy = f"mask AP {ours():.4f} at full size; theirs {theirs():.4f}, of masks at a quarter of the size"
    calls: dict[str, Call] = {
        "blemish evaluate": lambda: drop(ours()),
        "Ultralytics val": lambda: drop(theirs()),
    }
    return Contest("blemish evaluate", calls, items=len(dataset), accuracy=accuracy)


def mask_ap(setting: Setting) -> Contest:
    """COCO's twelve metrics of masks, from objects in memory, against pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from blemish.metrics.average_precision import accumulate
    from blemish.metrics.coco_matches import match_detections

    ground_truths, detections = coco_ap.scene(MAP_IMAGES, 3)
    sides = [coco_ap.as_objects(rows, MAP_IMAGES, True) for rows in (detections, ground_truths)]
    data, results = coco_ap.as_coco(ground_truths, detections, MAP_IMAGES, True)

    def ours() -> list[float]:
        metrics: Mapping[str, float] = accumulate(match_detections(*sides)).metrics()
        return [metrics[name] for name in coco_ap.METRICS]

    def theirs() -> Iterable[float]:
        with contextlib.redirect_stdout(io.StringIO()):
            known = COCO()
            known.dataset = data
            known.createIndex()
            evaluation = COCOeval(known, known.loadRes([dict(row) for row in results]), "segm")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        stats: Iterable[float] = evaluation.stats
        return stats

    gap = max(abs(a - b) for a, b in zip(ours(), theirs(), strict=True))
    calls: dict[str, Call] = {"blemish": lambda: drop(ours()), "pycocotools": lambda: drop(theirs())}
    return Contest("blemish", calls, accuracy=f"the twelve metrics differ by {gap:.0e} at most")


ROWS = (
    Row(
        "resnet18-12mp",
        "ResNet-18 at 128 px, JPEG of 12 megapixels to JSON, decode: scaled",
        "torch eager and PIL",
        4,
        lambda s: classifier(s, decode="scaled"),
        needs=("torch", "torchvision"),
        explanation="27 of our 36 ms are libjpeg at an eighth, nearly all of them its entropy decoding, "
        "which a reduced size does not spare.",
    ),
    Row(
        "resnet18-12mp-full",
        "the same, decode: full",
        "torch eager and PIL",
        1.3,
        lambda s: classifier(s, decode="full"),
        needs=("torch", "torchvision"),
    ),
    Row(
        "yolo11n-12mp",
        "YOLO11n at 640 px, JPEG of 12 megapixels to JSON, decode: scaled",
        "Ultralytics' fastest backend",
        1.3,
        lambda s: detector(s, name="yolo11n", decode="scaled", paths=phone_images(s)),
        needs=("ultralytics",),
        explanation="Of our 104 ms, 55 are the network at 640 x 640 and 43 libjpeg at a half; Ultralytics "
        "runs its torch network at 480 x 640.",
    ),
    Row(
        "yolo11n-12mp-full",
        "the same, decode: full",
        "Ultralytics' fastest backend",
        1.3,
        lambda s: detector(s, name="yolo11n", decode="full", paths=phone_images(s)),
        needs=("ultralytics",),
    ),
    Row(
        "yolo11n-seg",
        "YOLO11n-seg, JPEG of 640 px to JSON with masks",
        "Ultralytics' fastest backend",
        1.3,
        lambda s: detector(s, name="yolo11n-seg", decode="full", paths=car_images(s)),
        needs=("ultralytics",),
    ),
    Row(
        "evaluate-seg",
        "`evaluate` of YOLO11n-seg, an image of 640 px",
        "Ultralytics' validation",
        1.2,
        validation,
        needs=("ultralytics",),
        lower=True,
    ),
    Row(
        "mask-ap",
        f"COCO's mask AP of {MAP_IMAGES:,} images and 105,000 detections",
        "pycocotools",
        25,
        mask_ap,
        needs=("pycocotools",),
        explanation="Nearly half of our time concatenates and sums the run lengths of all masks, before any "
        "pair is compared.",
    ),
)
