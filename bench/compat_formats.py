"""Write every format, and read it with the library of its own tool, in environments of their own.

    python bench/compat_formats.py

Each tool is installed from PyPI, pinned, in a temporary environment. Prints one line per format and tool with
the numbers of images and objects that the tool read, and exits with 1 if one differs from what was written.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from blemish.data import open_dataset
from blemish.data.synthetic import write_panels
from blemish.data.write_dataset import write_dataset
from blemish.structures import Task

IMAGES = 8
DATUMARO = """
import datumaro
data = datumaro.Dataset.import_from(folder, {name!r})
assert all(item.media.data is not None for item in data)
print(len(data), sum(len(item.annotations) for item in data))
"""
SUPERVISION = """
import supervision
data = {call}
print(len(data), sum(len(detections) for _, _, detections in data))
"""
LABELME = """
from pathlib import Path
from labelme._label_file import LabelFile
files = [LabelFile(str(file)) for file in sorted(Path(folder).glob("*.json"))]
assert all(file.image_data for file in files)
print(len(files), sum(len(file.shapes) for file in files))
"""
LABEL_STUDIO = """
import json
from pathlib import Path
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface
interface = LabelInterface(Path(folder, "label_config.xml").read_text())
tasks = json.loads(Path(folder, "tasks.json").read_text())
results = [task["annotations"][0]["result"] for task in tasks]
assert all(interface.validate_annotation({"result": result}) for result in results)
for result in (entry for listed in results for entry in listed if entry["type"] == "brushlabels"):
    pixels = decode_rle(result["value"]["rle"])
    assert len(pixels) == 4 * result["original_width"] * result["original_height"] and any(pixels[3::4])
print(len(tasks), sum(map(len, results)))
"""
# FiftyOne's importers alone: its data sets need a database, MongoDB, which is not in its package.
FIFTYONE = """
from fiftyone.utils.{module} import {name}Importer as Importer
with Importer({options}) as importer:
    found = [row[-1] for row in importer]
found = [row.get("detections") if isinstance(row, dict) else row for row in found]
print(len(found), sum(len(row.detections) for row in found if row is not None))
"""
FIFTYONE_COCO = (
    "data_path=folder + '/images', labels_path=folder + '/annotations.json', label_types='{kind}s'"
)
PREDICTIONS = LABEL_STUDIO.replace('"annotations"', '"predictions"').replace("_annotation(", "_prediction(")
CHECKS = (
    # tool, format, task, and the program that prints the numbers of images and objects in `folder`
    ("datumaro", "cvat", Task.SEGMENTATION, DATUMARO.format(name="cvat")),
    ("datumaro", "cvat", Task.DETECTION, DATUMARO.format(name="cvat")),
    (
        "supervision",
        "coco",
        Task.SEGMENTATION,
        SUPERVISION.format(
            call="supervision.DetectionDataset.from_coco("
            "folder + '/images', folder + '/annotations.json', force_masks=True)"
        ),
    ),
    (
        "supervision",
        "voc",
        Task.DETECTION,
        SUPERVISION.format(
            call="supervision.DetectionDataset.from_pascal_voc("
            "folder + '/JPEGImages', folder + '/Annotations')"
        ),
    ),
    *(
        (
            "fiftyone",
            "coco",
            task,
            FIFTYONE.format(
                module="coco", name="COCODetectionDataset", options=FIFTYONE_COCO.format(kind=task)
            ),
        )
        for task in (Task.SEGMENTATION, Task.DETECTION)
    ),
    (
        "fiftyone",
        "voc",
        Task.DETECTION,
        FIFTYONE.format(
            module="voc",
            name="VOCDetectionDataset",
            options="data_path=folder + '/JPEGImages', labels_path=folder + '/Annotations'",
        ),
    ),
    (
        "fiftyone",
        "yolo",
        Task.DETECTION,
        FIFTYONE.format(
            module="yolo",
            name="YOLOv4Dataset",
            options="dataset_dir=folder, data_path='images', labels_path='labels', "
            "objects_path='classes.txt'",
        ),
    ),
    (
        "fiftyone",
        "cvat",
        Task.DETECTION,
        FIFTYONE.format(
            module="cvat",
            name="CVATImageDataset",
            options="data_path=folder + '/images', labels_path=folder + '/annotations.xml'",
        ),
    ),
    ("labelme", "labelme", Task.SEGMENTATION, LABELME),
    ("labelme", "labelme", Task.DETECTION, LABELME),
    ("label-studio-sdk", "labelstudio", Task.SEGMENTATION, LABEL_STUDIO),
    ("label-studio-sdk", "labelstudio", Task.DETECTION, LABEL_STUDIO),
    ("label-studio-sdk", "labelstudio predictions", Task.SEGMENTATION, PREDICTIONS),
)
PACKAGES = {
    "datumaro": "datumaro==1.13.12",
    "supervision": "supervision==0.31.2",
    "fiftyone": "fiftyone==1.22.1 pycocotools==2.0.11",
    "labelme": "labelme==6.3.1",
    "label-studio-sdk": "label-studio-sdk==2.1.2",
}


def environment(tool: str, folder: Path) -> Path:
    """Install a tool in an environment of its own, and return its Python."""
    own = folder / tool / ("Scripts" if sys.platform == "win32" else "bin")
    python = own / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / tool], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES[tool].split()], check=True)
    return python


def main() -> None:
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for number, (tool, name, task, program) in enumerate(CHECKS):
            kind, _, predicted = name.partition(" ")
            dataset = write_panels(root / f"source{number}", IMAGES, 0, layout="images", task=task)
            scores = {s.id: np.full(len(s.ground_truth), 0.5) for s in dataset if s.ground_truth is not None}
            target = root / f"out{number}"
            write_dataset(dataset, target, kind, scores=scores if predicted else None, model="panels")
            own = open_dataset(target, format=kind, minimum_labels=1)
            expected = (len(own), sum(len(s.ground_truth) for s in own if s.ground_truth is not None))
            code = f"folder = {json.dumps(str(target))}\n{program}"
            run = subprocess.run(
                [environment(tool, root / "tools"), "-W", "ignore", "-c", code],
                capture_output=True,
                text=True,
                check=False,
            )
            found = tuple(map(int, run.stdout.split()[-2:])) if run.returncode == 0 else run.stderr[-800:]
            ok = found == expected
            failed += not ok
            print(f"| {name} | {task} | {PACKAGES[tool]} | {expected} | {found} | {'yes' if ok else 'NO'} |")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
