"""What whole-image networks cost from a JPEG to JSON, in float32 and INT8, against eager PyTorch with PIL."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from bench.pictures import MEGAPIXELS_12, photo, save_jpeg
from bench.row import Contest, Row, Setting

LABELS = ("dent", "scratch", "crack", "glass", "lamp", "tire")
CALIBRATION_IMAGES = 32
PIXELS_640 = (640, 640)  # height and width


def classifier(
    setting: Setting,
    *,
    network: str,
    side: int,
    size_hw: tuple[int, int],
    decode: str = "full",
    precision: str = "fp32",
) -> Contest:
    """Return the sides of one network with random weights.

    Args:
        setting: see `Row`.
        network: name of the architecture.
        side: height and width of the input in pixels.
        size_hw: of the JPEG, in pixels.
        decode: of our contract: `full` or `scaled`.
        precision: of our file: `fp32` or `int8`.
    """
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
    size = {} if network == "fusion" else {"input_size": side}
    module = create(network, task="classification", label_count=len(LABELS), **size).eval()
    contract = Contract(
        architecture=network,
        task=module.task,
        labels=tuple(LabelSpec(name=label, display_name=label) for label in LABELS),
        inputs=module.inputs,
        outputs=module.outputs,
        decoder=module.decoder,
    )
    path = save_jpeg(photo(0, size_hw), setting.folder / "photo.jpg")
    if precision == "int8":
        fit_head(module, draw_images(setting, size_hw))
    graph = export_network(module)
    files = {
        kind: write_model_file(setting.folder / f"{kind}.onnx", graph, with_decode(contract, kind)).path
        for kind in ("full", "scaled")
    }
    notes = []
    if precision == "int8":
        files[decode], note = quantized(setting, files[decode])
        notes.append(note)
    models = {kind: blemish.load(file, backend="onnxruntime", threads=1) for kind, file in files.items()}
    prepare = [
        v2.Compose(
            [
                v2.Resize(spec.size_hw),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(spec.mean, spec.std),
            ]
        )
        for spec in module.inputs
    ]

    def ours(kind: str) -> str:
        return json.dumps(models[kind].predict(path).to_dict())

    @torch.inference_mode()
    def eager() -> list[float]:
        image = Image.open(path).convert("RGB")
        scores: list[float] = module(*(p(image)[None] for p in prepare))[0].softmax(1)[0].tolist()
        json.dumps({"path": str(path), "scores": scores})
        return scores

    found = {kind: [x["score"] for x in json.loads(ours(kind))["labels"]] for kind in models}
    gaps = {kind: max(abs(a - b) for a, b in zip(found[kind], eager(), strict=True)) for kind in models}
    stated = ["full", "scaled"] if size_hw == MEGAPIXELS_12 else [decode]
    notes.insert(0, f"scores differ from the peer's by {', '.join(f'{gaps[k]:.0e} ({k})' for k in stated)}")
    label = f"blemish, decode: {decode}" if size_hw == MEGAPIXELS_12 else f"blemish, {precision}"
    sides = {label: lambda: drop(ours(decode)), "torch eager, PIL": lambda: drop(eager())}
    return Contest(label, sides, accuracy="; ".join(notes))


def drop(_: object) -> None:
    """Drop a result, so that the runner measures the call."""


def draw_images(setting: Setting, size_hw: tuple[int, int]) -> list[Path]:
    """Draw the images that INT8 is calibrated and certified on, and return their paths."""
    folder = setting.folder / "calibration"
    folder.mkdir()
    return [save_jpeg(photo(i + 1, size_hw), folder / f"{i}.jpg") for i in range(CALIBRATION_IMAGES)]


def fit_head(module: Any, paths: list[Path]) -> None:
    """Fit the last layer to a label for each image: decisions of random weights would have no margin."""
    import torch

    from blemish.imaging import open_image
    from blemish.preprocessing import prepare

    head = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)][-1]
    features: list[Any] = []
    handle = head.register_forward_hook(lambda _, inputs, __: features.append(inputs[0]))
    with torch.inference_mode():
        for path in paths:
            image = open_image(path)
            module(*(torch.from_numpy(prepare(image, spec)[0])[None] for spec in module.inputs))
    handle.remove()
    x = torch.cat(features).double()
    center, labels = x.mean(0), torch.arange(len(x)) % len(LABELS)
    target = 8 * torch.nn.functional.one_hot(labels, len(LABELS)).double()
    kernel = (x - center) @ (x - center).T
    ridge = 1e-3 * kernel.diagonal().mean() * torch.eye(len(x), dtype=torch.double)
    weight = ((x - center).T @ torch.linalg.solve(kernel + ridge, target - target.mean(0))).T
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(target.mean(0) - weight @ center)


def quantized(setting: Setting, file: Path) -> tuple[Path, str]:
    """Return the file in INT8, calibrated on drawn images, and its certificate in one sentence."""
    from blemish.export.reexport import reexport

    folder = setting.folder / "calibration"
    made = reexport(file, precision="int8", data=folder, output=setting.folder / "int8.onnx", force=True)
    certificate: Any = made.contract.certificate
    facts = made.contract.training["quantization"]
    state = "passed" if certificate.passed else f"not passed ({'; '.join(certificate.reasons)})"
    return made.path, (
        f"INT8 changes {certificate.decisions_changed} of {certificate.images} decisions on "
        f"the images that it was calibrated on, certificate {state}, "
        f"{facts['float_layers']} of {facts['layers']} layers in float32"
    )


def row(name: str, title: str, goal: float, explanation: str = "", **options: Any) -> Row:
    """Return the row of one network."""
    return Row(
        name, title, "torch eager and PIL", goal, functools.partial(classifier, **options),
        needs=("torch", "torchvision"), explanation=explanation,
    )  # fmt: skip


PHONE = {"network": "resnet18-scratch", "side": 128, "size_hw": MEGAPIXELS_12}
SMALL = {"network": "resnet18-scratch", "side": 128, "size_hw": PIXELS_640}
LARGE = {"network": "resnet50-scratch", "side": 224, "size_hw": PIXELS_640}
ROWS = (
    row(
        "resnet18-12mp", "ResNet-18 at 128 px, JPEG of 12 megapixels to JSON, decode: scaled", 4,
        "Decoding takes most of it (profile). On such an image libjpeg takes 53 ms at full size, 36, 29 and "
        "27 ms at 1/2, 1/4 and 1/8 (measured separately): a smaller size would hardly help.",
        decode="scaled", **PHONE,
    ),
    row("resnet18-12mp-full", "the same, decode: full", 1.3, **PHONE),
    row("resnet18-640", "ResNet-18 at 128 px, JPEG of 640 px to JSON, fp32", 1.9, **SMALL),
    row("resnet18-640-int8", "the same, INT8", 2.5, precision="int8", **SMALL),
    row("resnet50-640", "ResNet-50 at 224 px, JPEG of 640 px to JSON, fp32", 1.8, **LARGE),
    row("resnet50-640-int8", "the same, INT8", 3.3, precision="int8", **LARGE),
    row(
        "fusion-640", "fusion at 260 and 224 px, JPEG of 640 px to JSON, fp32", 1.65,
        network="fusion", side=224, size_hw=PIXELS_640,
    ),
)  # fmt: skip
