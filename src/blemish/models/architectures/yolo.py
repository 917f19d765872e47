"""YOLOv8, YOLO11 and YOLO12: Ultralytics' modules, weights and losses, with Blemish's own decoding.

Ultralytics is the separate extra `yolo` because it is AGPL-3.0: distributors of a program and operators of a
service that uses it must offer the source under the same terms. Prediction does not use it: the graph and the
`dense` decoder need neither Ultralytics nor torch.
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
MAX_STRIDE = 32  # pixels of the input per cell of the last map
GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}  # Ultralytics' defaults


class YOLO(Network):
    """An anchor-free one-stage detector, with mask prototypes for segmentation.

    The output of role `combined` is (b, 4 + L [+ 32], n): center and size in network pixels, one probability
    per label, and for segmentation the weights of 32 prototypes (b, 32, h / 4, w / 4).
    """

    owns_loss = True
    window_stride = MAX_STRIDE

    def __init__(self, name: str, *, task: Task, label_count: int, options: YOLOOptions) -> None:
        super().__init__()
        self.task, self.label_count = task, label_count
        spec = options.input_spec((640, 640), "letterbox", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.inputs = (spec,)
        if any(side % MAX_STRIDE for side in spec.size_hw):
            raise BadRecipe(
                f"model.input_size: {name} needs sides that are multiples of {MAX_STRIDE} pixels, such as "
                f"{' x '.join(str(max(round(s / MAX_STRIDE), 1) * MAX_STRIDE) for s in spec.size_hw)}; got "
                f"{' x '.join(map(str, spec.size_hw))}",
                reason="unsuitable-input-size",
            )
        self._name = name
        self.model = self._build(label_count)
        self.model.args = SimpleNamespace(**GAINS, overlap_mask=False)
        self._class_channels = options.class_channels
        self._chosen_channels: int | None = None
        if options.class_channels is not None:
            self._widen(options.class_channels)
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
                "multi_label": options.multi_label,
                "min_score": options.min_score,
                "nms_iou": options.nms_iou,
                "max_detections": options.max_detections,
            },
        )
        layers = len(self.model.model)
        backbone = len(self.model.yaml["backbone"])
        self.stages = {
            "backbone": tuple(f"model.model.{i}" for i in range(backbone)),
            "neck": tuple(f"model.model.{i}" for i in range(backbone, layers - 1)),
            "head": (f"model.model.{layers - 1}",),
        }
        self.feature_layers = (f"model.model.{backbone - 1}",)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return candidates and, for segmentation, prototypes; see the class."""
        return self._outputs(self._raw(inputs[0]))

    def _outputs(self, raw: dict[str, Any]) -> tuple[Tensor, ...]:
        parts = [self._boxes(raw), raw["scores"].sigmoid()]
        if not self.task.has_masks:
            return (torch.cat(parts, 1),)
        return torch.cat([*parts, raw["mask_coefficient"]], 1), raw["proto"]

    def _boxes(self, raw: dict[str, Any]) -> Tensor:
        """Return (b, 4, n) centers and sizes of the candidates' boxes in network pixels."""
        sides = self.model.model[-1].dfl(raw["boxes"])  # (b, 4, n): left, top, right, bottom in cells
        low, high = self.points - sides[:, :2], self.points + sides[:, 2:]
        boxes: Tensor = torch.cat(((low + high) / 2, high - low), 1) * self.strides
        return boxes

    def loss(self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return `box_loss`, `label_loss`, `distribution_loss` and, for segmentation, `mask_loss`.

        Source:
            Ultralytics' v8DetectionLoss and v8SegmentationLoss with their default gains.
        """
        return self._losses(self._raw(inputs[0]), inputs[0], targets)

    def forward_and_loss(
        self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """Return the outputs and the losses of one batch; the layers run once."""
        raw = self._raw(inputs[0])
        return self._outputs(raw), self._losses(raw, inputs[0], targets)

    def _losses(
        self, raw: dict[str, Any], image: Tensor, targets: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Any]:
        from ultralytics.utils.loss import v8DetectionLoss, v8SegmentationLoss

        batch = self._batch(image, targets)
        if self.task.has_masks:
            batch["masks"] = _masks(targets, raw["proto"])
            total, _ = self._watched(v8SegmentationLoss(self.model), targets)(raw, batch)
            box, mask, label, distribution = (total / len(image))[:4]
            return {
                "box_loss": box,
                "label_loss": label,
                "distribution_loss": distribution,
                "mask_loss": mask,
            }
        total, _ = self._watched(v8DetectionLoss(self.model), targets)(raw, batch)
        box, label, distribution = total / len(image)
        return {"box_loss": box, "label_loss": label, "distribution_loss": distribution}

    def _watched(self, criterion: Any, targets: Sequence[Mapping[str, Tensor]]) -> Any:
        """Return a loss that records in `unmatched` which images get no positive example.

        An object gets one only if the center of a cell is inside its box.
        """
        has_objects = torch.tensor([len(target["boxes"]) > 0 for target in targets])

        def record(assigner: Any, arguments: Any, assigned: tuple[Tensor, ...]) -> None:
            is_positive = assigned[3].bool()  # (b, n) for each cell
            self.unmatched = has_objects.to(is_positive.device) & ~is_positive.any(1)

        criterion.assigner.register_forward_hook(record)
        return criterion

    def aliases(self, name: str) -> Sequence[str]:
        """Return the names in Ultralytics' files, without `model.`."""
        return (name, name.removeprefix("model."))

    @property
    def chosen_options(self) -> Mapping[str, Any]:
        """Return `class_channels` if a weights file decided it."""
        return {} if self._chosen_channels is None else {"class_channels": self._chosen_channels}

    def read_state(self, path: Path) -> dict[str, Tensor]:
        """Return the tensors of a weights file, also of Ultralytics' own `.pt`.

        The branch for labels gets the width that it has in the file. Ultralytics does the same, so that a
        file of another number of labels fills its hidden layers too.
        """
        state = read_checkpoint(path) if path.suffix == ".pt" else read_state_dict(path)
        last = f"{len(self.model.model) - 1}.cv3.0.2.weight"
        widths = {t.shape[1] for key, t in state.items() if f".{key}".endswith(f".{last}") and t.ndim == 4}
        own = self.model.model[-1].cv3[0][-1].in_channels
        if self._class_channels is None and len(widths) == 1 and (width := widths.pop()) != own:
            self._widen(width)
            self._chosen_channels = width
        return state

    def _build(self, label_count: int) -> Any:
        """Return Ultralytics' model with random weights."""
        ultralytics = import_ultralytics()
        build = ultralytics.SegmentationModel if self.task.has_masks else ultralytics.DetectionModel
        return build(f"{self._name}.yaml", nc=label_count, verbose=False)

    def _widen(self, channels: int) -> None:
        """Give the branch for labels another width; its layers then have random weights.

        Source:
            Ultralytics' `BaseModel.load`.
        """
        head, other = self.model.model[-1], self._build(channels).model[-1]
        for branch in ("cv3", "one2one_cv3"):
            layers = getattr(other, branch, None)
            if layers is None:
                continue
            for layer in layers:
                layer[-1] = torch.nn.Conv2d(layer[-1].in_channels, self.label_count, 1)
            setattr(head, branch, layers)
        head.bias_init()

    def _raw(self, image: Tensor) -> dict[str, Any]:
        """Return the outputs of the head before decoding, the same in training and evaluation."""
        maps, head = self._maps(image), self.model.model[-1]
        raw: dict[str, Any] = head.forward_head(maps, **head.one2many)
        if self.task.has_masks:
            raw["proto"] = head.proto(maps[0])
        return raw

    def _maps(self, image: Tensor) -> list[Tensor]:
        """Return the maps that the head takes, one per stride."""
        *body, head = self.model.model
        saved: list[Tensor | None] = []
        x: Any = image
        for layer in body:
            x = layer(_inputs_of(layer, x, saved))
            saved.append(x if layer.i in self.model.save else None)
        maps: list[Tensor] = _inputs_of(head, x, saved)
        return maps

    def _batch(self, image: Tensor, targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return a batch's ground truth as Ultralytics' losses expect it: concatenated, in input shares."""
        height, width = image.shape[2:]
        boxes = torch.cat([t["boxes"] for t in targets]).to(image)
        side = boxes.new_tensor([width, height])
        batch_index = torch.cat([torch.full((len(t["boxes"]),), float(i)) for i, t in enumerate(targets)])
        return {
            "batch_idx": batch_index.to(image),
            "cls": torch.cat([t["labels"] for t in targets]).to(image),
            "bboxes": torch.cat(
                ((boxes[:, :2] + boxes[:, 2:]) / 2 / side, (boxes[:, 2:] - boxes[:, :2]) / side), 1
            ),
        }


def import_ultralytics() -> Any:
    """Return Ultralytics' model module, with its telemetry and installations at run time switched off.

    Raises:
        MissingExtra: Ultralytics is not installed.
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
    dict.__setitem__(
        SETTINGS, "sync", False
    )  # in this process only; the user's settings file does not change
    return tasks


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of an Ultralytics `.pt`, read in a separate process that allows safe classes only.

    Raises:
        BadWeights: the file is unreadable, or contains other objects ("bad-weights.unreadable").
        MissingExtra: Ultralytics is not installed.
    """
    import_ultralytics()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "state.safetensors"
        process = subprocess.run(  # noqa: S603  (our own interpreter and file)
            [sys.executable, "-c", _READER, str(path), str(target)],
            env={**os.environ, "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"},
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode != 0 or not target.exists():
            raise BadWeights(
                f"{path}: not an Ultralytics checkpoint that can be read safely; save the model's "
                "state_dict() instead",
                reason="unreadable",
            )
        from safetensors.torch import load

        return dict(
            load(target.read_bytes())
        )  # tensors that map the file would keep Windows from removing it


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
    """Return Ultralytics' COCO weights, downloaded if they are not in torch's hub cache."""
    import_ultralytics()  # a missing extra is reported before anything is downloaded
    if name.startswith("yolo12") and name.endswith("-seg"):
        raise BadWeights(
            f"Ultralytics publishes no weights of {name}; use --weights none or a file, or a model such "
            f"as {name.replace('yolo12', 'yolo11')}",
            reason="not-published",
        )
    return (published(f"{name}.pt", f"{WEIGHTS_URL}{name}.pt"),)


def build(name: str, *, task: Task, label_count: int, options: YOLOOptions) -> YOLO:
    """Return the network with random weights."""
    return YOLO(name, task=task, label_count=label_count, options=options)


def _inputs_of(layer: Any, last: Tensor, saved: Sequence[Tensor | None]) -> Any:
    """Return the inputs of a layer: the last output, or earlier ones by index."""
    if layer.f == -1:
        return last
    if isinstance(layer.f, int):
        return saved[layer.f]
    return [last if i == -1 else saved[i] for i in layer.f]


def _masks(targets: Sequence[Mapping[str, Tensor]], prototypes: Tensor) -> Tensor:
    """Return (n, h, w) float32 masks of a batch at the prototypes' size: 1 where at least half is covered."""
    size = prototypes.shape[2:]
    masks = torch.cat([t["masks"] for t in targets]).to(prototypes.device, torch.float32)
    if len(masks) == 0:
        return masks.new_zeros(0, *size)
    return (functional.interpolate(masks[:, None], size=size, mode="area")[:, 0] >= 0.5).float()
