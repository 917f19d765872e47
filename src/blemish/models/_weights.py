"""Find, download and load weights for a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blemish.config.architectures import describe
from blemish.errors import BadWeights
from blemish.models._network import Network
from blemish.models._weights_download import download, download_error
from blemish.pretrained import find_weights_file, weights_source

TORCHVISION_URL = "https://download.pytorch.org/models/"
# File names that torchvision publishes, newest first; older ones may be in the cache.
RESNET_FILES = {
    "resnet18": ("resnet18-f37072fd.pth", "resnet18-5c106cde.pth"),
    "resnet34": ("resnet34-b627a593.pth", "resnet34-333f7ec4.pth"),
    "resnet50": ("resnet50-11ad3fa6.pth", "resnet50-0676ba61.pth", "resnet50-19c8e357.pth"),
    "resnet101": ("resnet101-cd907fc2.pth", "resnet101-63fe2227.pth", "resnet101-5d3b4d8f.pth"),
    "resnet152": ("resnet152-f82ba261.pth", "resnet152-394f9c45.pth", "resnet152-b121ed2d.pth"),
}
MIN_LOADED_SHARE = 0.5  # of the tensors below the head; with fewer, the file belongs to another architecture
_PREFIXES = ("", "module.", "model.", "network.", "_orig_mod.")  # of wrappers around the saved network


@dataclass(frozen=True)
class WeightsReport:
    """Which tensors of a weights file were loaded into a network.

    Attributes:
        source: the file.
        loaded: names of the network's tensors that were filled.
        skipped: names in the file that match no tensor, or one of another shape.
        missing: names of the network's tensors that are not in the file.
    """

    source: Path
    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    missing: tuple[str, ...]

    def summary(self) -> str:
        """Return one line for users: the counts, and the first names."""
        text = f"{self.source}: {len(self.loaded)} tensors loaded, {len(self.skipped)} skipped"
        if self.skipped:
            text += f" ({_first_few(self.skipped)})"
        if self.missing:
            text += f"; {len(self.missing)} missing, randomly initialized ({_first_few(self.missing)})"
        return text


def find_weights(name: str, weights: str, options: Mapping[str, Any] | None = None) -> tuple[Path, ...]:
    """Return the files that the recipe's `model.weights` refers to, downloaded if necessary.

    Args:
        name: the architecture.
        weights: `default`, `none`, or a path; `none` gives no file.
        options: the architecture's options; they may select another backbone, detector or encoder.

    Raises:
        BadWeights: the file does not exist ("bad-weights.missing-file").
        NoNetwork: the files have to be downloaded and cannot be.
    """
    if weights == "none":
        return ()
    path = find_weights_file(weights)
    if path is not None:
        return (path,)
    return describe(name).default_weight_files(name, options or {})


def load_weights(network: Network, files: Sequence[Path]) -> list[WeightsReport]:
    """Load weights files into a network.

    Args:
        network: changed in place, including its attributes `loaded` and `weight_sources`.
        files: each must fill at least half of the network, or of one of its `weight_parts`.

    Raises:
        BadWeights: a file is unreadable, or belongs to another architecture
            ("bad-weights.other-architecture").
    """
    reports = []
    for file in files:
        report = fill(network, network.translate(network.read_state(file)), file)
        share = max(_loaded_share(network, part, report.loaded) for part in network.weight_parts)
        if share * len(files) < MIN_LOADED_SHARE:
            raise BadWeights(
                f"{file}: only {len(report.loaded)} of the network's {len(network.state_dict())} tensors "
                f"match; the file belongs to another architecture (it contains {_first_few(report.skipped)})",
                reason="other-architecture",
            )
        network.loaded |= set(report.loaded)
        network.weight_sources += (weights_source(file),)
        reports.append(report)
    network.on_weights_loaded()
    return reports


def fill(network: Network, state: Mapping[str, Tensor], source: Path) -> WeightsReport:
    """Copy tensors into a network wherever name, shape and kind of number match.

    Args:
        network: changed in place; tensors keep its precision.
        state: tensors by the file's names.
        source: the file, for the report.
    """
    own = network.state_dict()
    best: dict[str, str] = {}
    for prefix in _PREFIXES:
        names = {n.removeprefix(prefix): n for n in state if n.startswith(prefix)}
        matches: dict[str, str] = {}
        for name, tensor in own.items():
            for alias in network.tensor_names(name):
                key = names.get(alias)
                if key is not None and _matches(state[key], tensor):
                    matches[name] = key
                    break
        if len(matches) > len(best):
            best = matches
    with torch.no_grad():
        for name, key in best.items():
            own[name].copy_(state[key].reshape(own[name].shape))
    used = set(best.values())
    return WeightsReport(
        source,
        tuple(best),
        tuple(n for n in state if n not in used),
        tuple(n for n in own if n not in best and not n.endswith("num_batches_tracked")),
    )


def _loaded_share(network: Network, part: str, loaded: Iterable[str]) -> float:
    """Return the share of a part's tensors, without the head's, that were loaded."""
    below_head = {n for n in network.state_dict() if n.startswith(part) and not n.startswith("head.")}
    return len(below_head.intersection(loaded)) / max(len(below_head), 1)


def _matches(source: Tensor, target: Tensor) -> bool:
    """Return whether shapes match and both are floating-point or both are not.

    Quantized integers mean nothing without their scale.
    """
    same_kind = source.is_floating_point() == target.is_floating_point()
    return same_kind and _squeezed(source) == _squeezed(target)


def _squeezed(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape without axes of length 1: some files store (c, 1, 1) where others store (c,)."""
    return tuple(n for n in tensor.shape if n != 1)


def in_hub_cache(*names: str) -> Path | None:
    """Return the first of these files that is in torch's hub cache, or None."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return next((folder / n for n in names if (folder / n).is_file()), None)


def from_torchvision(*names: str) -> Path:
    """Return one of torchvision's files from the hub cache; if none is there, download the first.

    Raises:
        NoNetwork: the download failed.
        BadWeights: the downloaded file has another digest than its name states.
        StorageFull: the file could not be written.
    """
    return in_hub_cache(*names) or published(names[0], TORCHVISION_URL + names[0])


def published(name: str, url: str) -> Path:
    """Return a published file from torch's hub cache; download it if it is not there.

    Raises:
        NoNetwork: the download failed.
        BadWeights: the downloaded file has another digest than its name states.
        StorageFull: the file could not be written.
    """
    target = Path(torch.hub.get_dir()) / "checkpoints" / name
    return target if target.is_file() else download(url, target)


def from_timm(bare: str) -> Path:
    """Return timm's published weights of an architecture, downloaded if they are not in the cache.

    Args:
        bare: timm's name of the architecture.

    Raises:
        NoNetwork: the download failed.
        BadWeights: timm publishes none ("bad-weights.not-published").
    """
    import timm

    card = timm.get_pretrained_cfg(bare)
    if card is None or not (card.hf_hub_id or card.url):
        raise BadWeights(
            f"{bare}: timm publishes no weights; start from random weights with --weights none",
            reason="not-published",
        )
    if not card.hf_hub_id:
        return published(card.url.rpartition("/")[2], card.url)
    try:
        return _from_hub(card.hf_hub_id, card.hf_hub_filename or "model.safetensors")
    except Exception as error:
        raise download_error(error, f"timm/{bare}") from error


def _from_hub(repository: str, file: str) -> Path:
    import urllib.request

    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, file, local_files_only=True))
    except LocalEntryNotFoundError:
        # The client retries for half a minute without a network; one request first fails at once.
        address = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310
        with urllib.request.urlopen(address, timeout=10):  # noqa: S310
            return Path(hf_hub_download(repository, file))


def _first_few(names: Iterable[str], max_names: int = 4) -> str:
    listed = list(names)
    shown = ", ".join(listed[:max_names])
    return shown + (f" and {len(listed) - max_names} more" if len(listed) > max_names else "")
