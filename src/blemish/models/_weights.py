"""Weights for a network: found on this machine or downloaded, read safely, and put where they fit."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blemish.errors import BadWeights, suggestion
from blemish.models._network import Network
from blemish.models._registry import describe
from blemish.models._weights_download import download, failure

TORCHVISION_URL = "https://download.pytorch.org/models/"
# What torchvision calls its files, newest first; people also put the oldest there by hand.
RESNET_FILES = {
    "resnet18": ("resnet18-f37072fd.pth", "resnet18-5c106cde.pth"),
    "resnet34": ("resnet34-b627a593.pth", "resnet34-333f7ec4.pth"),
    "resnet50": ("resnet50-11ad3fa6.pth", "resnet50-0676ba61.pth", "resnet50-19c8e357.pth"),
    "resnet101": ("resnet101-cd907fc2.pth", "resnet101-63fe2227.pth", "resnet101-5d3b4d8f.pth"),
    "resnet152": ("resnet152-f82ba261.pth", "resnet152-394f9c45.pth", "resnet152-b121ed2d.pth"),
}
ENOUGH = 0.5  # of the tensors below the head: with fewer, the file belongs to another architecture
_CONTAINERS = ("state_dict", "model_state_dict", "model", "network", "weights")
_WRAPPINGS = ("", "module.", "model.", "network.", "_orig_mod.")


@dataclass(frozen=True)
class WeightsReport:
    """What became of a file of weights.

    Attributes:
        source: the file.
        loaded: names of the network's tensors that were filled.
        skipped: names in the file that fit nowhere, or in another shape.
        missing: names of the network's tensors that stayed random.
    """

    source: Path
    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    missing: tuple[str, ...]

    def sentence(self) -> str:
        """What people read."""
        text = f"{self.source}: {len(self.loaded)} tensors loaded, {len(self.skipped)} skipped"
        if self.skipped:
            text += f" ({_few(self.skipped)})"
        if self.missing:
            text += f"; {len(self.missing)} stay random ({_few(self.missing)})"
        return text


def locate(name: str, weights: str, options: Mapping[str, Any] | None = None) -> tuple[Path, ...]:
    """The files that `weights` stands for, downloaded if need be; none for random weights.

    Args:
        name: of the architecture.
        weights: `default`, `none`, or a file.
        options: of the architecture; they may name another backbone, detector or encoder than its own.

    Raises:
        BadWeights: there is no such file.
        NoNetwork: they would have to be downloaded and cannot be.
    """
    if weights == "none":
        return ()
    if weights != "default":
        path = Path(weights).expanduser()
        if not path.is_file():
            known = suggestion(weights, ("default", "none")) if path.suffix == "" else ""
            raise BadWeights(f"{path}: no such file of weights; give a file, default or none{known}")
        return (path,)
    architecture, given = describe(name), options or {}
    if architecture.default_weights is None:
        return ()
    parts = {part: str(given[part]) for part in architecture.weight_options if part in given}
    return architecture.default_weights(given.get("backbone") or given.get("detector") or name, **parts)


def load_weights(network: Network, files: Sequence[Path]) -> list[WeightsReport]:
    """Put the weights of files into a network.

    Args:
        network: changed in place; it remembers what was loaded.
        files: as `locate` gives them; each must fill at least half of what it is meant for.

    Raises:
        BadWeights: unreadable, or of another architecture.
    """
    reports = []
    for file in files:
        report = fill(network, network.translate(network.read_state(file)), file)
        if max(_share(network, part, report.loaded) for part in network.weight_parts) * len(files) < ENOUGH:
            raise BadWeights(
                f"{file}: only {len(report.loaded)} of the network's {len(network.state_dict())} tensors "
                f"fit; the file is of another architecture (it holds {_few(report.skipped)})"
            )
        network.loaded |= set(report.loaded)
        reports.append(report)
    network.settle()
    return reports


def _share(network: Network, part: str, loaded: Iterable[str]) -> float:
    """What share of a part's tensors below the head a file filled."""
    below = {n for n in network.state_dict() if n.startswith(part) and not n.startswith("head.")}
    return len(below.intersection(loaded)) / max(len(below), 1)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` or a `.pth` file, by name; nothing in it is ever run.

    Raises:
        BadWeights: unreadable, no state dict, or a whole pickled model.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BadWeights(f"{path}: no such file of weights") from None
    except pickle.UnpicklingError:
        raise BadWeights(
            f"{path}: holds more than tensors, and is not read because that could run foreign code; "
            "save the model's state_dict() instead"
        ) from None
    except Exception as error:
        raise BadWeights(f"{path}: these are no weights that can be read, or the file is damaged") from error
    return tensors_in(content, path)


def tensors_in(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what a file holds, out of whatever container.

    Raises:
        BadWeights: there is none.
    """
    for _ in range(3):
        if isinstance(content, Mapping) and content and all(isinstance(v, Tensor) for v in content.values()):
            return {str(name): tensor for name, tensor in content.items()}
        inner = [content[k] for k in _CONTAINERS if isinstance(content, Mapping) and k in content]
        if not inner:
            break
        content = inner[0]
    if isinstance(content, Mapping):
        tensors = {str(n): v for n, v in content.items() if isinstance(v, Tensor)}
        if tensors:
            return tensors
    raise BadWeights(f"{path}: holds no state dict; save the model's state_dict()")


def fill(network: Network, state: Mapping[str, Tensor], source: Path) -> WeightsReport:
    """Put tensors into a network wherever name, shape and kind fit; halves become what the network holds."""
    own = network.state_dict()
    best: dict[str, str] = {}
    for wrapping in _WRAPPINGS:
        names = {n.removeprefix(wrapping): n for n in state if n.startswith(wrapping)}
        fits: dict[str, str] = {}
        for name, tensor in own.items():
            for alias in network.aliases(name):
                found = names.get(alias)
                if found is not None and _fits(state[found], tensor):
                    fits[name] = found
                    break
        if len(fits) > len(best):
            best = fits
    with torch.no_grad():
        for name, found in best.items():
            own[name].copy_(state[found].reshape(own[name].shape))
    used = set(best.values())
    return WeightsReport(
        source,
        tuple(best),
        tuple(n for n in state if n not in used),
        tuple(n for n in own if n not in best and not n.endswith("num_batches_tracked")),
    )


def _fits(given: Tensor, wanted: Tensor) -> bool:
    """Whether shapes agree, and both or none hold fractions: eight bits mean nothing without a scale."""
    alike = given.is_floating_point() == wanted.is_floating_point()
    return alike and _squeezed(given) == _squeezed(wanted)


def _squeezed(tensor: Tensor) -> tuple[int, ...]:
    """The shape without axes of length 1: some store (c, 1, 1) what others store as (c,)."""
    return tuple(n for n in tensor.shape if n != 1)


def in_hub_cache(*names: str) -> Path | None:
    """The first of these files in torch's hub cache, where downloads lie and people put files by hand."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return next((folder / n for n in names if (folder / n).is_file()), None)


def from_torchvision(*names: str) -> Path:
    """One of torchvision's files: from the hub cache, or else the first is downloaded into it.

    Raises:
        NoNetwork: it cannot be.
        BadWeights: what came has another digest than its name says.
        StorageFull: it could not be written.
    """
    return in_hub_cache(*names) or published(names[0], TORCHVISION_URL + names[0])


def published(name: str, url: str) -> Path:
    """A file of weights from torch's hub cache, or downloaded into it.

    Raises:
        NoNetwork: it cannot be.
        BadWeights: what came has another digest than its name says.
        StorageFull: it could not be written.
    """
    target = Path(torch.hub.get_dir()) / "checkpoints" / name
    return target if target.is_file() else download(url, target)


def from_timm(bare: str) -> Path:
    """Timm's published weights of one architecture, from the Hugging Face cache or downloaded.

    Raises:
        NoNetwork: they cannot be.
        BadWeights: none are published.
    """
    import timm

    card = timm.get_pretrained_cfg(bare)
    if card is None or not (card.hf_hub_id or card.url):
        raise BadWeights(f"timm publishes no weights for {bare}; start from random ones with --weights none")
    if not card.hf_hub_id:
        return published(card.url.rpartition("/")[2], card.url)
    try:
        return _from_hub(card.hf_hub_id, card.hf_hub_filename or "model.safetensors")
    except Exception as error:
        raise failure(error, f"timm/{bare}") from error


def _from_hub(repository: str, file: str) -> Path:
    import urllib.request

    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, file, local_files_only=True))
    except LocalEntryNotFoundError:
        # Its own client tries for half a minute before it admits that there is no network; ask once first.
        address = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310
        with urllib.request.urlopen(address, timeout=10):  # noqa: S310
            return Path(hf_hub_download(repository, file))


def _few(names: Iterable[str], most: int = 4) -> str:
    listed = list(names)
    shown = ", ".join(listed[:most])
    return shown + (f" and {len(listed) - most} more" if len(listed) > most else "")
