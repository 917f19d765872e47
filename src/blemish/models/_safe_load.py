"""Weights of strangers, read in a process of its own: what goes wrong there goes wrong there alone."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from torch import Tensor

from blemish.errors import BadWeights
from blemish.models._weights import read_state

# Only tensors come back, as safetensors, whose reader runs nothing.
_READER = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from blemish.errors import BlemishError
from blemish.models._weights import read_state
try:
    state = read_state(Path(sys.argv[1]))
except BlemishError as error:
    sys.exit(f"BLEMISH {error}")
save_file({name: tensor.detach().clone().contiguous() for name, tensor in state.items()}, sys.argv[2])
"""


def load_in_subprocess(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; a pickled one is read with `weights_only` in another process.

    Raises:
        BadWeights: unreadable, no state dict, or it holds more than tensors.
    """
    if path.suffix == ".safetensors" or not path.is_file():
        return read_state(path)
    from safetensors.torch import load

    with tempfile.TemporaryDirectory(prefix="blemish-") as folder:
        target = Path(folder) / "state.safetensors"
        done = subprocess.run(  # noqa: S603  (our own interpreter and file)
            [sys.executable, "-c", _READER, str(path), str(target)],
            capture_output=True,
            text=True,
            check=False,
        )
        said = next((x for x in done.stderr.splitlines() if x.startswith("BLEMISH ")), "")
        if said:
            raise BadWeights(said.removeprefix("BLEMISH "))
        if done.returncode or not target.is_file():
            raise BadWeights(f"{path}: reading it ended with code {done.returncode}; the file is damaged")
        return dict(
            load(target.read_bytes())
        )  # tensors that look into the file would keep Windows from removing it
