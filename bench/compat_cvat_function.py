"""Call the automatic annotation function with the unmodified cvat-sdk, against a stub of CVAT's server.

    python -m pip install cvat-sdk==2.80.0
    python bench/compat_cvat_function.py model.onnx photo.png [--record FILE]

`annotate_task` of cvat-sdk, which `cvat-cli task auto-annotate` calls, reads a task of two images from the
stub, calls `blemish.contrib.cvat_function`, and uploads the annotations. They are compared with the model
file's predictions, masks decoded by `cvat_sdk.masks`. `--record` writes the uploaded document for the tests.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import tempfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from blemish import load
from blemish.geometry import mask_to_array
from blemish.structures import Prediction

TASK = 137
DATE = "2026-01-01T00:00:00Z"
IMAGES = 2


class StubServer(ThreadingHTTPServer):
    """A task of CVAT with `IMAGES` copies of one image, and what was uploaded to it."""

    def __init__(self, photo: Path, labels: list[str], kind: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.photo, self.labels, self.kind = photo.read_bytes(), labels, kind
        with Image.open(photo) as image:
            self.size = image.size
        self.uploaded: dict = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def task(self) -> dict:
        """Return the task."""
        owner = {"url": "", "id": 1, "username": "user", "first_name": "", "last_name": ""}
        empty = dict.fromkeys(("project_id", "assignee", "organization", "source_storage", "target_storage"))
        sizes = {"overlap": 0, "segment_size": IMAGES, "size": IMAGES, "data_chunk_size": IMAGES, "data": 1}
        texts = {"url": "", "name": "task", "mode": "annotation", "status": "annotation", "dimension": "2d"}
        chunks = dict.fromkeys(("data_compressed_chunk_type", "data_original_chunk_type"), "imageset")
        return {
            **empty, **sizes, **texts, **chunks, "id": TASK, "owner": owner, "bug_tracker": "", "subset": "",
            "created_date": DATE, "updated_date": DATE, "image_quality": 70, "labels": {"url": ""},
            "issues": {"url": "", "count": 0},
            "jobs": {"count": 1, "completed": 0, "validation": 0, "url": ""},
        }  # fmt: skip

    def meta(self) -> dict:
        """Return the description of the images."""
        size = dict(zip(("width", "height"), self.size, strict=True))
        return {
            "image_quality": 70, "start_frame": 0, "stop_frame": IMAGES - 1, "frame_filter": "",
            "chunk_size": IMAGES, "size": IMAGES, "deleted_frames": [], "included_frames": None,
            "chunks_updated_date": DATE, "frames": [
                {**size, "name": f"{i}.png", "has_related_context": False, "related_files": 0}
                for i in range(IMAGES)
            ],
        }  # fmt: skip

    def label_page(self) -> dict:
        """Return the labels of the task."""
        empty = {"attributes": [], "sublabels": [], "has_parent": False, "parent_id": None, "svg": ""}
        rows = [
            {**empty, "id": 10 + i, "name": name, "color": "#000000", "type": self.kind, "task_id": TASK,
             "updated_date": DATE}
            for i, name in enumerate(self.labels)
        ]  # fmt: skip
        return {"count": len(rows), "next": None, "previous": None, "results": rows}

    def chunk(self) -> bytes:
        """Return the images as CVAT packs them."""
        with io.BytesIO() as buffer:
            with zipfile.ZipFile(buffer, "w") as archive:
                for i in range(IMAGES):
                    archive.writestr(f"{i:06d}.png", self.photo)
            return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    """The routes that `annotate_task` asks for."""

    server: StubServer

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer with the task."""
        about = {"name": "CVAT", "description": "", "version": "2.80.0", "logo_url": "", "subtitle": ""}
        answers = {
            "/api/server/about": lambda: about,
            f"/api/tasks/{TASK}": self.server.task,
            f"/api/tasks/{TASK}/data/meta": self.server.meta,
            "/api/labels": self.server.label_page,
        }
        path = urlsplit(self.path).path.rstrip("/")
        if path == f"/api/tasks/{TASK}/data":
            self.answer(self.server.chunk(), "application/zip")
        else:
            self.answer(json.dumps(answers[path]()).encode(), "application/vnd.cvat+json")

    def do_PATCH(self) -> None:
        """Keep what is uploaded."""
        self.server.uploaded = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(json.dumps({**self.server.uploaded, "version": 1}).encode(), "application/vnd.cvat+json")

    def answer(self, data: bytes, media_type: str) -> None:
        """Send an answer."""
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def check(uploaded: dict, expected: Prediction, *, polygons: bool) -> None:
    """Compare the annotations of each image with the prediction."""
    from cvat_sdk.masks import decode_mask

    assert expected.size_hw is not None
    height, width = expected.size_hw
    for frame in range(IMAGES):
        shapes = [shape for shape in uploaded["shapes"] if shape["frame"] == frame]
        tags = [tag["label_id"] - 10 for tag in uploaded["tags"] if tag["frame"] == frame]
        if expected.boxes_xyxy is None:
            assert tags == expected.label_index.tolist()
        elif polygons and expected.masks is not None:
            assert {shape["type"] for shape in shapes} <= {"polygon"}
        else:
            assert [shape["label_id"] - 10 for shape in shapes] == expected.label_index.tolist()
            for row, shape in enumerate(shapes):
                if expected.masks is None:
                    np.testing.assert_allclose(shape["points"], expected.boxes_xyxy[row])
                else:
                    mask = decode_mask(shape["points"], image_width=width, image_height=height)
                    assert np.array_equal(mask, mask_to_array(expected.masks[row]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    import cvat_sdk
    import cvat_sdk.auto_annotation as cvataa

    predictor = load(options.model)
    expected = predictor.predict(options.photo).filter_scores()
    task = predictor.task
    recorded = []
    for polygons in (False, True):
        kind = "tag" if not task.has_boxes else "rectangle" if not task.has_masks else "any"
        with (
            StubServer(options.photo, list(predictor.labels.names or ("object",)), kind) as server,
            tempfile.TemporaryDirectory() as cache,
        ):
            threading.Thread(target=server.serve_forever, daemon=True).start()
            client = cvat_sdk.Client(server.url, config=cvat_sdk.Config(cache_dir=Path(cache)))
            function = importlib.import_module("blemish.contrib.cvat_function").create(model=options.model)
            cvataa.annotate_task(client, TASK, function, conv_mask_to_poly=polygons)
            server.shutdown()
        check(server.uploaded, expected, polygons=polygons)
        recorded.append(server.uploaded)
        print({name: len(rows) for name, rows in server.uploaded.items()}, "equal")
    if options.record is not None:
        options.record.write_text(json.dumps(recorded[0], indent=1) + "\n")


if __name__ == "__main__":
    main()
