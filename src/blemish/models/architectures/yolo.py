"""YOLOv8 and YOLO11 from Ultralytics: its modules, weights and losses, on Blemish's own path to boxes.

Ultralytics is an extra of its own, because it is AGPL-3.0: whoever gives away a program or offers a service
with it must offer its source under the same terms. Nothing of it runs in prediction: the graph and the
`dense` decoder need neither it nor torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from blemish.config.detector_options import YOLOOptions
from blemish.errors import BadRecipe, BadWeights, MissingExtra
from blemish.model_file import DecoderSpec, OutputSpec
from blemish.models._network import Network
from blemish.models._state_dict import read_state_dict
from blemish.models._weights import published
from blemish.structures import Task

WEIGHTS_URL = "https://github.com/ultralytics/assets/releases/download/v8.4.0/"
COARSEST = 32  # pixels of the network's last stride
GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}  # Ultralytics' defaults


class YOLO(Network):
    """An anchor-free one-stage detector, with mask prototypes for segmentation.

    The one output of role `combined` is (b, 4 + L [+ 32], n): centre and size in network pixels, a
    probability a label, and for segmentation the weights of 32 prototypes (b, 32, h / 4, w / 4).
    """

    owns_loss = True

    def __init__(self, name: str, *, task: Task, label_count: int, options: YOLOOptions) -> None:
        super().__init__()
        ultralytics = import_ultralytics()
        self.task, self.label_count = task, label_count
        spec = options.input_spec((640, 640), "letterbox", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.inputs = (spec,)
        if any(side % COARSEST for side in spec.size_hw):
            raise BadRecipe(
                f"model.input_size: {name} takes sides that are multiples of {COARSEST} px, "
                f"such as {' x '.join(str(max(round(s / COARSEST), 1) * COARSEST) for s in spec.size_hw)}"
            )
        build = ultralytics.SegmentationModel if task.has_masks else ultralytics.DetectionModel
        self.model = build(f"{name}.yaml", nc=label_count, verbose=False)
        self.model.args = SimpleNamespace(**GAINS, overlap_mask=False)
        height, width = spec.size_hw
        points, strides = [], []
        for stride in (int(s) for s in self.model.stride):
            y, x = torch.meshgrid(
                torch.arange(-(-height // stride)) + 0.5,
                torch.arange(-(-width // stride)) + 0.5,
                indexing="ij",
            )
            points.append(torch.stack((x, y), -1).reshape(-1, 2))
            strides.append(torch.full((len(points[-1]),), float(stride)))
        self.points: Tensor
        self.strides: Tensor
        self.register_buffer("points", torch.cat(points).T.contiguous(), persistent=False)  # (2, n) cells
        self.register_buffer("strides", torch.cat(strides), persistent=False)  # (n,) pixels
        self.outputs = (OutputSpec(name="candidates", role="combined", activation="probabilities"),)
        if task.has_masks:
            self.outputs += (OutputSpec(name="prototypes", role="prototypes"),)
        self.decoder = DecoderSpec(
            name="dense",
            settings={
                "box_format": "cxcywh",
                "channels_first": True,
                "multi_label": False,
                "min_score": options.min_score,
                "nms_iou": options.nms_iou,
                "max_detections": options.max_detections,
            },
        )
        layers = len(self.model.model)
        trunk = len(self.model.yaml["backbone"])
        self.stages = {
            "backbone": tuple(f"model.model.{i}" for i in range(trunk)),
            "neck": tuple(f"model.model.{i}" for i in range(trunk, layers - 1)),
            "head": (f"model.model.{layers - 1}",),
        }
        self.feature_layers = (f"model.model.{trunk - 1}",)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Candidates and, for segmentation, prototypes, as the class says."""
        raw = self._raw(inputs[0])
        sides = self.model.model[-1].dfl(raw["boxes"])  # (b, 4, n): left, top, right, bottom in cells
        low, high = self.points - sides[:, :2], self.points + sides[:, 2:]
        boxes = torch.cat(((low + high) / 2, high - low), 1) * self.strides
        parts = [boxes, raw["scores"].sigmoid()]
        if not self.task.has_masks:
            return (torch.cat(parts, 1),)
        return torch.cat([*parts, raw["mask_coefficient"]], 1), raw["proto"]

    def loss(self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """`box_loss`, `label_loss`, `distribution_loss` and, for segmentation, `mask_loss`.

        Source:
            Ultralytics' v8DetectionLoss and v8SegmentationLoss with their default gains.
        """
        from ultralytics.utils.loss import v8DetectionLoss, v8SegmentationLoss

        image = inputs[0]
        raw = self._raw(image)
        batch = self._batch(image, targets)
        if self.task.has_masks:
            batch["masks"] = _masks(targets, raw["proto"])
            total, _ = v8SegmentationLoss(self.model)(raw, batch)
            box, mask, label, distribution = (total / len(image))[:4]
            return {
                "box_loss": box,
                "label_loss": label,
                "distribution_loss": distribution,
                "mask_loss": mask,
            }
        total, _ = v8DetectionLoss(self.model)(raw, batch)
        box, label, distribution = total / len(image)
        return {"box_loss": box, "label_loss": label, "distribution_loss": distribution}

    def aliases(self, name: str) -> Sequence[str]:
        """Ultralytics' files leave our `model.` out."""
        return (name, name.removeprefix("model."))

    def read_state(self, path: Path) -> dict[str, Tensor]:
        """The tensors of a file, Ultralytics' own `.pt` included."""
        return read_checkpoint(path) if path.suffix == ".pt" else read_state_dict(path)

    def _raw(self, image: Tensor) -> dict[str, Any]:
        """What the head gives before decoding, the same in training and evaluation."""
        *body, head = self.model.model
        kept: list[Tensor | None] = []
        x: Any = image
        for layer in body:
            x = layer(_inputs_of(layer, x, kept))
            kept.append(x if layer.i in self.model.save else None)
        maps = _inputs_of(head, x, kept)
        raw: dict[str, Any] = head.forward_head(maps, **head.one2many)
        if self.task.has_masks:
            raw["proto"] = head.proto(maps[0])
        return raw

    def _batch(self, image: Tensor, targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The truths as Ultralytics' losses take them: all of a batch in one, shares of the input."""
        height, width = image.shape[2:]
        boxes = torch.cat([t["boxes"] for t in targets]).to(image)
        side = boxes.new_tensor([width, height])
        owner = torch.cat([torch.full((len(t["boxes"]),), float(i)) for i, t in enumerate(targets)])
        return {
            "batch_idx": owner.to(image),
            "cls": torch.cat([t["labels"] for t in targets]).to(image),
            "bboxes": torch.cat(
                ((boxes[:, :2] + boxes[:, 2:]) / 2 / side, (boxes[:, 2:] - boxes[:, :2]) / side), 1
            ),
        }


def import_ultralytics() -> Any:
    """Ultralytics' model module, without telemetry, installs at run time and its changes of the environment.

    Raises:
        MissingExtra: it is not installed.
    """
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    threads = os.environ.get("OMP_NUM_THREADS")
    try:
        from ultralytics.nn import tasks
        from ultralytics.utils import SETTINGS
    except ImportError as error:
        raise MissingExtra("yolo", "YOLO (Ultralytics, AGPL-3.0)") from error
    finally:
        if threads is None:
            os.environ.pop("OMP_NUM_THREADS", None)
    dict.__setitem__(SETTINGS, "sync", False)  # for this process; the user's file of settings stays
    return tasks


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of an Ultralytics `.pt`, read in a process of its own that knows only harmless classes.

    Raises:
        BadWeights: unreadable, or it holds anything else.
        MissingExtra: Ultralytics is not installed.
    """
    import_ultralytics()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "state.safetensors"
        done = subprocess.run(  # noqa: S603  (our own interpreter and file)
            [sys.executable, "-c", _READER, str(path), str(target)],
            env={**os.environ, "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 or not target.exists():
            raise BadWeights(
                f"{path}: this is no checkpoint of Ultralytics that can be read safely; "
                "save the model's state_dict() instead"
            )
        from safetensors.torch import load

        return dict(load(target.read_bytes()))  # no tensor may keep Windows from removing the file


_READER = """
import sys
from ultralytics.nn.tasks import torch_safe_load
from safetensors.torch import save_file
checkpoint, _ = torch_safe_load(sys.argv[1], safe_only=True)
model = checkpoint.get("ema") or checkpoint["model"]
state = model if isinstance(model, dict) else model.float().state_dict()
save_file({name: tensor.float().contiguous() for name, tensor in state.items()}, sys.argv[2])
"""


def default_weights(name: str) -> tuple[Path, ...]:
    """Ultralytics' weights of one architecture, from torch's hub cache or downloaded into it."""
    import_ultralytics()  # before anything is downloaded that nobody could use
    return (published(f"{name}.pt", f"{WEIGHTS_URL}{name}.pt"),)


def build(name: str, *, task: Task, label_count: int, options: YOLOOptions) -> YOLO:
    """Return the network with random weights."""
    return YOLO(name, task=task, label_count=label_count, options=options)


def _inputs_of(layer: Any, last: Tensor, kept: Sequence[Tensor | None]) -> Any:
    """What a layer reads: the last result, or earlier ones by number."""
    if layer.f == -1:
        return last
    if isinstance(layer.f, int):
        return kept[layer.f]
    return [last if i == -1 else kept[i] for i in layer.f]


def _masks(targets: Sequence[Mapping[str, Tensor]], prototypes: Tensor) -> Tensor:
    """(n, h, w) float32 masks of a batch at the prototypes' size: 1 where at least half is covered."""
    size = prototypes.shape[2:]
    masks = torch.cat([t["masks"] for t in targets]).to(prototypes.device, torch.float32)
    if len(masks) == 0:
        return masks.new_zeros(0, *size)
    return (functional.interpolate(masks[:, None], size=size, mode="area")[:, 0] >= 0.5).float()
