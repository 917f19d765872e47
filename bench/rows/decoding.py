"""What detectors cost from the file to JSON, their masks, and COCO's mask AP."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import map as coco_ap
from bench import profiles
from bench.peers.quiet_ultralytics import import_quietly
from bench.pictures import MEGAPIXELS_12, enlarged, save_jpeg
from bench.row import Call, Contest, Cost, Row, Setting, run_quietly

MIN_SCORE = 0.25
MAP_IMAGES = 5000
CERTIFY_IMAGES = 24
INT8_BACKEND = "openvino" if find_spec("openvino") else "onnxruntime"
BFLOAT16 = "openvino:bf16"


def drop(_: object) -> None:
    """Drop a result, so that the runner measures the call."""


def ultralytics_models(name: str, setting: Setting) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the peer's model by backend, and why others cannot be exported here."""
    import torch

    YOLO = import_quietly(setting.folder)  # noqa: N806  (a class)
    torch.set_num_threads(1)
    state = torch.load(weights_of(name, setting), map_location="cpu", weights_only=True)
    model = YOLO(f"{name}.yaml")
    model.model.load_state_dict(state)
    model.save(setting.folder / f"{name}.pt")
    models = {"Ultralytics, torch": YOLO(setting.folder / f"{name}.pt")}
    skipped = {}
    for label, backend in (("ONNX", "onnx"), ("OpenVINO", "openvino")):
        try:
            options = {"simplify": False} if backend == "onnx" else {}
            exported = YOLO(setting.folder / f"{name}.pt").export(format=backend, verbose=False, **options)
            models[f"Ultralytics, {label}"] = YOLO(exported, task=model.task)
        except Exception as error:  # a package that the exporter needs is missing
            skipped[f"Ultralytics, {label}"] = str(error).splitlines()[0][:120] or type(error).__name__
    return models, skipped


def weights_of(name: str, setting: Setting) -> Path:
    """Return the file of a network's COCO weights."""
    return setting.data_file(f"weights/{name.replace('-', '_')}_coco_state_dict.pth")


def yolo_file(name: str, setting: Setting, decode: str, certify_on: Sequence[Path] = ()) -> Path:
    """Import the weights as a model file, certified on images with every installed backend."""
    from blemish.evaluation.decode_choice import with_decode
    from blemish.export.import_weights import import_weights
    from blemish.model_file import read_graph, write_model_file
    from blemish.structures import Sample

    path = setting.folder / f"blemish-{name}.onnx"  # the peer writes NAME.onnx
    samples = [Sample(id=file.name, path=file) for file in certify_on]
    made = import_weights(weights_of(name, setting), name, "coco", path, samples=samples)
    return write_model_file(path, read_graph(made.path), with_decode(made.contract, decode)).path


def int8_file(setting: Setting, file: Path, images: Sequence[Path]) -> tuple[Path, bool]:
    """Return the file in INT8, calibrated and certified on images, and whether its certificate passed."""
    from blemish.export.reexport import reexport

    folder = setting.folder / "calibration"
    folder.mkdir(exist_ok=True)
    for path in images:
        (folder / path.name).symlink_to(path)
    made = reexport(
        file, precision="int8", data=folder, output=setting.folder / f"int8-{file.name}",
        force=True, backend=INT8_BACKEND,
    )  # fmt: skip
    certificate = made.contract.certificate
    return made.path, certificate is not None and certificate.passed


def certificates(file: Path) -> str:
    """Return which backends the certificates of a file passed for, and why others did not."""
    from blemish.model_file import read_model_file

    contract = read_model_file(file).contract
    found = []
    for certificate in (contract.certificate, *contract.other_certificates):
        if certificate is not None:
            name = f"{certificate.backend.partition(' ')[0]}:{certificate.precision}"
            state = "passed" if certificate.passed else f"not passed ({'; '.join(certificate.reasons)})"
            changed = certificate.decisions_changed
            found.append(f"{name} {state} on {certificate.images} images, {changed} decisions changed")
    return "certificates: " + ", ".join(found)


def opened(file: Path, backend: str) -> tuple[Any, str]:
    """Return the model on one core, and the backend and precision that it uses."""
    import blemish

    model = blemish.load(file, backend=backend, threads=1)
    model.readers = 1
    return model, f"{model.backend.name.partition(' ')[0]}:{model.backend.precision}"


def openvino_precision(peer: Any) -> str:
    """Return the precision that the peer's compiled OpenVINO network states for its arithmetic."""
    compiled = peer.predictor.model.backend.ov_compiled_model
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())


def detector(setting: Setting, *, name: str, decode: str, paths: list[Path]) -> Contest:
    """YOLO from files to JSON, against Ultralytics with every backend that it can export to here.

    Our side is the INT8 file if its certificate passed, else the float32 file, with the backend that `auto`
    chooses among the certified ones. The other file is measured as well, and so is OpenVINO in bfloat16,
    which Ultralytics' OpenVINO uses where the processor can; without a certificate they are no side of ours.
    """
    import blemish
    from blemish.inference.result_json import json_line

    images = car_images(setting, CERTIFY_IMAGES)
    file = yolo_file(name, setting, decode, certify_on=images)
    quantized, int8_passed = int8_file(setting, file, images)
    model, backend = opened(quantized if int8_passed else file, "auto")
    second, second_backend = opened(file, "auto") if int8_passed else opened(quantized, INT8_BACKEND)
    peers, skipped = ultralytics_models(name, setting)

    def ours(model: Any = model) -> list[str]:
        return [json_line(result) for result in model.stream(paths, min_score=MIN_SCORE, lazy_masks=True)]

    def theirs(peer: Any) -> list[str]:
        how = {"conf": MIN_SCORE, "imgsz": 640, "device": "cpu", "verbose": False}
        return [json.dumps(peer.predict(str(path), **how)[0].summary()) for path in paths]

    counts = [
        sum(len(json.loads(line)["detections"]) for line in ours()),
        *(sum(len(json.loads(line)) for line in theirs(peer)) for peer in peers.values()),
    ]
    side = f"blemish, auto: {backend}, decode: {decode}"
    calls: dict[str, Call] = {side: lambda: drop(ours())}
    for label, peer in peers.items():
        calls[label] = lambda peer=peer: drop(theirs(peer))
    names = ", ".join(f"{label} {count}" for label, count in zip(calls, counts, strict=True))
    accuracy = (
        f"detections with score >= {MIN_SCORE}: {names}; {certificates(file)}; {certificates(quantized)}"
    )
    if "Ultralytics, OpenVINO" in peers:
        precision = openvino_precision(peers["Ultralytics, OpenVINO"])
        accuracy += f"; Ultralytics' OpenVINO computes in {precision}"
    also = (f"blemish, {second_backend}, decode: {decode}",)
    calls[also[0]] = lambda: drop(ours(second))
    if BFLOAT16 not in (backend, second_backend):
        with contextlib.suppress(blemish.BlemishError):  # no such backend, or no such processor
            other = opened(file, BFLOAT16)[0]
            also = (*also, f"blemish, {BFLOAT16}, decode: {decode}")
            calls[also[1]] = lambda: drop(ours(other))

    def one_by_one() -> list[str]:  # a stream reads on other threads, which a profile does not see
        return [json.dumps(model.predict(path, min_score=MIN_SCORE).to_dict()) for path in paths]

    return Contest(
        side, calls, items=len(paths), accuracy=accuracy, skipped=skipped, also=also,
        profile=lambda: profiles.of_call(one_by_one, len(paths)),
    )  # fmt: skip


def phone_images(setting: Setting) -> list[Path]:
    """Enlarge two images of cars to 12 megapixels with grain, so that there are objects to find."""
    return [
        save_jpeg(enlarged(path, MEGAPIXELS_12), setting.folder / path.name)
        for path in car_images(setting, 2)
    ]


def car_images(setting: Setting, count: int = 12) -> list[Path]:
    """Return real images of cars, of 640 px."""
    return sorted(setting.data_file("cars/val").rglob("*.jpg"))[:count]


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
    peer = ultralytics_models("yolo11n-seg", setting)[0]["Ultralytics, torch"]
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


def mask_ap_memory(setting: Setting) -> Contest:
    """Return the memory that the metric of ten times the detections adds; pycocotools gets a tenth."""
    script = str(Path(coco_ap.__file__))

    def side(name: str, per_ground_truth: int) -> Call:
        def call() -> Cost:
            command = [sys.executable, script, "--evaluator", name, str(MAP_IMAGES), str(per_ground_truth)]
            found = json.loads(run_quietly([*command, "True"], setting.environment()).splitlines()[-1])
            return Cost(found["busy"], found["seconds"], found["added_mb"])

        return call

    sides = {
        "blemish, 1,050,000 detections": side("blemish", 30),
        "pycocotools, a tenth": side("pycocotools", 3),
    }
    return Contest("blemish, 1,050,000 detections", sides)


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
        "yolo11n-12mp",
        "YOLO11n at 640 px, JPEG of 12 megapixels to JSON, decode: scaled",
        "Ultralytics' fastest backend",
        1.3,
        lambda s: detector(s, name="yolo11n", decode="scaled", paths=phone_images(s)),
        needs=("ultralytics",),
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
    ),
    Row(
        "mask-ap-memory",
        "the same with ten times the detections: memory beyond that of the objects",
        "pycocotools with a tenth of the detections",
        1,
        mask_ap_memory,
        needs=("pycocotools",),
        lower=True,
        max_megabytes=350,
    ),
)
