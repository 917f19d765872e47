"""The model file: an ONNX graph that carries its own contract.

The contract stands in the graph's metadata as JSON, so any ONNX runtime loads the file and Blemish needs
nothing beside it. Reading and writing it takes neither ONNX nor torch: a protobuf message is a list of
fields, and metadata are top-level fields of number 14 that may stand anywhere in the file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from blemish.errors import BadInput, BadModelFile, StorageFull
from blemish.vocabulary import Labels, Task

FORMAT_VERSION = 1
CONTRACT_KEY = "blemish"
FINGERPRINTS_KEY = "blemish.fingerprints"
FINGERPRINT_BYTES = 49  # of one photograph: 1 + 1 + 4 words and its split
METADATA_FIELD = 14  # ModelProto.metadata_props
GRAPH_FIELD = 7  # ModelProto.graph
MOST_PARTS = 50_000  # top-level fields: real models have a few dozen, and megabytes of tiny ones are no model

Side = Annotated[int, Field(ge=1, le=2**15)]  # pixels
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Clause(BaseModel):
    """One part of the contract: frozen, and a key nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelSpec(Clause):
    """One label: its name in data and its title for people."""

    name: str
    title: str


class InputSpec(Clause):
    """How a photograph becomes one named input of the network.

    Attributes:
        name: the graph's input.
        size_hw: what the network takes, pixels.
        resize: `stretch` to `size_hw`; `letterbox`: fit inside, keep the shape, pad the rest;
            `shortest`: the shorter side to `resize_to`, then a centre crop of `size_hw`.
        resize_to: pixels, for `shortest`; the shorter side of `size_hw` where not given.
        interpolation: Pillow's antialiased filter.
        mean: one a channel, taken from values as `scale` leaves them.
        std: likewise; what is left is divided by it.
        channels: 3 for RGB, 1 for grey.
        scale: `unit` brings values to [0, 1], 1 being white; `byte` to 0..255.
        white_level: what counts as 1.0 in 16-bit photographs.
        pad_value: 0..255, the border of a letterbox.
        letterbox_align: `center` pads both sides, `corner` only right and below.
    """

    name: str = "image"
    size_hw: tuple[Side, Side]
    resize: Literal["stretch", "letterbox", "shortest"] = "stretch"
    resize_to: Side | None = None
    interpolation: Literal["bilinear", "bicubic", "lanczos", "box"] = "bilinear"
    mean: tuple[Finite, ...] = (0.485, 0.456, 0.406)
    std: tuple[Positive, ...] = (0.229, 0.224, 0.225)
    channels: Literal[1, 3] = 3
    scale: Literal["unit", "byte"] = "unit"
    white_level: Annotated[int, Field(ge=1, le=65535)] = 65535
    pad_value: Annotated[int, Field(ge=0, le=255)] = 114
    letterbox_align: Literal["center", "corner"] = "center"

    @model_validator(mode="after")
    def _one_a_channel(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std take one number for each of {self.channels} channels")
        return self


class OutputSpec(Clause):
    """One output of the graph: its name, what it is, and whether it still needs an activation."""

    name: str
    role: str
    activation: Literal["logits", "probabilities", "none"] = "none"


class DecoderSpec(Clause):
    """Which decoder reads the outputs, and its settings."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)


class Parity(Clause):
    """The certificate: that this file decides as the network it came from.

    Attributes:
        passed: no verdict changed and the outputs are not near-constant.
        photographs: how many were compared.
        verdicts_changed: how many decisions differ.
        largest_difference: of any score.
        metric: the headline metric's name.
        metric_before: with the network, on those photographs.
        metric_after: with the file.
        backend: what ran the file: `onnxruntime 1.31 CPUExecutionProvider`.
        precision: `fp32`, `fp16`.
        cpu: the processor's widest capability: `avx512`.
        graph_digest: sha256 of the file without metadata.
        reasons: why it did not pass.
    """

    passed: bool
    photographs: int
    verdicts_changed: int
    largest_difference: float
    metric: str = ""
    metric_before: float | None = None
    metric_after: float | None = None
    backend: str = ""
    precision: str = "fp32"
    cpu: str = ""
    graph_digest: str = ""
    reasons: tuple[str, ...] = ()


class Licences(Clause):
    """What the user stated of weights and data; empty where nobody said."""

    weights: str = ""
    data: str = ""
    code: str = "Apache-2.0"


class Contract(Clause):
    """Everything that must be known to use the network, and where it came from.

    Attributes:
        format_version: of this contract.
        blemish_version: that wrote it.
        name: of the run.
        architecture: registry name.
        task: what it answers.
        labels: in the order of the outputs.
        inputs: one for each input of the graph.
        outputs: one for each output that is read.
        decoder: how outputs become a prediction.
        temperature: logits are divided by it before the activation.
        thresholds: per label, the score from which the verdict is yes; empty for classification, where
            the best label is the verdict.
        thresholds_tuned_on: the split they were chosen on, or "".
        score_floor: boxes below it are not in the outputs.
        dynamic_batch: whether the graph takes more than one photograph at once.
        feature_layer: the layer that explanations look at.
        recipe: as resolved.
        training: seed, best epoch, versions, weights, device and the like.
        data: name, counts a split, how it was split and the group key.
        metrics: by split; figures obtained with tuned thresholds are marked `tuned`.
        licences: of weights, data, code.
        certificate: parity of file and network; None before it was made.
    """

    format_version: int = FORMAT_VERSION
    blemish_version: str = ""
    name: str = ""
    architecture: str
    task: Task
    labels: tuple[LabelSpec, ...]
    inputs: Annotated[tuple[InputSpec, ...], Field(min_length=1)]
    outputs: Annotated[tuple[OutputSpec, ...], Field(min_length=1)]
    decoder: DecoderSpec
    temperature: Positive = 1.0
    thresholds: dict[str, Share] = Field(default_factory=dict)
    thresholds_tuned_on: str = ""
    score_floor: Share = 0.0
    dynamic_batch: bool = True
    feature_layer: str = ""
    recipe: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    licences: Licences = Licences()
    certificate: Parity | None = None

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        try:
            labels = self.label_vocabulary()
        except BadInput as error:
            raise ValueError(str(error)) from None
        if self.task.is_image_level and not len(labels):
            raise ValueError(f"{self.task} without labels")
        if stray := sorted(set(self.thresholds) - set(labels)):
            raise ValueError(f"thresholds of labels that do not exist: {', '.join(stray)}")
        for kind, specs in (("input", self.inputs), ("output", self.outputs)):
            if len({spec.name for spec in specs}) < len(specs):
                raise ValueError(f"two {kind}s of one name")
        return self

    def label_vocabulary(self) -> Labels:
        """The labels as the other rooms take them."""
        return Labels(tuple(x.name for x in self.labels), tuple(x.title for x in self.labels))

    def threshold_array(self) -> np.ndarray:
        """(L,) float64 thresholds in label order; .5 where none was chosen."""
        return np.array([self.thresholds.get(x.name, 0.5) for x in self.labels], np.float64)


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """What is kept of the photographs a model learned from, so that a test set can be compared.

    Attributes:
        pixel: (n,) uint64, the first 8 bytes of the SHA-256 of the upright pixels.
        perceptual: (n,) uint64, a perceptual hash: near-identical photographs differ in few bits.
        detail: (n, 4) uint64, a finer one, which tells apart what only looks alike at first sight.
        split: (n,) uint8, 0 for train, 1 for val.
    """

    pixel: np.ndarray
    perceptual: np.ndarray
    detail: np.ndarray
    split: np.ndarray

    def to_text(self) -> str:
        """Base64 of the four arrays, little-endian."""
        words = (self.pixel, self.perceptual, self.detail)
        parts = [np.ascontiguousarray(w, "<u8").tobytes() for w in words]
        return base64.b64encode(b"".join([*parts, self.split.astype("u1").tobytes()])).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> Fingerprints:
        """The arrays that `to_text` wrote; BadModelFile for anything else."""
        try:
            raw = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise BadModelFile("the model file's fingerprints are damaged; export it again") from error
        if len(raw) % FINGERPRINT_BYTES:
            raise BadModelFile("the model file's fingerprints are damaged; export it again")
        n = len(raw) // FINGERPRINT_BYTES
        words = np.frombuffer(raw[: 48 * n], "<u8").astype(np.uint64)
        detail = words[2 * n :].reshape(n, 4)
        return cls(words[:n], words[n : 2 * n], detail, np.frombuffer(raw[48 * n :], "u1"))

    @classmethod
    def none(cls) -> Fingerprints:
        """Of no photograph at all."""
        words = np.zeros(0, np.uint64)
        return cls(words, words, np.zeros((0, 4), np.uint64), np.zeros(0, np.uint8))


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model file that was opened: its path, contract, fingerprints and digests.

    Attributes:
        path: where it lies.
        contract: what it promises.
        digest: sha256 of the whole file, hex.
        graph_digest: sha256 of the file without metadata, hex; the certificate is bound to it.
    """

    path: Path
    contract: Contract
    digest: str
    graph_digest: str
    fingerprints: Fingerprints


def read_model_file(path: Path | str) -> ModelFile:
    """What a model file promises, without loading its network.

    Raises:
        BadModelFile: missing, truncated, no ONNX, without a contract, or of a later format.
    """
    path = Path(path)
    properties: dict[str, str] = {}
    # In one pass: the two digests part where the first metadata stand, at the end of files of our own.
    whole, graph = hashlib.sha256(), None
    with _mapped(path) as view:
        for part in _parts(view, path):
            if part.number == METADATA_FIELD:
                graph = graph or whole.copy()
                key, value = _entry(bytes(view[part.body : part.end]), path)
                properties[key] = value
            elif graph is not None:
                graph.update(view[part.start : part.end])
            whole.update(view[part.start : part.end])
    if CONTRACT_KEY not in properties:
        raise BadModelFile(
            f"{path}: an ONNX file without Blemish's contract; make one with blemish export or blemish import"
        )
    contract = _contract(properties[CONTRACT_KEY], path)
    prints = properties.get(FINGERPRINTS_KEY)
    fingerprints = Fingerprints.from_text(prints) if prints else Fingerprints.none()
    return ModelFile(path, contract, whole.hexdigest(), (graph or whole).hexdigest(), fingerprints)


def write_model_file(
    path: Path | str, graph: bytes, contract: Contract, fingerprints: Fingerprints | None = None
) -> ModelFile:
    """Write a graph with its contract, complete or not at all.

    Args:
        path: where to; an existing file is replaced only once the new one is safely on disk.
        graph: a serialised ONNX ModelProto; Blemish's own metadata in it are replaced.
        contract: what to promise.
        fingerprints: of the photographs it learned from.

    Raises:
        BadModelFile: `graph` is no ONNX model.
        StorageFull: it could not be written; an earlier file at `path` is intact.
    """
    path = Path(path)
    view = memoryview(graph)
    kept: list[bytes | memoryview] = [
        view[part.start : part.end]
        for part in _parts(view, Path("the graph"))
        if part.number != METADATA_FIELD
        or _entry(graph[part.body : part.end], path)[0] not in (CONTRACT_KEY, FINGERPRINTS_KEY)
    ]
    if fingerprints is not None and fingerprints.pixel.size:
        kept.append(_encode_entry(FINGERPRINTS_KEY, fingerprints.to_text()))
    # The contract stands last: a file that was cut short has none.
    kept.append(_encode_entry(CONTRACT_KEY, contract.model_dump_json()))
    write_atomically(path, *kept)
    return read_model_file(path)


def read_graph(path: Path | str) -> bytes:
    """The bytes of a model file's graph, without any metadata.

    Raises:
        BadModelFile: missing, truncated or no ONNX.
    """
    path = Path(path)
    with _mapped(path) as view:
        return b"".join(view[p.start : p.end] for p in _parts(view, path) if p.number != METADATA_FIELD)


def graph_digest(graph: bytes) -> str:
    """SHA-256, hex, of a serialised ONNX model without its metadata; BadModelFile for other bytes."""
    digest, view = hashlib.sha256(), memoryview(graph)
    for part in _parts(view, Path("the graph")):
        if part.number != METADATA_FIELD:
            digest.update(view[part.start : part.end])
    return digest.hexdigest()


def write_atomically(path: Path, *parts: bytes | memoryview) -> None:
    """Write beside, sync, rename: whoever reads `path` sees the old file or the new one, never half of it.

    Args:
        path: its folder is made where it is missing.
        parts: written one after the other.

    Raises:
        StorageFull: it could not be written; what stood at `path` is intact.
    """
    # Named after the thread too: a service writes from several.
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise StorageFull(
            f"{path} could not be written ({error.strerror}); free some space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):  # gone when all went well
            beside.unlink()


def _contract(text: str, path: Path) -> Contract:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadModelFile(f"{path}: the contract is damaged; export the model again") from error
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if type(version) is not int or version < 1:
        raise BadModelFile(f"{path}: the contract is damaged: it names no format; export the model again")
    if version > FORMAT_VERSION:
        raise BadModelFile(
            f"{path}: written by Blemish {raw.get('blemish_version')} in format {version}; "
            f"this one reads up to format {FORMAT_VERSION}: upgrade Blemish"
        )
    try:
        return Contract.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(x) for x in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise BadModelFile(f"{path}: the contract is damaged{place and f' at {place}'}: {reason}") from error


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    """The bytes of a file, read as they are looked at."""
    try:
        if path.is_dir():
            raise BadModelFile(f"{path}: this is a folder; did you mean {path / 'model.onnx'}?")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise BadModelFile(f"{path}: the file is empty")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise BadModelFile(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte, a device that has no bytes
        reason = getattr(error, "strerror", None) or str(error)
        raise BadModelFile(f"{path}: cannot be read ({reason})") from error
    with mapped, memoryview(mapped) as view:
        yield view


@dataclass(frozen=True)
class _Part:
    """One top-level field of a protobuf message: where it starts, where its payload does, where it ends."""

    number: int
    start: int
    body: int
    end: int


def _parts(data: memoryview, path: Path) -> list[_Part]:
    """The top-level fields of an ONNX ModelProto; BadModelFile for anything that is none."""
    parts = list(islice(_fields(data, path), MOST_PARTS + 1))
    if len(parts) > MOST_PARTS or not any(part.number == GRAPH_FIELD for part in parts):
        raise BadModelFile(f"{path}: no ONNX model file")
    return parts


def _fields(data: memoryview | bytes, path: Path) -> Iterator[_Part]:
    position, size = 0, len(data)
    while position < size:
        start = position
        tag, position = _varint(data, position, path)
        number, kind = tag >> 3, tag & 7
        if kind == 2:
            length, position = _varint(data, position, path)
            body, position = position, position + length
        elif kind == 0:
            body = position
            _, position = _varint(data, position, path)
        else:
            body, position = position, position + {1: 8, 5: 4}.get(kind, size + 1)
        if number == 0 or position > size:
            cut = number and start  # what came before was sound
            what = "the file is cut short; copy or export it again" if cut else "no ONNX model file"
            raise BadModelFile(f"{path}: {what}")
        yield _Part(number, start, body, position)


def _varint(data: memoryview | bytes, position: int, path: Path) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
    raise BadModelFile(f"{path}: no ONNX model file, or one that is cut short")


def _entry(data: bytes, path: Path) -> tuple[str, str]:
    """Key and value of one StringStringEntryProto."""
    found = {1: "", 2: ""}
    for part in _fields(data, path):
        found[part.number] = data[part.body : part.end].decode("utf-8", "replace")
    return found[1], found[2]


def _encode_entry(key: str, value: str) -> bytes:
    inner = b"".join(
        bytes([number << 3 | 2]) + _encode_varint(len(text)) + text
        for number, text in ((1, key.encode()), (2, value.encode()))
    )
    return bytes([METADATA_FIELD << 3 | 2]) + _encode_varint(len(inner)) + inner


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])
