"""The tensors of the Open Inference Protocol, version 2, in JSON and in its binary extension.

Source:
    KServe, "Open Inference Protocol" (docs/predict-api/v2/required_api.md), and Triton, "Binary Tensor Data
    Extension".
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.service.problem_details import Problem
from blemish.service.settings import Settings
from blemish.service.uploads import format_bytes

INPUT = "image"
HEADER_LENGTH = "Inference-Header-Content-Length"
DATATYPES = {"BYTES": None, "UINT8": np.dtype("<u1"), "FP32": np.dtype("<f4")}
_PARAMETERS = ("binary_data_output", "min_score")
_OUTPUT_TYPES = {"FP32": np.dtype("<f4"), "INT32": np.dtype("<i4"), "BOOL": np.dtype("?")}


def tensor_problem(detail: str, reason: str = "") -> Problem:
    """Return the problem of a request that does not follow the protocol."""
    return Problem(f"bad-tensor.{reason}" if reason else "bad-tensor", detail)


@dataclass(frozen=True)
class OutputTensor:
    """One output of an answer.

    Attributes:
        name: its name.
        datatype: FP32, INT32, BOOL or BYTES.
        data: an array, or for BYTES a list of byte strings.
    """

    name: str
    datatype: str
    data: NDArray[Any] | Sequence[bytes]

    @property
    def shape(self) -> list[int]:
        """The size of each axis."""
        return list(self.data.shape) if isinstance(self.data, np.ndarray) else [len(self.data)]

    def to_bytes(self) -> bytes:
        """Return the values in row-major order, little-endian; BYTES with the length before each."""
        if isinstance(self.data, np.ndarray):
            return self.data.astype(_OUTPUT_TYPES[self.datatype]).tobytes()
        return b"".join(len(value).to_bytes(4, "little") + value for value in self.data)

    def to_json(self) -> list[Any]:
        """Return the values in row-major order."""
        if isinstance(self.data, np.ndarray):
            return list(self.data.reshape(-1).tolist())
        return [value.decode("utf-8") for value in self.data]


@dataclass(frozen=True)
class InferenceCall:
    """What a client asks.

    Attributes:
        images: one image file per image of the request, as bytes.
        identity: the client's name of the request, or "".
        min_score: detections with a lower score are left out, or None.
        outputs: whether each requested output is binary, by name; empty for all.
        binary: whether outputs are binary that do not state it.
    """

    images: list[bytes]
    identity: str = ""
    min_score: float | None = None
    outputs: Mapping[str, bool] = field(default_factory=dict)
    binary: bool = False


def read_call(
    body: bytes, header_length: str | None, settings: Settings, known: Sequence[str]
) -> InferenceCall:
    """Return the content of a request.

    Args:
        body: the body as sent.
        header_length: value of the header `Inference-Header-Content-Length`, or None without binary data.
        settings: the limits of images.
        known: names of the outputs of the model.

    Raises:
        Problem: the request does not follow the protocol, or exceeds a limit.
    """
    length = len(body)
    if header_length is not None:
        length = int(header_length) if header_length.isdecimal() and len(header_length) < 12 else -1
        if not 0 <= length <= len(body):
            raise tensor_problem(
                f"{HEADER_LENGTH}: expected a number up to {len(body)}, the length of the body."
            )
    try:
        content = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise tensor_problem("The body is not JSON. Send it as the protocol describes.", "json") from error
    if not isinstance(content, dict):
        raise tensor_problem("The body: expected a JSON object with 'inputs'.", "json")
    parameters = _mapping(content, "parameters")
    for name in parameters:
        if name not in _PARAMETERS:
            raise tensor_problem(
                f"The parameter {name[:40]!r} is not known. Known are {', '.join(_PARAMETERS)}.",
                "parameter",
            )
    binary = parameters.get("binary_data_output", False)
    min_score = parameters.get("min_score")
    if not isinstance(binary, bool):
        raise tensor_problem("binary_data_output: expected true or false.", "parameter")
    if min_score is not None and not (_is_number(min_score) and 0 <= min_score <= 1):
        raise tensor_problem("min_score: expected a number from 0 to 1.", "parameter")
    identity = content.get("id", "")
    if not isinstance(identity, str):
        raise tensor_problem("id: expected a text.", "json")
    return InferenceCall(
        images=_read_inputs(content, body[length:], settings),
        identity=identity,
        min_score=min_score,
        outputs=_read_outputs(content, binary, known),
        binary=binary,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, dict):
        raise tensor_problem(f"{key}: expected an object.", "json")
    return value


def _entries(content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = content.get(key) or []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise tensor_problem(f"{key}: expected a list of objects.", "json")
    return value


def _read_outputs(content: Mapping[str, Any], binary: bool, known: Sequence[str]) -> dict[str, bool]:
    chosen: dict[str, bool] = {}
    for entry in _entries(content, "outputs"):
        name, parameters = str(entry.get("name")), _mapping(entry, "parameters")
        if name not in known:
            raise tensor_problem(
                f"The model has no output {name[:40]!r}. Its outputs are: {', '.join(known)}.", "output"
            )
        if parameters.keys() - {"binary_data"}:
            raise tensor_problem("outputs: expected no parameter except binary_data.", "parameter")
        chosen[name] = bool(parameters.get("binary_data", binary))
    return chosen


def _read_inputs(content: Mapping[str, Any], rest: bytes, settings: Settings) -> list[bytes]:
    entries = _entries(content, "inputs")
    if len(entries) != 1 or entries[0].get("name") != INPUT:
        names = ", ".join(str(entry.get("name"))[:40] for entry in entries[:5]) or "none"
        raise tensor_problem(f"inputs: expected one input with the name {INPUT!r}, got {names}.", "input")
    entry = entries[0]
    datatype, shape = entry.get("datatype"), entry.get("shape")
    if datatype not in DATATYPES:
        raise tensor_problem(f"{INPUT}: expected the datatype {', '.join(DATATYPES)}.", "datatype")
    if not isinstance(shape, list) or not shape or not all(type(s) is int and 0 < s < 2**31 for s in shape):
        raise tensor_problem(f"{INPUT}: expected a shape of positive numbers.", "shape")
    parameters = _mapping(entry, "parameters")
    size = parameters.get("binary_data_size")
    if parameters.keys() - {"binary_data_size"}:
        raise tensor_problem(f"{INPUT}: expected no parameter except binary_data_size.", "parameter")
    if (size is None) != ("data" in entry) or (size is None and rest):
        raise tensor_problem(f"{INPUT}: expected either data, or binary_data_size and the bytes.", "data")
    if size is not None and size != len(rest):
        raise tensor_problem(
            f"{INPUT}: binary_data_size and the {len(rest)} bytes after the JSON differ.", "data"
        )
    data = entry.get("data") if size is None else rest
    images = math.prod(shape) if datatype == "BYTES" else _num_images(shape, settings)
    if images > settings.max_images:
        raise Problem(
            "too-many-images",
            f"The request has {images} images, and this server accepts {settings.max_images}. Send fewer.",
            limit=("max_images", settings.max_images),
        )
    if datatype == "BYTES":
        return _encoded_images(data, images, settings)
    return _pixels(data, shape, datatype, settings)


def _num_images(shape: list[int], settings: Settings) -> int:
    """Return the number of images of a pixel tensor; their size is checked before their data are read."""
    if len(shape) not in (3, 4) or shape[-1] != 3:
        raise tensor_problem(
            f"{INPUT}: expected the shape (h, w, 3) or (n, h, w, 3), got {shape[:6]}.", "shape"
        )
    height, width = shape[-3:-1]
    if height * width > settings.max_pixels:
        raise Problem(
            "image-too-large.max-pixels",
            f"The image has more than the {settings.max_pixels / 1e6:.3g} megapixels that this server "
            "accepts. Send a smaller one.",
            limit=("max_pixels", settings.max_pixels),
        )
    return shape[0] if len(shape) == 4 else 1


def _encoded_images(data: Any, count: int, settings: Settings) -> list[bytes]:
    """Return image files: in JSON as base64, in binary data with the length before each."""
    found: list[bytes] = []
    if isinstance(data, bytes):
        position = 0
        while position < len(data):
            length = int.from_bytes(data[position : position + 4], "little")
            found.append(data[position + 4 : position + 4 + length])
            position += 4 + length
        if position != len(data):
            raise tensor_problem(f"{INPUT}: the bytes end inside an element.", "data")
    else:
        for text in _flat(data):
            try:
                found.append(base64.b64decode(text, validate=True))
            except (binascii.Error, TypeError, ValueError) as error:
                raise tensor_problem(
                    f"{INPUT}: in JSON, expected each image file as base64. Send binary data for bytes.",
                    "data",
                ) from error
    if len(found) != count:
        raise tensor_problem(f"{INPUT}: the shape states {count} elements, got {len(found)}.", "data")
    for image in found:
        _check_bytes(len(image), settings)
    return found


def _pixels(data: Any, shape: list[int], datatype: str, settings: Settings) -> list[bytes]:
    """Return images of pixels as BMP files: UINT8 from 0 to 255, or FP32 from 0 to 1, in RGB."""
    dtype, count = DATATYPES[datatype], math.prod(shape)
    if isinstance(data, bytes):
        if len(data) != count * np.dtype(dtype).itemsize:
            raise tensor_problem(f"{INPUT}: the shape states {count} values of {datatype}.", "data")
        values = np.frombuffer(data, dtype)
    else:
        flat = _flat(data)
        if len(flat) != count or not all(map(_is_number, flat)):
            raise tensor_problem(
                f"{INPUT}: the shape states {count} numbers, got {len(flat)} values.", "data"
            )
        values = np.array(flat, np.float64)
    high = 255 if datatype == "UINT8" else 1
    if not ((values >= 0) & (values <= high)).all():
        raise tensor_problem(f"{INPUT}: expected {datatype} pixels from 0 to {high}.", "data")
    if datatype == "FP32":
        values = np.rint(values * 255)
    pixels = values.astype(np.uint8).reshape(-1, *shape[-3:])
    files = []
    for image in pixels:
        _check_bytes(image.nbytes, settings)
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "BMP")
        files.append(buffer.getvalue())
    return files


def _flat(data: Any) -> list[Any]:
    """Return the values of nested lists in order."""
    if not isinstance(data, list):
        raise tensor_problem(f"{INPUT}: data: expected a list.", "data")
    values = data
    for _ in range(4):
        if not values or not isinstance(values[0], list):
            break
        if not all(isinstance(value, list) for value in values):
            raise tensor_problem(f"{INPUT}: data: expected lists of the same depth.", "data")
        values = [value for inner in values for value in inner]
    return values


def _check_bytes(size: int, settings: Settings) -> None:
    if size > settings.max_upload_bytes:
        raise Problem(
            "upload-too-large",
            f"The image is larger than the {format_bytes(settings.max_upload_bytes)} that this server "
            "accepts. Send a smaller one.",
            limit=("max_upload_bytes", settings.max_upload_bytes),
        )


def write_answer(
    fields: Mapping[str, Any], outputs: Sequence[OutputTensor], call: InferenceCall
) -> tuple[bytes, int]:
    """Return the body of an answer, and the length of its JSON if binary data follow it, else 0.

    Args:
        fields: model_name, model_version, id and parameters.
        outputs: every output of the model.
        call: selects the outputs and how each is written.
    """
    described, parts = [], []
    for tensor in outputs:
        if call.outputs and tensor.name not in call.outputs:
            continue
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if call.outputs.get(tensor.name, call.binary):
            parts.append(tensor.to_bytes())
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = tensor.to_json()
        described.append(entry)
    text = json.dumps({**fields, "outputs": described}, ensure_ascii=False).encode()
    return b"".join([text, *parts]), len(text) if parts else 0
