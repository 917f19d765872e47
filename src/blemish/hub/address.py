"""`HubAddress`: the address of a model file on the Hugging Face Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from blemish.errors import BadInput

SCHEME = "hf://"
MLFLOW_SCHEME = "mlflow:"
SUFFIXES = (".onnx", ".safetensors")
_PATTERN = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([^/@\s]+))?(?:/([\w./ -]+))?")


@dataclass(frozen=True)
class HubAddress:
    """The address of a model file on the Hub.

    Attributes:
        repository: `user/name`.
        revision: a branch, tag or commit; None for the repository's main branch.
        file: path within the repository; None for `model.onnx`, or the repository's only model file.
    """

    repository: str
    revision: str | None = None
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """Return the parts of `hf://user/name[@revision][/file]`.

        Raises:
            BadInput: not such an address ("bad-input.hub-address"), or a file of a format that could execute
                code ("bad-input.unsafe-format").

        Example:
            >>> HubAddress.parse("hf://ada/cells@v2/model-fp16.onnx")
            HubAddress(repository='ada/cells', revision='v2', file='model-fp16.onnx')
        """
        match = _PATTERN.fullmatch(text.rstrip("/"))
        if match is None or {".", ".."} & set(text.removeprefix(SCHEME).split("/")):
            raise BadInput(
                f"{text}: expected hf://user/name, hf://user/name@revision or hf://user/name@revision/file",
                reason="hub-address",
            )
        repository, revision, file = match.groups()
        if file is not None and Path(file).suffix.lower() not in SUFFIXES:
            raise BadInput(
                f"{text}: expected a file that ends with {' or '.join(SUFFIXES)}, because reading other "
                "formats can execute code",
                reason="unsafe-format",
            )
        return cls(repository, revision, file)

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{SCHEME}{self.repository}{revision}" + (f"/{self.file}" if self.file else "")


def is_address(model: Path | str) -> bool:
    """Return whether `model` is an address on the Hub or in MLflow's registry, and not a path."""
    return isinstance(model, str) and model.startswith((SCHEME, MLFLOW_SCHEME))
