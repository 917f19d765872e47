"""Read a weights file of unknown origin in a separate process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from torch import Tensor

from blemish.errors import BadWeights
from blemish.models._state_dict import read_state_dict

# The result is passed as safetensors, whose reader executes nothing; an error, as JSON on standard output.
_READER = """
import json, sys
from pathlib import Path
from safetensors.torch import save_file
from blemish.errors import BlemishError
from blemish.models._state_dict import read_state_dict
try:
    state = read_state_dict(Path(sys.argv[1]))
except BlemishError as error:
    print(json.dumps({"message": str(error), "reason": error.code.partition(".")[2]}))
    sys.exit(1)
save_file({name: tensor.detach().clone().contiguous() for name, tensor in state.items()}, sys.argv[2])
"""


def load_in_subprocess(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name; a pickled file is read in a separate process.

    A damaged or malicious file can end that process, not this one.

    Raises:
        BadWeights: as for `read_state_dict`; "bad-weights.unreadable" if the process ended abnormally.
    """
    if path.suffix == ".safetensors" or not path.is_file():
        return read_state_dict(path)
    from safetensors.torch import load

    with tempfile.TemporaryDirectory(prefix="blemish-") as folder:
        target = Path(folder) / "state.safetensors"
        process = subprocess.run(  # noqa: S603  (our own interpreter and file)
            [sys.executable, "-c", _READER, str(path), str(target)],
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode == 1 and (answer := process.stdout.strip()):
            error = json.loads(answer.splitlines()[-1])
            raise BadWeights(error["message"], reason=error["reason"])
        if process.returncode or not target.is_file():
            raise BadWeights(
                f"{path}: reading it ended with exit code {process.returncode}; the file is damaged",
                reason="unreadable",
            )
        # Tensors that map the file would keep Windows from removing the folder.
        return dict(load(target.read_bytes()))
